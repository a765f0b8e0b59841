// Command activator is the data plane's front as one small static binary: it holds requests while a revision wakes, picks
// a pod for each, and forwards. Control tells it everything it needs; see docs/activator.md.
package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/rousehq/rouse/internal/front"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(front.Main(os.Args[1:], os.Environ(), signals, os.Stdin, os.Stderr))
}

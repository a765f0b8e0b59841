// Command parked is `rouse bench parked` by itself.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/rousehq/rouse/bench/parked"
)

func main() {
	if err := parked.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "parked:", err)
		os.Exit(1)
	}
}

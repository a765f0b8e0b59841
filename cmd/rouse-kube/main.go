// Command rouse-kube holds the commands of rouse that talk to a cluster: `rouse adopt` runs `rouse-kube adopt`. They are a
// program of their own because Kubernetes' libraries double the size and the start-up time of whatever links them, and
// rouse itself stands in the cold starts of `rouse up`.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program; a signal ends ctx.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "rouse-kube",
		Short:         "What rouse does in a cluster",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newAdopt(), newRelease(), newUninstall())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "rouse:", err)
		return 1
	}
	return 0
}

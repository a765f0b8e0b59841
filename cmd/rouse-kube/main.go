// Command rouse-kube holds the commands of rouse that talk to a cluster: `rouse adopt` runs `rouse-kube adopt`. They are a
// program of their own because Kubernetes' libraries double the size and the start-up time of whatever links them, and
// rouse itself stands in the cold starts of `rouse up`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	_ "time/tzdata" // schedules name zones, and an image has no database of them

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/internal/cmdline/commands"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, calledAs(os.Args[0]), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// calledAs is what its user typed: rouse carries its commands out by this program, under its own name.
func calledAs(program string) string {
	if filepath.Base(program) == "rouse" {
		return "rouse"
	}
	return "rouse-kube"
}

// run is the whole program; a signal ends ctx.
func run(ctx context.Context, program string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           program,
		Short:         "What rouse does in a cluster",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newAdopt(), newRelease(), newUninstall(), newCheck(), newStatus(), newTop(), newExplain())
	commands.Prepare(root)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(stderr, "rouse:", text)
	}
	var e *exit
	if errors.As(err, &e) {
		return e.code
	}
	return commands.Code(err, root, args)
}

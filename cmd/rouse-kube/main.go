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
	tellUsage(root)
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
	if _, _, err := root.Find(args); err != nil { // there is no such command
		return exitUsage
	}
	return 1
}

// exitUsage says that the command line can't be meant, and that nothing was tried.
const exitUsage = 2

// tellUsage makes what cobra finds wrong with flags and arguments an error of the command line.
func tellUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{exitUsage, err} })
	if accept := cmd.Args; accept != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := accept(cmd, args); err != nil {
				return &exit{exitUsage, err}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		tellUsage(c)
	}
}

// Package commands makes what cobra finds wrong with a command line a cmdline.Misuse.
package commands

import (
	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/internal/cmdline"
)

// Prepare sees to what is wrong with the flags and arguments of a command and of those below it. Commands that read their
// own flags say themselves what is wrong with them.
func Prepare(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return cmdline.Misuse(err) })
	if accept := cmd.Args; accept != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return cmdline.Misuse(accept(cmd, args)) }
	}
	for _, c := range cmd.Commands() {
		Prepare(c)
	}
}

// Code is the exit code for what root.Execute returned. That there is no such command only looking for it again tells.
func Code(err error, root *cobra.Command, args []string) int {
	if err != nil {
		if _, _, err := root.Find(args); err != nil {
			return cmdline.Misused
		}
	}
	return cmdline.Code(err)
}

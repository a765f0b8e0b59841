package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes, beside those of rouse-kube, which are handed on.
const (
	exitFailed = 1
	exitUsage  = 2 // nothing was tried: the command line can't be meant
)

// usage is an error of the command line.
type usage struct{ err error }

func (u *usage) Error() string { return u.err.Error() }

func (u *usage) Unwrap() error { return u.err }

func usagef(format string, args ...any) error { return &usage{fmt.Errorf(format, args...)} }

// tellUsage makes what cobra finds wrong with flags and arguments an error of the command line. Commands that read their own
// flags say themselves what is wrong with them.
func tellUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usage{err} })
	if accept := cmd.Args; accept != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := accept(cmd, args); err != nil {
				return &usage{err}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		tellUsage(c)
	}
}

// codeOf is the exit code for an error of a command. That there is no such command only looking for it again tells.
func codeOf(err error, root *cobra.Command, args []string) int {
	var wrong *usage
	if errors.As(err, &wrong) {
		return exitUsage
	}
	if _, _, err := root.Find(args); err != nil {
		return exitUsage
	}
	return exitFailed
}

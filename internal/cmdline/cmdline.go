// Package cmdline reads the flags of commands, and tells a command line that can't be meant from a failure: nothing was tried.
package cmdline

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

// Exit codes of commands.
const (
	Failed  = 1
	Misused = 2 // nothing was tried: the command line can't be meant
)

type misuse struct{ err error }

func (m *misuse) Error() string { return m.err.Error() }

func (m *misuse) Unwrap() error { return m.err }

// Misuse makes an error one of the command line; nil stays nil.
func Misuse(err error) error {
	if err == nil {
		return nil
	}
	return &misuse{err}
}

// Misusef is Misuse of a new error.
func Misusef(format string, args ...any) error { return &misuse{fmt.Errorf(format, args...)} }

// Code is the exit code for an error.
func Code(err error) int {
	var m *misuse
	switch {
	case err == nil:
		return 0
	case errors.As(err, &m):
		return Misused
	}
	return Failed
}

// Parse reads flags, and takes nothing after them. For -h it prints the help, and returns flag.ErrHelp. What is wrong it
// returns and does not print: it is told once, and without the help of all other flags.
func Parse(fs *flag.FlagSet, args []string) error {
	if err := read(fs, args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return Misusef("%q: there are only flags; see %s -h", fs.Arg(0), fs.Name())
	}
	return nil
}

// ParseArg is Parse for a command that takes one argument after its flags, which what names.
func ParseArg(fs *flag.FlagSet, args []string, what string) (arg string, err error) {
	if err := read(fs, args); err != nil {
		return "", err
	}
	if fs.NArg() != 1 {
		return "", Misusef("name one %s, after the flags; see %s -h", what, fs.Name())
	}
	return fs.Arg(0), nil
}

func read(fs *flag.FlagSet, args []string) error {
	out, help := fs.Output(), fs.Usage
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	err := fs.Parse(args)
	fs.SetOutput(out)
	fs.Usage = help
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, flag.ErrHelp):
		return Misusef("%w; see %s -h", err, fs.Name())
	case help != nil:
		help()
	default:
		fmt.Fprintf(out, "Usage of %s:\n", fs.Name())
		fs.PrintDefaults()
	}
	return err
}

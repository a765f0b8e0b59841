package commands

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/internal/cmdline"
)

func TestCode(t *testing.T) {
	for args, want := range map[string]int{
		"work": 0, "work -n 3": 0, "work --help": 0,
		"work fail":   cmdline.Failed,
		"work misuse": cmdline.Misused,
		"work -m":     cmdline.Misused,
		"work -n x":   cmdline.Misused,
		"work a b":    cmdline.Misused,
		"walk":        cmdline.Misused,
	} {
		root := &cobra.Command{Use: "rouse", SilenceErrors: true, SilenceUsage: true}
		work := &cobra.Command{Use: "work", Args: cobra.MaximumNArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return nil
			case args[0] == "misuse":
				return cmdline.Misusef("nobody can mean %s", args[0])
			}
			return errors.New("it is broken")
		}}
		work.Flags().IntP("number", "n", 1, "how many")
		root.AddCommand(work)
		Prepare(root)
		words := strings.Fields(args)
		root.SetArgs(words)
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		err := root.Execute()
		if got := Code(err, root, words); got != want {
			t.Errorf("%s: exit code %d (%v), want %d", args, got, err, want)
		}
	}
}

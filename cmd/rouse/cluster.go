package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
)

// companion is the program that talks to clusters: see its comment for why it is one of its own.
const companion = "rouse-kube"

// newCluster lists the commands that the companion carries out.
func newCluster() []*cobra.Command {
	return []*cobra.Command{
		newCompanion("adopt", "Take a Service over from its selector: control fills its endpoints from now on, no request is lost"),
		newCompanion("release", "Give an adopted Service its selector back: one pod at least stays, no request is lost"),
		newCompanion("uninstall", "Give every adopted Service its selector back, then print what is to be deleted, the reverse of install"),
	}
}

// newCompanion hands all arguments on, --help among them.
func newCompanion(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			program, err := findCompanion()
			if err != nil {
				return err
			}
			c := exec.CommandContext(cmd.Context(), program, append([]string{name}, args...)...)
			c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
			c.Stdin, c.Stdout, c.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			var exit *exec.ExitError
			if err := c.Run(); errors.As(err, &exit) {
				return fmt.Errorf("%s did not succeed (%s)", name, exit.ProcessState)
			} else if err != nil {
				return fmt.Errorf("%s: %w", program, err)
			}
			return nil
		},
	}
}

// findCompanion looks beside this program, then in PATH.
func findCompanion() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), companion)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	program, err := exec.LookPath(companion)
	if err != nil {
		return "", fmt.Errorf("this command is carried out by %s, which stands neither beside this program nor in PATH: "+
			"go install github.com/rousehq/rouse/cmd/%s", companion, companion)
	}
	return program, nil
}

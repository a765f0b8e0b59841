package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rousehq/rouse/internal/cmdline"
)

// companion is the program that talks to clusters: see its comment for why it is one of its own.
const companion = "rouse-kube"

// newCluster lists the commands that the companion carries out.
func newCluster() []*cobra.Command {
	return []*cobra.Command{
		newCompanion("adopt", "Take a Service over from its selector: control fills its endpoints from now on, no request is lost"),
		newCompanion("release", "Give a Service that control fills its selector: one pod at least stays, no request is lost"),
		newCompanion("uninstall", "Give every Service that control fills its selector, then print what is to be deleted, the reverse of install"),
		newCompanion("check", "What is wrong with an installation in a cluster and with annotated workloads, there or in manifests, and how to mend it"),
		newCompanion("top", "Live load of annotated workloads in a cluster: requests in flight, per second and parked, pods, target"),
	}
}

// exitStatus is the exit code of a companion, which has said what is to be said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// newCompanion hands all arguments on, --help among them.
func newCompanion(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error { return handOver(cmd, args) },
	}
}

// handOver has the companion carry a command out.
func handOver(cmd *cobra.Command, args []string) error {
	program, err := findCompanion()
	if err != nil && cmd.Name() == "check" {
		return cmdline.Misuse(err) // for which 1 would mean that it looked and found something
	}
	if err != nil {
		return err
	}
	c := exec.CommandContext(cmd.Context(), program, append([]string{cmd.Name()}, args...)...)
	c.Args[0] = "rouse" // its help is that of this program's command
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.Stdin, c.Stdout, c.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	var exit *exec.ExitError
	err = c.Run()
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exitStatus(exit.ExitCode())
	case errors.As(err, &exit):
		return fmt.Errorf("%s did not succeed (%s)", cmd.Name(), exit.ProcessState)
	case err != nil:
		return fmt.Errorf("%s: %w", program, err)
	}
	return nil
}

// choosesCluster lists the flags of which any makes a command look at a cluster instead of the running `rouse up`.
func choosesCluster() []string {
	return []string{"namespace", "all-namespaces", "kubeconfig", "context", "system-namespace"}
}

// inBoth gives a command that the running `rouse up` answers the flags of its namesake in the companion. shared are flags
// that both have: every other flag is for the running `rouse up` alone.
func inBoth(cmd *cobra.Command, shared ...string) *cobra.Command {
	f := cmd.Flags()
	f.StringP("namespace", "n", "", "cluster: namespace of the workloads")
	f.BoolP("all-namespaces", "A", false, "cluster: workloads of all namespaces")
	f.String("kubeconfig", "", "cluster: kubeconfig file (default KUBECONFIG, then ~/.kube/config)")
	f.String("context", "", "cluster: context of the kubeconfig")
	f.String("system-namespace", "rouse-system", "cluster: where control and the activators are")
	cmd.Long = cmd.Short + ".\n\nAny of the flags --namespace, --all-namespaces, --kubeconfig, --context and --system-namespace makes it look at a " +
		"cluster;\nwithout one of them it asks the running `rouse up` on this machine."
	local := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		passed, chosen, onlyLocal := sorted(cmd, shared)
		switch {
		case chosen == "":
			return local(cmd, args)
		case onlyLocal != "":
			return cmdline.Misusef("--%s is for a running `rouse up`, --%s for a cluster: leave one away", onlyLocal, chosen)
		}
		return handOver(cmd, append(passed, args...))
	}
	return cmd
}

// sorted returns the flags that were given as the companion takes them, and one of each side.
func sorted(cmd *cobra.Command, shared []string) (passed []string, chosen, onlyLocal string) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch {
		case slices.Contains(choosesCluster(), f.Name):
			chosen = f.Name
		case !slices.Contains(shared, f.Name):
			onlyLocal = f.Name
			return
		}
		passed = append(passed, "--"+f.Name+"="+f.Value.String())
	})
	return passed, chosen, onlyLocal
}

// outputFlag is the choice of a format, as the companion has it; asksJSON reads it.
func outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringP("output", "o", "text", "format: text or json")
}

func asksJSON(cmd *cobra.Command) (bool, error) {
	switch format := cmd.Flag("output").Value.String(); format {
	case "text":
		return false, nil
	case "json":
		return true, nil
	default:
		return false, cmdline.Misusef("--output = %q: must be text or json", format)
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
			"`go install github.com/rousehq/rouse/cmd/%s@VERSION`, or `make build` in the sources", companion, companion)
	}
	return program, nil
}

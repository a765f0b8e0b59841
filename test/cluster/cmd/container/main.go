// Command container is the first process of every container: it joins the pod's network, puts the file system together and
// becomes the program. It is separate from the node agent because a small static binary starts in a millisecond.
//
// The agent has started it in mount, process, host name and IPC namespaces of its own. The root is an overlay of the node's, so that
// whatever the node can run, a container can, and what it writes is gone with it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rousehq/rouse/test/cluster/agent/process"
)

func main() {
	runtime.LockOSThread() // namespaces and user IDs belong to threads; exec keeps those of the calling one
	report := os.NewFile(process.ErrorFD, "report")
	unix.CloseOnExec(process.ErrorFD)
	fmt.Fprint(report, run())
	os.Exit(128)
}

// run returns only when it fails.
func run() error {
	spec, err := read(os.NewFile(process.SpecFD, "spec"))
	if err != nil {
		return fmt.Errorf("container: read the specification: %w", err)
	}
	for _, step := range []struct {
		what string
		do   func(*process.Spec) error
	}{
		{"join the cgroups", joinCgroups},
		{"join the pod's network", joinNetwork},
		{"set the host name", setHostname},
		{"put the file system together", buildRoot},
		{"enter the working directory", enterDir},
		{"become the user", becomeUser},
	} {
		if err := step.do(spec); err != nil {
			return fmt.Errorf("container: %s: %w", step.what, err)
		}
	}
	return execute(spec)
}

func read(f *os.File) (*process.Spec, error) {
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	var spec process.Spec
	return &spec, json.Unmarshal(b, &spec)
}

func joinCgroups(s *process.Spec) error {
	for _, dir := range s.Cgroups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}

func joinNetwork(s *process.Spec) error {
	if s.Netns == "" {
		return nil
	}
	f, err := os.Open(s.Netns)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

func setHostname(s *process.Spec) error {
	if s.Hostname == "" {
		return nil
	}
	return unix.Sethostname([]byte(s.Hostname))
}

func enterDir(s *process.Spec) error {
	if s.Dir == "" {
		s.Dir = "/"
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return err
	}
	return unix.Chdir(s.Dir)
}

func becomeUser(s *process.Spec) error {
	if s.UID == 0 && s.GID == 0 {
		return nil
	}
	return errors.Join(unix.Setgroups(nil), unix.Setgid(int(s.GID)), unix.Setuid(int(s.UID)))
}

func execute(s *process.Spec) error {
	os.Clearenv()
	for _, kv := range s.Env {
		name, value, _ := strings.Cut(kv, "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("container: environment variable %q: %w", name, err)
		}
	}
	path, err := exec.LookPath(s.Args[0])
	if err != nil {
		return fmt.Errorf("container: %w", err)
	}
	if err := unix.Exec(path, s.Args, s.Env); err != nil {
		return fmt.Errorf("container: run %s: %w", path, err)
	}
	return nil
}

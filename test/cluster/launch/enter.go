package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Options are what a caller may choose; they reach the inside as JSON.
type Options struct {
	Bin     string // directory that Build returned
	State   string // directory for keys, logs and etcd; kept when it was there before, else removed at the end
	Images  string // directory of binaries that serve as images
	Verbose bool   // say how long each step took
	// DelaySlices is how much later than everybody else kube-proxy hears of EndpointSlices; tests can change it.
	DelaySlices time.Duration
	// IPv6First makes IPv6 the family of who asks for none: of the node, of pods' first addresses, and the only one of Services.
	IPv6First bool
	Command   []string // runs in the cluster
	Cgroup    string   // parent cgroup of all containers; Enter chooses it
}

// insideArg marks the second start of this program.
const insideArg = "__inside"

// IsInside reports whether this process is the one that Enter started.
func IsInside(args []string) bool { return len(args) == 2 && args[1] == insideArg }

// Enter runs the command in a cluster in private namespaces and returns its exit code. Whatever ends this process ends the cluster.
func Enter(ctx context.Context, o Options) (int, error) {
	if err := Check(); err != nil {
		return 1, err
	}
	cleanup, err := prepare(&o)
	if err != nil {
		return 1, err
	}
	defer cleanup()
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	given, err := json.Marshal(o)
	if err != nil {
		return 1, err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cmd := exec.CommandContext(ctx, self, insideArg)
	cmd.Env = append(os.Environ(), optionsEnv+"="+string(given))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// It is process 1 in there: when it ends, the kernel kills the rest.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

const optionsEnv = "ROUSE_CLUSTER_OPTIONS"

// prepare makes the state directory and returns what undoes it.
func prepare(o *Options) (cleanup func(), err error) {
	o.Cgroup = fmt.Sprintf(cgroupPrefix+"%d", os.Getpid())
	sweep()
	removeState := func() {}
	if o.State == "" {
		if o.State, err = os.MkdirTemp("", "rouse-cluster-"); err != nil {
			return nil, err
		}
		removeState = func() {
			if err := os.RemoveAll(o.State); err != nil {
				fmt.Fprintln(os.Stderr, "cluster: state:", err)
			}
		}
	}
	if o.State, err = filepath.Abs(o.State); err != nil {
		return nil, err
	}
	for _, dir := range []string{"", "pki", "log", "shared"} {
		if err := os.MkdirAll(filepath.Join(o.State, dir), 0o755); err != nil {
			return nil, err
		}
	}
	return func() {
		removeCgroups(o.Cgroup)
		removeState()
	}, nil
}

const cgroupPrefix = "rouse-cluster-"

var cgroupParents = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"}

// sweep takes away the cgroups of clusters whose keeper was killed.
func sweep() {
	for _, parent := range cgroupParents {
		names, _ := filepath.Glob(filepath.Join(parent, cgroupPrefix+"*")) // the pattern is well formed
		for _, name := range names {
			pid := strings.TrimPrefix(filepath.Base(name), cgroupPrefix)
			if _, err := os.Stat(filepath.Join("/proc", pid)); errors.Is(err, fs.ErrNotExist) {
				removeCgroups(filepath.Base(name))
			}
		}
	}
}

// removeCgroups takes away what the killed cluster could not: cgroups outlive namespaces.
func removeCgroups(name string) {
	for _, parent := range cgroupParents {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(parent, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- { // children first
			_ = os.Remove(dirs[i]) // an empty cgroup can be removed; another is not ours
		}
	}
}

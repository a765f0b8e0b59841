package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Inside is the second start of this program, as process 1 of the namespaces. It returns the command's exit code.
func Inside(ctx context.Context) (int, error) {
	if os.Getpid() == 1 {
		return reap()
	}
	var o Options
	if err := json.Unmarshal([]byte(os.Getenv(optionsEnv)), &o); err != nil {
		return 1, fmt.Errorf("cluster: %s: %w", optionsEnv, err)
	}
	if err := os.Unsetenv(optionsEnv); err != nil {
		return 1, err
	}
	if err := setUp(); err != nil {
		return 1, fmt.Errorf("cluster: namespaces: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	c := newCluster(o)
	defer c.end()
	if err := c.start(ctx); err != nil {
		return 1, err
	}
	code, err := c.command(ctx)
	return code, errors.Join(err, c.died())
}

// reap is process 1: it starts this program once more and collects the dead that nobody else waits for, pods' helpers for instance.
func reap() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	pid, err := syscall.ForkExec(self, []string{self, insideArg}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() { // until the process ends
		for s := range signals {
			_ = syscall.Kill(pid, s.(syscall.Signal)) // gone already is fine
		}
	}()
	for {
		var ws syscall.WaitStatus
		dead, err := syscall.Wait4(-1, &ws, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return 1, err
		}
		if dead == pid && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		} else if dead == pid && ws.Exited() {
			return ws.ExitStatus(), nil
		}
	}
}

// setUp makes the namespaces a node: its own /proc, a bridge for pods, forwarding.
func setUp() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("none", "/run/netns", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /run/netns: %w", err)
	}
	if err := unix.Sethostname([]byte(nodeName)); err != nil {
		return err
	}
	if err := set(forwarding); err != nil {
		return err
	}
	if err := makeBridge(); err != nil {
		return err
	}
	return set(ports)
}

// forwarding is what the node's network needs before it has a link.
var forwarding = map[string]string{
	"net/ipv4/ip_forward": "1",
	// Pods' packets to each other go in and out of the same bridge, on purpose: nobody needs to hear of a shorter way.
	"net/ipv4/conf/all/send_redirects":     "0",
	"net/ipv4/conf/default/send_redirects": "0",
	"net/ipv6/conf/all/disable_ipv6":       "0", // some machines of CI begin with 1
	"net/ipv6/conf/all/forwarding":         "1",
	// Looking for duplicates of an address that is only derived takes a second, in which it cannot be used.
	"net/ipv6/conf/default/accept_dad": "0",
}

// ports is what the bridge's ports get: they carry frames, and have no address of their own to announce.
var ports = map[string]string{"net/ipv6/conf/default/disable_ipv6": "1"}

func set(sysctls map[string]string) error {
	for name, value := range sysctls {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// command runs what the caller wants, with kubectl at hand.
func (c *cluster) command(ctx context.Context) (int, error) {
	cmd := exec.CommandContext(ctx, c.o.Command[0], c.o.Command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(),
		"KUBECONFIG="+kubeconfig(c.o.State, "admin"),
		"ROUSE_IMAGES="+c.o.Images,
		"ROUSE_CLUSTER_STATE="+c.o.State,
		"ROUSE_CLUSTER_CONTROL="+c.controlSocket(),
		"PATH="+c.o.Bin+":"+os.Getenv("PATH"))
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// tail returns the end of a log, for an error's text.
func tail(path string) string {
	const size = 3000
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > size {
		_, _ = f.Seek(-size, io.SeekEnd) // a log that cannot be sought is shown from its start
	}
	b, _ := io.ReadAll(io.LimitReader(f, size)) // what could be read
	return string(b)
}

//go:build linux

package proxybench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/rousehq/rouse/bench/internal/poll"
	"golang.org/x/sys/unix"
)

// command is how a process is started.
type command struct {
	path string
	args []string
	env  []string
}

// process is a running child. Stop it.
type process struct {
	cmd    *exec.Cmd
	log    *tail
	exited chan struct{}
	err    error // valid once exited is closed
}

// start runs c in the arena, pinned to core. The kernel kills it when the arena's thread ends, so that it cannot
// outlive the benchmark however that ends.
func (a *arena) start(c command, core, home int) (*process, error) {
	p := &process{cmd: exec.Command(c.path, c.args...), log: &tail{}, exited: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, c.env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := a.do(func() error {
		if err := pinThread(core); err != nil {
			return err
		}
		err := p.cmd.Start()
		return errors.Join(err, pinThread(home))
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.path, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop kills the process with all that it has started, and waits for it. Draining is not measured here.
func (p *process) stop() {
	tree, _ := descend(p.pid()) // without it, children end by the kernel's hand when their parent does
	_ = p.cmd.Process.Kill()    // it may be gone already
	for _, pid := range tree {
		if pid != p.pid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	<-p.exited
}

// ready waits until the process accepts connections on addr.
func (p *process) ready(ctx context.Context, a *arena, addr netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if fd, err := a.dial(addr); err == nil {
			return unix.Close(fd)
		} else if errors.Is(err, poll.ErrNotLoopback) {
			return err
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before it listened on %s: %w\n%s", p.cmd.Path, addr, p.err, p.log)
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w\n%s", p.cmd.Path, addr, ctx.Err(), p.log)
		case <-tick.C:
		}
	}
}

// tail keeps the end of a process's output, for error messages.
type tail struct {
	mu  sync.Mutex
	buf []byte // guarded by mu
}

const tailBytes = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = t.buf[:copy(t.buf, t.buf[over:])]
	}
	return len(p), nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

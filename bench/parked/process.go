//go:build linux

package parked

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// process is a copy of this program in another role, which answers a line by a line.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(ctx context.Context, role string, stderr io.Writer, env ...string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe, os.Args[1:]...)
	cmd.Env = append(append(os.Environ(), roleEnv+"="+role), env...)
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s process: %w", role, err)
	}
	return &process{cmd, in, bufio.NewReader(out)}, nil
}

// ask sends a line and returns the next one.
func (p *process) ask(order string) (string, error) {
	if order != "" {
		if _, err := io.WriteString(p.in, order+"\n"); err != nil {
			return "", err
		}
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("process %d has ended: %w", p.cmd.Process.Pid, err)
	}
	return strings.TrimSpace(line), nil
}

// close ends the process by the end of its input.
func (p *process) close() {
	p.in.Close()
	_ = p.cmd.Wait()
}

// server is the activator's process.
type server struct {
	*process
	addrs []netip.AddrPort
}

func startActivator(ctx context.Context, stderr io.Writer, listeners int) (*server, error) {
	p, err := start(ctx, "server", stderr, roleEnv+"_LISTENERS="+strconv.Itoa(listeners))
	if err != nil {
		return nil, err
	}
	s := &server{process: p}
	line, err := p.ask("")
	if err != nil {
		p.close()
		return nil, err
	}
	for a := range strings.SplitSeq(line, ",") {
		addr, err := netip.ParseAddrPort(a)
		if err != nil {
			p.close()
			return nil, fmt.Errorf("the activator's process says %q: %w", line, err)
		}
		s.addrs = append(s.addrs, addr)
	}
	return s, nil
}

// memory waits until so many requests are parked and the process's memory stands still, and reads it.
func (s *server) memory(parked int) (Step, error) {
	const pause, limit = 50 * time.Millisecond, time.Minute
	var last Step
	same := 0
	for waited := time.Duration(0); waited < limit; waited += pause {
		now, err := s.read()
		if err != nil {
			return Step{}, err
		}
		if diff := now.RSS - last.RSS; now.Parked == parked && diff < 1<<18 && diff > -1<<18 {
			same++
		} else {
			same = 0
		}
		if last = now; same == 10 {
			return last, nil
		}
		time.Sleep(pause)
	}
	return Step{}, fmt.Errorf("%d requests are parked after %v, want %d with memory at rest", last.Parked, limit, parked)
}

func (s *server) read() (Step, error) {
	line, err := s.ask("account")
	if err != nil {
		return Step{}, err
	}
	var a account
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		return Step{}, fmt.Errorf("the activator's process says %q: %w", line, err)
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.cmd.Process.Pid))
	if err != nil {
		return Step{}, err
	}
	rss, err1 := field(rollup, "Rss:")
	pss, err2 := field(rollup, "Pss:")
	return Step{Parked: a.Parked, RSS: rss, PSS: pss, Heap: a.Heap, Stacks: a.Stacks}, errors.Join(err1, err2)
}

// field returns a line of smaps_rollup in bytes.
func field(rollup []byte, name string) (int64, error) {
	for line := range bytes.Lines(rollup) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == name {
			kb, err := strconv.ParseInt(string(f[1]), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("smaps_rollup has no %s", name)
}

// client is a process that holds connections.
type client struct{ *process }

func startClient(ctx context.Context, stderr io.Writer, addrs []netip.AddrPort, first, n int) (*client, error) {
	p, err := start(ctx, "client", stderr)
	if err != nil {
		return nil, err
	}
	order, err := json.Marshal(job{addrs, first, n})
	if err == nil {
		_, err = p.ask(string(order))
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return &client{p}, nil
}

// collect returns how many of the requests were answered by 200.
func (c *client) collect() (int, error) {
	line, err := c.ask("collect")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(line)
}

package dispatch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/bench/cpuclock"
	"github.com/rousehq/rouse/internal/kafkabroker"
)

// serveSink answers every POST with 202 after the time that the path names: /5ms. Values that begin with "poison" get
// 503. It ends with its standard input.
func serveSink(_ context.Context, stdout io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, ln.Addr())
	srv := &fasthttp.Server{Concurrency: 100_000, Handler: answer, NoDefaultServerHeader: true}
	go endWithInput()
	return srv.Serve(ln)
}

func answer(c *fasthttp.RequestCtx) {
	if d, err := time.ParseDuration(strings.TrimPrefix(string(c.Path()), "/")); err == nil && d > 0 {
		time.Sleep(d)
	}
	c.SetStatusCode(202)
	if body := c.PostBody(); len(body) > 6 && string(body[:6]) == "poison" {
		c.SetStatusCode(503)
	}
}

func serveBroker(_ context.Context, stdout io.Writer) error {
	b, err := kafkabroker.Start(kafkabroker.Config{})
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, b)
	endWithInput()
	b.Close()
	return nil
}

// endWithInput returns, and ends the process, when the parent is gone.
func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// helper is a running copy of this program in another role.
type helper struct {
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string
}

func startHelper(role string, stderr io.Writer) (*helper, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
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
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s process said nothing: %w", role, err), cmd.Wait())
	}
	return &helper{cmd: cmd, stdin: in, addr: strings.TrimSpace(line)}, nil
}

func (h *helper) close() {
	if h != nil {
		h.stdin.Close()
		_ = h.cmd.Wait()
	}
}

// cpuTime is what the process has used so far.
func (h *helper) cpuTime() time.Duration {
	d, _ := cpuclock.Of(h.cmd.Process.Pid)
	return d
}

// residentKiB is the process's memory in use, as the kernel counts it.
func residentKiB() int {
	runtime.GC()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			return n
		}
	}
	return 0
}

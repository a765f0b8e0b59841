package overload

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rousehq/rouse/internal/localpods/procfs"
)

const (
	host = "small.default.example.com"
	// How long everything may take to come up, to answer a question, and to end.
	upLimit, askLimit, downLimit = 30 * time.Second, 2 * time.Second, 20 * time.Second
)

const manifest = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: small, namespace: default}
spec:
  template:
    metadata:
      annotations: {autoscaling.knative.dev/max-scale: "1", autoscaling.knative.dev/min-scale: "1", rouse.dev/queue-limit: "%d", rouse.dev/queue-deadline: %s}
    spec:
      containerConcurrency: 1
      containers: [{image: autoscale}]
`

// house is a running `rouse up`. Close it.
type house struct {
	addr string
	dir  string
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when it has ended
}

// open starts everything and waits until the application answers.
func open(ctx context.Context, o *options) (*house, error) {
	dir, err := os.MkdirTemp("", "rouse-overload-")
	if err != nil {
		return nil, err
	}
	h := &house{dir: dir, log: &tail{}, done: make(chan struct{})}
	if err := h.start(ctx, o); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := h.answers(ctx); err != nil {
		h.close()
		return nil, fmt.Errorf("%w\nrouse up said:\n%s", err, h.log)
	}
	return h, nil
}

func (h *house) start(ctx context.Context, o *options) error {
	sidecar := o.sidecar
	if sidecar == "" {
		sidecar = filepath.Join(h.dir, "queueproxy")
		build := exec.CommandContext(ctx, "go", "build", "-o", sidecar, "./cmd/queueproxy")
		build.Dir, build.Env = o.source, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build the queue-proxy (name one with -sidecar, or the tree with -source): %w\n%s", err, out)
		}
	}
	file := filepath.Join(h.dir, "small.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, manifest, o.queue, o.deadline), 0o600); err != nil {
		return err
	}
	var err error
	if h.addr, err = freeAddr(); err != nil {
		return err
	}
	args := []string{"up", "-f", file, "--listen", h.addr, "--admin", "127.0.0.1:0", "--data", "", "--sidecars", "process", "--sidecar", sidecar}
	if o.activators > 0 {
		args = append(args, "--activators", strconv.Itoa(o.activators))
	}
	h.cmd = exec.Command(o.self, args...)
	h.cmd.Stdout, h.cmd.Stderr = h.log, h.log
	if err := h.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = h.cmd.Wait() // how it ended shows in what it said
		close(h.done)
	}()
	return nil
}

// freeAddr is a loopback address that was free a moment ago.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// answers waits for a first whole answer.
func (h *house) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if page, err := ask(ctx, h.addr, "/", host); err == nil && len(page) > 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-h.done:
			return errors.New("rouse up ended")
		case <-ctx.Done():
			return errors.New("the service did not answer")
		}
	}
}

// close ends everything.
func (h *house) close() {
	_ = h.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	late := time.NewTimer(downLimit)
	defer late.Stop()
	select {
	case <-h.done:
	case <-late.C:
		_ = h.cmd.Process.Kill()
		<-h.done
	}
	_ = os.RemoveAll(h.dir) // temporary, whatever is left
}

// part is one process of the house.
type part struct {
	name string
	pid  int
	rss  int64 // bytes
}

// parts lists the processes that take requests: the first is rouse up itself.
func (h *house) parts() ([]part, error) {
	all, err := procfs.Processes()
	if err != nil {
		return nil, err
	}
	var found []part
	for _, p := range procfs.Tree(all, h.cmd.Process.Pid) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		if err != nil || p.Zombie {
			continue // it has just ended
		}
		args := strings.Split(string(line), "\x00")
		name := filepath.Base(args[0])
		if name == filepath.Base(h.cmd.Path) && len(args) > 1 {
			name = args[1] // up, activator, sample
		}
		found = append(found, part{name, p.PID, int64(p.Resident) * int64(os.Getpagesize())})
	}
	return found, nil
}

// depth is how many requests are parked now, over all activators: queue_depth on whatever port serves it.
func (h *house) depth(ctx context.Context, parts []part) (int, error) {
	listeners, err := procfs.Listeners()
	if err != nil {
		return 0, err
	}
	sum, found := 0, false
	for _, p := range parts {
		if p.name != "up" && p.name != "activator" {
			continue
		}
		held := map[uint64]bool{}
		procfs.Sockets(p.pid, func(inode uint64) bool { held[inode] = true; return true })
		for _, l := range listeners {
			if !held[l.Inode] || l.Addr.String() == h.addr {
				continue
			}
			page, err := ask(ctx, l.Addr.String(), "/metrics", "")
			if err != nil {
				continue // another port
			}
			if n, ok := metric(page, "queue_depth"); ok {
				sum, found = sum+n, true
			}
		}
	}
	if !found {
		return 0, errors.New("no process tells queue_depth")
	}
	return sum, nil
}

// metric reads a metric without labels.
func metric(page []byte, name string) (int, bool) {
	for sc := bufio.NewScanner(bytes.NewReader(page)); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return int(v), err == nil
		}
	}
	return 0, false
}

// ask fetches a page with status 200.
func ask(ctx context.Context, addr, path, virtual string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	req.Host = virtual
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	return io.ReadAll(io.LimitReader(res.Body, 4<<20))
}

// tail keeps the end of what a process says.
type tail struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

const tailBytes = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-tailBytes):]
	return len(p), nil
}

// String is what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

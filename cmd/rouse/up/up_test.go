package up

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/front"
	"github.com/rousehq/rouse/internal/sampleapp"
)

// sidecarBinary is the real queue-proxy, built once for all tests.
var sidecarBinary string

// TestMain makes this test binary serve as the program that runs the built-in samples.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "sample" {
		if err := sampleapp.Main(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == roleLedger {
		if err := ledgerMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == ActivatorCommand {
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, syscall.SIGTERM)
		os.Exit(front.Main(os.Args[2:], os.Environ(), signals, os.Stdin, os.Stderr))
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rouse-up-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	sidecarBinary = filepath.Join(dir, "queueproxy")
	if out, err := exec.Command("go", "build", "-o", sidecarBinary, "../../queueproxy").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the queue-proxy: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// house is a running `rouse up`.
type house struct {
	Handle
	t      *testing.T
	out    *lockedBuffer
	stop   context.CancelFunc
	ended  chan error
	client *http.Client
}

// lockedBuffer is an io.Writer that can be read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, yaml string, change func(*Options)) *house {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, out: &lockedBuffer{}, ended: make(chan error, 1)}
	o := Default()
	o.Files, o.Stdin = []string{"-"}, strings.NewReader(yaml)
	o.Listen, o.Admin = "127.0.0.1:0", "127.0.0.1:0"
	o.Self, o.Environ, o.Sidecar = self, os.Environ(), sidecarBinary
	o.Stdout, o.Stderr = h.out, h.out
	ready := make(chan Handle, 1)
	o.OnReady = func(up Handle) { ready <- up }
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() { h.ended <- Run(ctx, o, nil) }()
	select {
	case h.Handle = <-ready:
	case err := <-h.ended:
		t.Fatalf("rouse up ended: %v\n%s", err, h.out)
	}
	h.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}, Timeout: 2 * time.Minute}
	return h
}

// close stops the house and fails the test when it does not end well.
func (h *house) close() {
	h.t.Helper()
	h.client.CloseIdleConnections()
	h.stop()
	if err := <-h.ended; err != nil {
		h.t.Errorf("rouse up ended with %v\n%s", err, h.out)
	}
}

func (h *house) get(name, query string) (status int, header http.Header, body string, err error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+h.Addr.String()+"/"+query, nil)
	if err != nil {
		return 0, nil, "", err
	}
	req.Host = name + ".default.example.com"
	res, err := h.client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(b), err
}

// await polls a condition until it holds; the deadline is for a broken program only.
func (h *house) await(what string, holds func() bool) {
	h.t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			h.t.Fatalf("it never came true: %s\n%s", what, h.out)
		}
	}
}

func (h *house) pods(name string) (ready, all int) {
	health, err := h.Health(name)
	if err != nil {
		h.t.Error(err)
	}
	return health.Ready, health.Ready + health.Starting + health.Draining
}

func service(name, image string, limit, most int, env string) string {
	return fmt.Sprintf(`
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: %s, namespace: default}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/window: 6s
        autoscaling.knative.dev/scale-to-zero-grace-period: 1s
        autoscaling.knative.dev/max-scale: "%d"
    spec:
      containerConcurrency: %d
      containers:
        - image: %s
          env: [%s]
`, name, most, limit, image, env)
}

// TestFromZeroToManyAndBack is the product's promise, with real processes: 500 requests at once meet a sleeping
// service whose processes take one request at a time.
func TestFromZeroToManyAndBack(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"inprocess", "process"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := start(t, service("burst", "autoscale", 1, 20, ""), func(o *Options) { o.Sidecars = mode })
			defer h.close()
			if _, all := h.pods("burst"); all != 0 {
				t.Fatalf("%d processes before the first request, want 0", all)
			}
			h.burst(500)
			h.await("all processes are gone", func() bool {
				_, all := h.pods("burst")
				return all == 0
			})
			if !strings.Contains(h.out.String(), "burst: asleep") {
				t.Errorf("nobody was told that the service fell asleep:\n%s", h.out)
			}
		})
	}
}

// burst sends n requests at once, each 50 ms of work, and checks every answer.
func (h *house) burst(n int) {
	h.t.Helper()
	var mu sync.Mutex
	pids := map[string]int{}
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			status, header, body, err := h.get("burst", "?sleep=50")
			mu.Lock()
			defer mu.Unlock()
			pids[header.Get(sampleapp.HeaderPID)]++
			if err != nil || status != http.StatusOK {
				h.t.Errorf("status %d, error %v, body %q; want 200", status, err, body)
			}
			if most := header.Get(sampleapp.HeaderMaxConcurrency); most != "1" {
				h.t.Errorf("a process saw %s requests at once, want 1", most)
			}
		})
	}
	all.Wait()
	if len(pids) < 2 || len(pids) > 20 {
		h.t.Errorf("%d processes answered, want more than one and at most 20", len(pids))
	}
}

func TestStopLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"none", "inprocess", "process"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := start(t, service("slow", "autoscale", 0, 1, ""), func(o *Options) { o.Sidecars = mode })
			_, header, _, err := h.get("slow", "")
			if err != nil {
				t.Fatal(err)
			}
			h.await("the first request is off the books", func() bool { return h.InFlight("slow") == 0 })
			answered := make(chan string, 1)
			go func() {
				status, _, body, err := h.get("slow", "?sleep=700")
				answered <- fmt.Sprint(status, " ", err, " ", len(body) > 0)
			}()
			h.await("the request is running", func() bool { return h.InFlight("slow") == 1 })
			h.close()
			if got := <-answered; got != "200 <nil> true" {
				t.Errorf("the request in flight ended with %q, want a complete 200", got)
			}
			var pid int
			if _, err := fmt.Sscan(header.Get(sampleapp.HeaderPID), &pid); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d is still there (%v)", pid, err)
			}
		})
	}
}

func TestACommandThatCannotStartFailsItsWaiters(t *testing.T) {
	t.Parallel()
	m := service("broken", "none", 0, 1, "") + "          command: [/no/such/program]\n"
	h := start(t, m, nil)
	defer h.close()
	status, _, body, err := h.get("broken", "")
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, "/no/such/program") {
		t.Errorf("got %d, %v, %q; want 503 that names the program", status, err, body)
	}
	if n := strings.Count(h.out.String(), "/no/such/program"); n == 0 {
		t.Errorf("the operator was not told:\n%s", h.out)
	}
}

// TestTheSidecarsHelp: asked for help, the real binary lists its variables instead of missing them.
func TestTheSidecarsHelp(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"-h", "--help"} {
		out, err := exec.CommandContext(t.Context(), sidecarBinary, arg).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "CONTAINER_CONCURRENCY") || !strings.Contains(string(out), "ROUSE_STATS_URL") {
			t.Errorf("queueproxy %s = %v\n%s", arg, err, out)
		}
	}
}

// TestBannerHasUnits: settings are shown as they are written, and no limit is not shown as 0.
func TestBannerHasUnits(t *testing.T) {
	t.Parallel()
	h := start(t, strings.Replace(service("hello", "hello", 0, 5, ""), "        autoscaling.knative.dev/window: 6s\n",
		"        autoscaling.knative.dev/window: 6s\n        autoscaling.knative.dev/target-utilization-percentage: \"100\"\n", 1), nil)
	h.close()
	if out := h.out.String(); !strings.Contains(out, "  hello  no limit per pod, max-scale=5,") ||
		!strings.Contains(out, "target-utilization-percentage=100%, window=6s\n") {
		t.Errorf("the banner is\n%s", out)
	}
}

func TestUnknownHost(t *testing.T) {
	t.Parallel()
	h := start(t, service("hello", "hello", 0, 1, ""), nil)
	defer h.close()
	if status, _, _, err := h.get("nobody", ""); err != nil || status != http.StatusNotFound {
		t.Errorf("got %d, %v, want 404", status, err)
	}
}

func TestOptionsAreCheckedTogether(t *testing.T) {
	o := Default()
	o.Sidecars, o.Set, o.Listen = "maybe", []string{"max-scale"}, "8080"
	err := o.validate()
	for _, want := range []string{"-f FILE", `--sidecars "maybe"`, `--set "max-scale"`, `--listen "8080"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("validate = %v, want it to name %s", err, want)
		}
	}
}

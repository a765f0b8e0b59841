package localpods_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods"
	"github.com/rousehq/rouse/internal/localpods/procfs"
)

// patience bounds every wait for a real process. It is long because it only matters when something is broken.
const patience = 30 * time.Second

// harness is a running runner with one revision, and what it told.
type harness struct {
	t    *testing.T
	r    *localpods.Runner
	book *endpoint.Book
	rev  identity.Revision
	mark string // an entry in the environment of every process of this test
	stop func() // ends Run and waits for it

	mu     sync.Mutex
	events []localpods.Event // guarded by mu
	lines  []localpods.Line  // guarded by mu
	states []string          // guarded by mu; what the book said, in order
}

// setup is what a test changes before the runner starts.
type setup struct {
	cfg  localpods.Config
	deps localpods.Deps
	spec localpods.Spec
	with func(*localpods.Runner) // called before Run
}

// start runs a runner with one revision of the given role. Its cleanup checks that no process is left.
func start(t *testing.T, role string, change ...func(*setup)) *harness {
	t.Helper()
	h := &harness{t: t, book: new(endpoint.Book), rev: identity.Revision{Namespace: "default", Name: "app-00001", UID: "u1", Generation: 1}}
	h.mark = fmt.Sprintf("LOCALPODS_TEST_RUN=%d-%s", os.Getpid(), t.Name())
	s := setup{cfg: localpods.Default()}
	// The race detector would hold every exit back for a second.
	s.cfg.BaseEnv = append(os.Environ(), h.mark, "GORACE=atexit_sleep_ms=0")
	s.cfg.BackoffMin = 5 * time.Millisecond
	s.deps = localpods.Deps{Book: h.book, Observer: h.observe, Output: h.output, InProcess: proxies{}}
	s.spec = localpods.Spec{
		Revision: h.rev, Service: "app", Configuration: "app-config",
		Argv: []string{os.Args[0]}, Env: []string{roleEnv + "=" + role},
	}
	for _, f := range change {
		f(&s)
	}
	r, err := localpods.New(s.cfg, s.deps)
	if err != nil {
		t.Fatal(err)
	}
	h.r = r
	if s.with != nil {
		s.with(r)
	}
	if err := r.Add(s.spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.book.Subscribe(h.rev, h.changed))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		h.checkNobodyLeft()
	})
	t.Cleanup(h.stop)
	<-r.Started()
	return h
}

func (h *harness) observe(e localpods.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

func (h *harness) output(l localpods.Line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, l)
}

func (h *harness) changed(u endpoint.Update) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range u.Delta.Upserted {
		h.states = append(h.states, e.State.String())
	}
	for range u.Delta.Removed {
		h.states = append(h.states, "gone")
	}
}

// await waits for a condition of the world outside of this process.
func (h *harness) await(what string, cond func() bool) {
	h.t.Helper()
	h.awaitOr(func() {
		health, _ := h.r.Health(h.rev)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.t.Fatalf("waited %v in vain: %s\nhealth: %+v\nevents: %+v\nlines: %+v", patience, what, health, h.events, h.lines)
	}, cond)
}

// awaitBare is await where there is no runner to ask.
func (h *harness) awaitBare(what string, cond func() bool) {
	h.t.Helper()
	h.awaitOr(func() { h.t.Fatalf("waited %v in vain: %s", patience, what) }, cond)
}

func (h *harness) awaitOr(fail func(), cond func() bool) {
	h.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			fail()
		case <-again.C:
		}
	}
}

func (h *harness) apply(desired int, victims ...string) {
	h.t.Helper()
	if err := h.r.Apply(h.t.Context(), h.rev, desired, victims); err != nil {
		h.t.Fatalf("Apply(%d) = %v", desired, err)
	}
}

// all returns the events of a kind so far.
func (h *harness) all(kind localpods.EventKind) []localpods.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.events), func(e localpods.Event) bool { return e.Kind != kind })
}

// event waits for the n-th event of a kind, counted from 1.
func (h *harness) event(kind localpods.EventKind, n int) localpods.Event {
	h.t.Helper()
	h.await(fmt.Sprintf("event %d of kind %q", n, kind), func() bool { return len(h.all(kind)) >= n })
	return h.all(kind)[n-1]
}

// ready waits until the book has n ready endpoints and returns them.
func (h *harness) ready(n int) []endpoint.Endpoint {
	h.t.Helper()
	h.await(fmt.Sprintf("%d ready endpoints", n), func() bool { return h.book.Snapshot(h.rev).Count(endpoint.Ready) == n })
	return slices.DeleteFunc(slices.Clone(h.book.Snapshot(h.rev).Endpoints), func(e endpoint.Endpoint) bool { return e.State != endpoint.Ready })
}

// empty waits until the book has no endpoint.
func (h *harness) empty() {
	h.t.Helper()
	h.await("an empty book", func() bool { return len(h.book.Snapshot(h.rev).Endpoints) == 0 })
}

func (h *harness) failing() localpods.Health {
	h.t.Helper()
	h.await("failing health", func() bool { health, _ := h.r.Health(h.rev); return health.Failing })
	health, _ := h.r.Health(h.rev)
	return health
}

func (h *harness) checkNobodyLeft() {
	procs, err := procfs.Processes()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range procs {
		if p.PID != os.Getpid() && !p.Zombie && procfs.HasEnv(p.PID, h.mark) {
			h.t.Errorf("process %d is left behind", p.PID)
		}
	}
}

// get asks an endpoint, on a connection of its own.
func get(addr netip.AddrPort, path string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr.String() + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", path, resp.StatusCode, b)
	}
	return string(b), err
}

func (h *harness) story(e endpoint.Endpoint) story {
	h.t.Helper()
	body, err := get(e.Pod.Addr, "/")
	if err != nil {
		h.t.Fatal(err)
	}
	var s story
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		h.t.Fatalf("story %q: %v", body, err)
	}
	return s
}

// proxies is an InProcessSidecar made of net/http.
type proxies struct{}

func (proxies) StartInProcess(pod localpods.SidecarPod) (netip.AddrPort, func(context.Context) error, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	proxy := proxyTo(pod.App.String())
	if pod.Spec.Protocol == endpoint.H2C {
		var h2c http.Protocols
		h2c.SetUnencryptedHTTP2(true)
		proxy.Transport = &http.Transport{Protocols: &h2c, IdleConnTimeout: time.Millisecond}
	}
	srv := &http.Server{Handler: proxy}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(ln) }()
	stop := func(ctx context.Context) error {
		defer func() { <-served }()
		err := srv.Shutdown(ctx)
		return errors.Join(err, srv.Close())
	}
	return ln.Addr().(*net.TCPAddr).AddrPort(), stop, nil
}

// lockedBuilder is a strings.Builder for several goroutines.
type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

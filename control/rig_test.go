package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a loop in virtual time with pods that start after a delay.
type world struct {
	t     *testing.T
	loop  *Loop
	book  endpoint.Book
	began time.Time

	mu      sync.Mutex
	lines   []string // what happened, with the virtual time
	applied []Request
	events  []Event
	startup time.Duration
	failing error
	block   chan struct{} // Apply waits for it, when not nil
	serial  int
	live    map[identity.Revision][]string // pod UIDs
}

func (w *world) Apply(ctx context.Context, r Request) error {
	w.mu.Lock()
	w.applied = append(w.applied, r)
	w.lines = append(w.lines, fmt.Sprintf("%s %s %d→%d", time.Since(w.began), r.Revision.Name, r.From, r.Desired))
	failing, block := w.failing, w.block
	w.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if failing != nil {
		return failing
	}
	w.resize(r)
	return nil
}

// resize plays the part of the pods.
func (w *world) resize(r Request) {
	w.mu.Lock()
	pods := w.live[r.Revision]
	var gone []string
	for _, v := range r.Victims {
		for i, p := range pods {
			if p == v {
				gone = append(gone, p)
				pods = append(pods[:i:i], pods[i+1:]...)
				break
			}
		}
	}
	var come []string
	for len(pods) < r.Desired {
		w.serial++
		uid := fmt.Sprintf("pod-%d", w.serial)
		pods = append(pods, uid)
		come = append(come, uid)
	}
	w.live[r.Revision] = pods
	w.mu.Unlock()
	for _, uid := range come {
		e := endpoint.Endpoint{Pod: identity.Pod{UID: uid, Addr: netip.MustParseAddrPort("127.0.0.1:1")}, Sidecar: true}
		w.book.Publish(r.Revision, []endpoint.Endpoint{e})
		time.AfterFunc(w.startup, func() {
			e.State = endpoint.Ready
			w.book.Publish(r.Revision, []endpoint.Endpoint{e})
		})
	}
	if len(gone) > 0 {
		w.book.Publish(r.Revision, nil, gone...)
	}
}

func (w *world) observe(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// kinds returns the kinds of the events so far, once all goroutines rest.
func (w *world) kinds() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var ks []string
	for _, e := range w.events {
		ks = append(ks, fmt.Sprintf("%s %d→%d", e.Kind, e.From, e.To))
	}
	return ks
}

// story returns what was applied so far, with the virtual time, once all goroutines rest.
func (w *world) story() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.lines...)
}

// inWorld runs a test with a running loop; deps may change what the loop is given.
func inWorld(t *testing.T, cfg Config, deps func(*Deps), test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg, deps)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.loop.Run(ctx) }()
		synctest.Wait()
		test(w)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		time.Sleep(time.Hour) // virtual: pods that still start
	})
}

func newWorld(t *testing.T, cfg Config, change func(*Deps)) *world {
	t.Helper()
	w := &world{t: t, began: time.Now(), startup: 100 * time.Millisecond, live: make(map[identity.Revision][]string)}
	deps := Deps{Pods: &w.book, Observer: w.observe}
	if change != nil {
		change(&deps)
	}
	loop, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	w.loop = loop
	return w
}

// revisionOf resolves a revision of the service "hello" with annotations given by their bare names.
func revisionOf(t testing.TB, name string, annotations ...string) *config.Revision {
	t.Helper()
	in := config.Input{
		ID:          identity.Revision{Namespace: "default", Name: name, UID: "uid-" + name},
		Service:     "hello",
		Annotations: map[string]string{},
	}
	for i := 0; i < len(annotations); i += 2 {
		in.Annotations[config.PrefixAutoscaling+annotations[i]] = annotations[i+1]
	}
	rev, faults := config.Resolve(in)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return rev
}

func (w *world) add(rev *config.Revision) identity.Revision {
	w.t.Helper()
	if err := w.loop.Add(rev, Target{Scale: w}); err != nil {
		w.t.Fatal(err)
	}
	return rev.ID
}

// report sends one report of a producer about concurrency, of which proxied came through an activator.
func (w *world) report(id identity.Revision, pod string, concurrency, proxied float64) {
	w.loop.Report(message(id, pod, concurrency, proxied))
}

// message is a report. Queue-proxies tell for how long they have been up, and activators do not.
func message(id identity.Revision, pod string, concurrency, proxied float64) metrics.Message {
	uptime := 0.0
	if !strings.HasPrefix(pod, "activator") {
		uptime = 1
	}
	return metrics.Message{Namespace: id.Namespace, Name: id.Name, Stat: metrics.Stat{
		PodName: pod, AverageConcurrency: concurrency, AverageProxiedConcurrency: proxied, ProcessUptime: uptime,
		Extension: metrics.Extension{Version: metrics.ExtensionVersion, RevisionUID: id.UID},
	}}
}

// load reports once per second for so long, as an activator and one sidecar per pod would.
func (w *world) load(id identity.Revision, concurrency float64, d time.Duration) {
	for range int(d / time.Second) {
		w.report(id, "activator", concurrency, 0)
		for _, uid := range w.pods(id) {
			w.report(id, uid, concurrency, concurrency)
		}
		time.Sleep(time.Second)
	}
}

func (w *world) pods(id identity.Revision) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.live[id]...)
}

func (w *world) explain(id identity.Revision) Explanation {
	w.t.Helper()
	e, err := w.loop.Explain(id.Key())
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

var errRefused = errors.New("refused")

// routes is a ModeTarget that takes a while.
type routes struct {
	mu     sync.Mutex
	took   time.Duration
	err    error
	answer bool
	modes  []kpa.Mode
	asked  int
}

func (r *routes) SetMode(_ context.Context, req ModeRequest) error {
	time.Sleep(r.took)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.modes = append(r.modes, req.Mode)
	return r.err
}

func (r *routes) ActivatorAnswers(context.Context, identity.Revision) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return r.answer, nil
}

// answers says whether an activator answers from now on.
func (r *routes) answers(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = yes
}

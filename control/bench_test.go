package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

type nowhere struct{}

func (nowhere) Apply(context.Context, Request) error { return nil }

// fleet returns a loop with n revisions of three ready pods each.
func fleet(b testing.TB, n int) (*Loop, []identity.Revision) {
	b.Helper()
	book, ids := podsOf(n)
	return loopOver(b, book, ids), ids
}

func podsOf(revisions int) (*endpoint.Book, []identity.Revision) {
	book := &endpoint.Book{}
	ids := make([]identity.Revision, revisions)
	for i := range ids {
		name := fmt.Sprintf("rev-%05d", i)
		ids[i] = identity.Revision{Namespace: "default", Name: name, UID: "uid-" + name}
		var pods []endpoint.Endpoint
		for p := range 3 {
			pods = append(pods, endpoint.Endpoint{
				Pod:   identity.Pod{UID: podName(name, p), Addr: netip.MustParseAddrPort("10.0.0.1:8012")},
				State: endpoint.Ready, Sidecar: true,
			})
		}
		book.Publish(ids[i], pods)
	}
	return book, ids
}

func loopOver(b testing.TB, book *endpoint.Book, ids []identity.Revision) *Loop {
	b.Helper()
	loop, err := New(Config{}, Deps{Pods: book})
	if err != nil {
		b.Fatal(err)
	}
	for _, id := range ids {
		rev, faults := config.Resolve(config.Input{ID: id, Service: id.Name})
		if len(faults) > 0 {
			b.Fatal(faults)
		}
		if err := loop.Add(rev, Target{Scale: nowhere{}, Replicas: 3}); err != nil {
			b.Fatal(err)
		}
	}
	return loop
}

func podName(rev string, pod int) string { return fmt.Sprintf("%s-pod-%d", rev, pod) }

// BenchmarkReport is what one report costs, windows included: it is paid once per pod and second.
func BenchmarkReport(b *testing.B) {
	loop, ids := fleet(b, 1000)
	msgs := make([]metrics.Message, 0, 3*len(ids))
	for _, id := range ids {
		for p := range 3 {
			msgs = append(msgs, message(id, podName(id.Name, p), rand.Float64()*50, 0))
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		loop.Report(msgs[i%len(msgs)])
		i++
	}
}

// BenchmarkDecide is what one decision costs, observation included: it is paid once per revision and period.
func BenchmarkDecide(b *testing.B) {
	loop, ids := fleet(b, 1000)
	for _, id := range ids {
		loop.Report(message(id, podName(id.Name, 0), 100, 0))
	}
	rs := loop.all()
	now := loop.now()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		loop.decide(rs[i%len(rs)], now)
		i++
	}
}

// BenchmarkRevisionBytes is the memory of one revision with three pods and 60 s windows, configuration, reports and the
// subscription to its pods included; what the source of pods keeps for itself is not.
func BenchmarkRevisionBytes(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(bytesPerRevision(b, 2000), "B/revision")
	}
}

func bytesPerRevision(b testing.TB, n int) float64 {
	b.Helper()
	book, ids := podsOf(n)
	before := heap()
	loop := loopOver(b, book, ids)
	for _, id := range ids {
		for p := range 3 {
			loop.Report(message(id, podName(id.Name, p), 10, 0))
		}
	}
	for _, r := range loop.all() {
		loop.decide(r, loop.now())
	}
	used := float64(heap() - before)
	runtime.KeepAlive(loop)
	runtime.KeepAlive(ids)
	return used / float64(n)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestRevisionFitsItsBudget: thousands of revisions live in one process.
func TestRevisionFitsItsBudget(t *testing.T) {
	const budget = 4096
	if got := bytesPerRevision(t, 2000); got > budget {
		t.Errorf("a revision takes %.0f bytes, want at most %d", got, budget)
	} else {
		t.Logf("a revision takes %.0f bytes", got)
	}
}

// TestSteadyStateAllocatesNothing: neither a report nor a decision that changes nothing.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	loop, ids := fleet(t, 1)
	m := message(ids[0], podName(ids[0].Name, 0), 5, 0)
	loop.Report(m)
	r := loop.find(ids[0].Key())
	now := loop.now()
	loop.decide(r, now)
	if n := testing.AllocsPerRun(100, func() { loop.Report(m) }); n != 0 {
		t.Errorf("a report allocates %g times", n)
	}
	if n := testing.AllocsPerRun(100, func() { loop.decide(r, now) }); n != 0 {
		t.Errorf("a decision allocates %g times", n)
	}
}

func TestExplain(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1", "target", "10", "target-utilization-percentage", "100", "max-scale", "4"))
		w.load(id, 20, 10*time.Second)
		w.load(id, 100, 3*time.Second)
		e := w.explain(id)
		if e.Pods.Ready != 4 || e.Limit != "max-scale caps it" || e.Since.IsZero() || !e.Panic || e.Winner != "concurrency" {
			t.Errorf("explanation %+v", e)
		}
		var text strings.Builder
		e.WriteText(&text)
		for _, want := range []string{"default/hello (revision hello-1)", "4 ready", "max-scale caps it, since 2000-01-01", "set        max-scale = 4 by annotation autoscaling.knative.dev/max-scale", "panic      at most"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("text lacks %q:\n%s", want, text.String())
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	inWorld(t, Config{}, func(d *Deps) { d.Registerer = reg }, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		w.load(id, 100, 5*time.Second)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		for name, want := range map[string]float64{
			"autoscaler_actual_pods": 2, "autoscaler_requested_pods": 2, "autoscaler_desired_pods": 2,
			"autoscaler_stable_request_concurrency": 100, "autoscaler_target_concurrency_per_pod": 70, "autoscaler_panic_mode": 1,
		} {
			if got[name] != want {
				t.Errorf("%s = %g, want %g", name, got[name], want)
			}
		}
		if got["autoscaler_reports_total"] == 0 || got["autoscaler_immediate_decisions_total"] != 1 {
			t.Errorf("counters %v", got)
		}
	})
	if _, err := New(Config{}, Deps{Pods: &endpoint.Book{}, Registerer: reg}); err == nil {
		t.Error("a second loop on the same registry was accepted")
	}
}

var _ Ownership = Buckets{}

func ExampleLoop() {
	var book endpoint.Book
	loop, err := New(Config{}, Deps{
		Pods:     &book,
		Observer: func(e Event) { fmt.Println(e.Kind, e.From, "→", e.To) },
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = loop.Run(ctx) // always nil
	}()
	id := identity.Revision{Namespace: "default", Name: "hello-00001", UID: "1"}
	rev, _ := config.Resolve(config.Input{ID: id, Service: "hello"})
	applied := make(chan struct{})
	_ = loop.Add(rev, Target{Scale: scaleFunc(func(r Request) { close(applied) })}) // fails without a target only
	loop.Report(metrics.Message{Namespace: "default", Name: "hello-00001", Stat: metrics.Stat{PodName: "activator", AverageConcurrency: 1}})
	<-applied
	cancel()
	<-done
	// Output: waking 0 → 1
}

type scaleFunc func(Request)

func (f scaleFunc) Apply(_ context.Context, r Request) error { f(r); return nil }

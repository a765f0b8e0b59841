package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

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
	before := heapInUse()
	loop := loopOver(b, book, ids)
	for _, id := range ids {
		for p := range 3 {
			loop.Report(message(id, podName(id.Name, p), 10, 0))
		}
	}
	for _, r := range loop.all() {
		loop.decide(r, loop.now())
	}
	used := float64(heapInUse() - before)
	runtime.KeepAlive(loop)
	runtime.KeepAlive(ids)
	return used / float64(n)
}

func heapInUse() uint64 {
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

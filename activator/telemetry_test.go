package activator

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
)

func TestTelemetry(t *testing.T) {
	reg := prometheus.NewRegistry()
	tel, err := NewTelemetry(reg, func() float64 { return 7 })
	if err != nil {
		t.Fatal(err)
	}
	tel.Name(hello, Labels{"default", "hello", "hello", hello.Name})
	tel.Dispatched(hello, true, 10*time.Millisecond)
	tel.Done(hello, Outcome{Result: forward.Result{Status: 200}, Took: time.Millisecond, Tries: 3})
	tel.Done(hello, Outcome{Result: forward.Result{Cause: fault.ClientGone}, Took: time.Millisecond})
	for _, c := range []struct {
		name string
		got  prometheus.Collector
		want float64
	}{
		{"200", tel.requests.WithLabelValues("default", "hello", "hello", hello.Name, "200", "2xx"), 1},
		{"499", tel.requests.WithLabelValues("default", "hello", "hello", hello.Name, "499", "4xx"), 1},
		{"retries", tel.retries.WithLabelValues("default", "hello", "hello", hello.Name), 2},
		{"client_gone", tel.outcomes.WithLabelValues("default", "hello", "hello", hello.Name, "client_gone"), 1},
	} {
		if got := testutil.ToFloat64(c.got); got != c.want {
			t.Errorf("%s = %v, want %v", c.name, got, c.want)
		}
	}
	if n := testutil.CollectAndCount(tel.latencies); n != 2 {
		t.Errorf("%d histograms of latencies, want one per status", n)
	}
	if n := testutil.CollectAndCount(tel.cold); n != 1 {
		t.Errorf("%d cold start histograms, want 1", n)
	}
	tel.Forget(hello)
	if n := testutil.CollectAndCount(tel.requests); n != 0 {
		t.Errorf("%d series are left of a revision that is gone, want 0", n)
	}
}

// TestOddStatusesShareASeries: an application that makes up codes makes no series.
func TestOddStatusesShareASeries(t *testing.T) {
	tel, err := NewTelemetry(prometheus.NewRegistry(), func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	for status := 600; status <= 999; status++ {
		tel.Done(hello, Outcome{Result: forward.Result{Status: status}})
	}
	if n := testutil.CollectAndCount(tel.requests); n != 1 {
		t.Errorf("400 codes beyond 599 make %d series, want 1", n)
	}
	if got := testutil.ToFloat64(tel.requests.WithLabelValues(hello.Namespace, "", "", hello.Name, "other", "other")); got != 400 {
		t.Errorf("other = %v, want 400", got)
	}
}

// TestRemovedRevisionsLeaveNothing: each of a hundred revisions goes while a request is parked for it and another is in
// flight in a pod that is then left alone. Neither brings back what was forgotten.
func TestRemovedRevisionsLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		tel, err := NewTelemetry(reg, func() float64 { return 0 })
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, settings())
		w.deps.Observer, w.deps.Pods = tel, tel
		for i := range 100 {
			id := hello
			id.UID = fmt.Sprint("u-", i)
			tel.Name(id, Labels{"default", "hello", "hello", id.Name})
			w.Put(id, settings())
			w.ready(id)
			flying, parked := forwardtest.New("hello"), forwardtest.New("hello")
			gone := make(chan struct{})
			flying.OnForward = func(*forward.Pool) forward.Result {
				<-gone
				return forward.Result{Cause: fault.ConnectFailed, Retryable: true}
			}
			first := w.serve(flying)
			synctest.Wait()
			second := w.serve(parked)
			synctest.Wait()
			w.Remove(id)
			tel.Forget(id)
			close(gone)
			<-first
			<-second
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "queue_depth" {
				t.Errorf("%d series of %s are left, want 0", len(f.Metric), f.GetName())
			}
		}
		for c := range tel.revisions.values() {
			t.Errorf("revision %v is remembered", c.labels)
		}
	})
}

// TestForgottenWhileCounted: a request that was about to be counted when its revision was forgotten makes no series.
func TestForgottenWhileCounted(t *testing.T) {
	tel, err := NewTelemetry(prometheus.NewRegistry(), func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	tel.Name(hello, Labels{"default", "hello", "hello", hello.Name})
	c := tel.of(hello)
	tel.Forget(hello)
	if s := c.status(tel, 200); s != nil {
		t.Errorf("a series is made of a revision that was forgotten: %v", s)
	}
	if n := testutil.CollectAndCount(tel.latencies) + testutil.CollectAndCount(tel.requests); n != 0 {
		t.Errorf("%d series of a revision that is gone, want 0", n)
	}
}

// TestUnnamedRevisionsAreCounted: who names none gets each by its own name.
func TestUnnamedRevisionsAreCounted(t *testing.T) {
	tel, err := NewTelemetry(prometheus.NewRegistry(), func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	tel.Done(hello, Outcome{Result: forward.Result{Status: 200}, Tries: 1})
	if got := testutil.ToFloat64(tel.requests.WithLabelValues("default", "", "", hello.Name, "200", "2xx")); got != 1 {
		t.Errorf("counted %v, want 1", got)
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	tel, err := NewTelemetry(prometheus.NewRegistry(), func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	o := Outcome{Result: forward.Result{Status: 200}, Took: time.Millisecond, Tries: 1}
	tel.Done(hello, o)
	if allocs := testing.AllocsPerRun(100, func() { tel.Done(hello, o) }); allocs != 0 {
		t.Errorf("%v allocations per request, want 0", allocs)
	}
}

// TestMetricsAreDocumented compares the page that operators read with what is registered.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## Activator\n")
	if !found {
		t.Fatal("docs/metrics.md has no section Activator")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(section, -1) {
		documented[m[1]] = m[2]
	}
	reg := prometheus.NewRegistry()
	tel, err := NewTelemetry(reg, func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	tel.Name(hello, Labels{})
	tel.Done(hello, Outcome{Result: forward.Result{Status: 200}, Cold: &ColdStart{}})
	tel.Dispatched(hello, true, time.Second)
	tel.Ejected(hello, "a", Broken)
	tel.Probed(hello, "a", ProbeOK, time.Second)
	act, r := newDispatcher(t, Config{}, settings())
	publish(act, 1, readyPods(2, nil)...)
	get(t, r, 0)
	if err := tel.RegisterPods(reg, act); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	registered := map[string]string{}
	for _, f := range families {
		registered[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	if diff := cmp.Diff(documented, registered); diff != "" {
		t.Errorf("docs/metrics.md (-) and the registry (+) differ:\n%s", diff)
	}
}

// TestBalance: three and one requests in two pods.
func TestBalance(t *testing.T) {
	s := settings()
	s.ContainerConcurrency = 3
	a, r := newDispatcher(t, Config{}, s)
	if _, ok := r.balance(); ok {
		t.Error("there is a balance without pods")
	}
	publish(a, 1, readyPods(2, nil)...)
	for range 4 {
		get(t, r, 0) // packed: 3 and 1
	}
	if got, ok := r.balance(); !ok || got != 1.5 {
		t.Errorf("balance = %v, %v, want 1.5", got, ok)
	}
}

package activator

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/identity"
)

func revisionNo(i int) identity.Revision {
	return identity.Revision{Namespace: "default", Name: fmt.Sprintf("r-%05d", i), UID: fmt.Sprint("u-", i)}
}

// byName routes the host to the revision of that name.
type byName struct{}

func (byName) Route(x forward.Exchange) (Route, bool) {
	return Route{Revision: identity.Key{Namespace: "default", Name: string(x.Host())}}, true
}

// crowd is an activator with n revisions, each with one parked request. What happens to revisions 0 to 2 is up to the
// test; pods of revision i are at port i+1.
type crowd struct {
	*Activator
	stats     sink
	mu        sync.Mutex
	forwarded map[int]time.Time
	done      sync.WaitGroup
	all       []*forwardtest.Exchange
	hang      chan struct{} // ends what hangs
}

func newCrowd(t testing.TB, n int, observer Observer) *crowd {
	t.Helper()
	c := &crowd{forwarded: map[int]time.Time{}, hang: make(chan struct{})}
	a, err := New(Config{}, Deps{Router: byName{}, Stats: &c.stats, Observer: observer, NewPool: func(e endpoint.Endpoint) *forward.Pool {
		if e.Pod.Addr.Port() == 1 {
			<-c.hang
		}
		return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.Activator = a
	for i := range n {
		a.Put(revisionNo(i), settings())
	}
	return c
}

// wake parks a request for each revision.
func (c *crowd) wake(n int) {
	for i := range n {
		x := forwardtest.New(revisionNo(i).Name)
		x.OnForward = func(to *forward.Pool) forward.Result {
			c.mu.Lock()
			c.forwarded[i] = time.Now()
			c.mu.Unlock()
			if i == 2 { // its pod does not answer: the connection hangs
				_, _ = to.Ask(context.Background(), forward.Question{Path: "/"})
			}
			return served
		}
		c.all = append(c.all, x)
		c.done.Go(func() { c.Handler(false).ServeExchange(x) })
	}
}

func (c *crowd) ready(i int) {
	c.Update(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: revisionNo(i), Version: 1, Endpoints: []endpoint.Endpoint{{
		Pod: identity.Pod{UID: "p", Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(i+1))}, State: endpoint.Ready}}}})
}

// TestSlowRevisionsDelayNoOther wakes a hundred revisions at once. One's pool hangs while it is made, one's pods never
// come, one's pod does not answer: each of the others is served the moment its pod is there, and reported on time.
func TestSlowRevisionsDelayNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		c := newCrowd(t, n, nil)
		ctx, cancel := context.WithCancel(t.Context())
		c.done.Go(func() { _ = c.Run(ctx) })
		c.wake(n)
		synctest.Wait()
		began := time.Now()
		c.done.Go(func() { c.ready(0) }) // hangs in NewPool
		synctest.Wait()
		for i := 2; i < n; i++ { // 1 never comes
			c.ready(i)
		}
		synctest.Wait()
		for i := 2; i < n; i++ {
			if at, ok := c.forwarded[i]; !ok || at.Sub(began) != 0 {
				t.Errorf("revision %d was served: %v, %v after its pod came; want at once", i, ok, at.Sub(began))
			}
		}
		before := len(c.stats.copied())
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		reported := map[string]bool{}
		for _, m := range c.stats.copied()[before:] {
			reported[m.Name] = true
		}
		if len(reported) != n {
			t.Errorf("%d revisions were reported in the second, want all %d: also the one that hangs", len(reported), n)
		}
		close(c.hang)
		for _, x := range c.all {
			x.Leave()
		}
		cancel()
		c.done.Wait()
	})
}

// TestIdleRevisionsCost holds five thousand revisions that each have served a request and have a pod: none has a
// goroutine, and each has a bounded share of memory, metrics included.
func TestIdleRevisionsCost(t *testing.T) {
	const n = 5000
	tel, err := NewTelemetry(prometheus.NewRegistry(), func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var before, named, after runtime.MemStats
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	c := newCrowd(t, n, tel)
	close(c.hang)
	for i := range n {
		id := revisionNo(i)
		tel.Name(id, Labels{id.Namespace, "s", "s", id.Name})
		c.ready(i)
	}
	runtime.GC()
	runtime.ReadMemStats(&named)
	for i := range n {
		x := forwardtest.New(revisionNo(i).Name)
		c.Handler(false).ServeExchange(x)
		if x.Status != 200 {
			t.Fatalf("revision %d: status %d", i, x.Status)
		}
	}
	now := time.Now()
	for len(c.active.list) > 0 { // reports, until all are idle again
		now = now.Add(time.Second)
		for _, r := range c.active.take() {
			c.reportLoad(r, now)
		}
	}
	c.stats = sink{}
	runtime.GC()
	runtime.ReadMemStats(&after)
	fresh, used := (named.HeapAlloc-before.HeapAlloc)/n, (after.HeapAlloc-before.HeapAlloc)/n
	t.Logf("an idle revision costs %d bytes, one that has served %d", fresh, used)
	if g := runtime.NumGoroutine(); g > goroutines {
		t.Errorf("%d goroutines more for %d idle revisions, want none", g-goroutines, n)
	}
	if fresh > 4<<10 || used > 12<<10 {
		t.Errorf("an idle revision costs %d bytes, one that has served %d; want at most 4 and 12 KiB", fresh, used)
	}
	runtime.KeepAlive(c)
	runtime.KeepAlive(tel)
}

// BenchmarkWake100 wakes a hundred revisions at once, the first of which never gets a pod: how late the
// others are served after their pods came.
func BenchmarkWake100(b *testing.B) {
	const n = 100
	var late []time.Duration
	for b.Loop() {
		c := newCrowd(b, n, nil)
		c.wake(n)
		for c.Parked() < n {
			runtime.Gosched()
		}
		began := make([]time.Time, n)
		var all sync.WaitGroup
		for i := 3; i < n; i++ {
			all.Go(func() {
				began[i] = time.Now()
				c.ready(i)
			})
		}
		all.Wait()
		for _, x := range c.all[:3] {
			x.Leave()
		}
		c.done.Wait()
		for i, at := range c.forwarded {
			late = append(late, at.Sub(began[i]))
		}
	}
	slices.Sort(late)
	b.ReportMetric(float64(late[len(late)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(late[len(late)*999/1000].Microseconds()), "µs-p99.9")
}

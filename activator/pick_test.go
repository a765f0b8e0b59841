package activator

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// publish sets the revision's pods to these, all ready.
func publish(a *Activator, version uint64, eps ...endpoint.Endpoint) {
	for i := range eps {
		if !eps[i].Pod.Addr.IsValid() {
			eps[i].Pod.Addr = netip.MustParseAddrPort("127.0.0.1:1")
		}
	}
	slices.SortFunc(eps, func(a, b endpoint.Endpoint) int {
		if a.Pod.UID < b.Pod.UID {
			return -1
		}
		return 1
	})
	a.Update(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: hello, Version: version, Endpoints: eps}})
}

func readyPods(n int, zone func(i int) string) (eps []endpoint.Endpoint) {
	for i := range n {
		ep := endpoint.Endpoint{Pod: identity.Pod{UID: fmt.Sprintf("pod-%04d", i)}, State: endpoint.Ready}
		if zone != nil {
			ep.Zone = zone(i)
		}
		eps = append(eps, ep)
	}
	return eps
}

func newDispatcher(t testing.TB, cfg Config, s Settings) (*Activator, *revision) {
	t.Helper()
	a, err := New(cfg, Deps{Router: byHost{}, Stats: &sink{}, NewPool: func(e endpoint.Endpoint) *forward.Pool {
		return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr})
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.Put(hello, s)
	return a, a.revision(hello)
}

// get takes a slot that must be free.
func get(t testing.TB, r *revision, session uint64) *pod {
	t.Helper()
	p, _, err := r.acquire(breaker.NewWaiter(), session, false)
	if err != nil || p == nil {
		t.Fatalf("acquire = %v, %v, want a pod", p, err)
	}
	return p
}

var served = forward.Result{Status: 200}

// scan is what pick was before there were bitsets: it looks at one pod after the other.
func (o *rotation) scan(start int) *pod {
	for i := range o.pods {
		if p := o.pods[(start+i)%len(o.pods)]; p.available() {
			return p
		}
	}
	return nil
}

// TestPickAgainstScan compares the bitsets with the scan that looks at every pod, after each step of a random life.
func TestPickAgainstScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pods := rapid.IntRange(0, 200).Draw(t, "pods")
		limit := rapid.SampledFrom([]int{1, 3, 4, 7}).Draw(t, "limit")
		s := settings()
		s.ContainerConcurrency = limit
		a, err := New(Config{}, Deps{Router: byHost{}, Stats: &sink{}, NewPool: func(e endpoint.Endpoint) *forward.Pool {
			return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr})
		}})
		if err != nil {
			t.Fatal(err)
		}
		a.Put(hello, s)
		publish(a, 1, readyPods(pods, nil)...)
		r := a.revision(hello)
		var held []*pod
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				o := &r.rotations[all]
				start := 0
				if limit > firstFreeLimit {
					start = o.turn
				}
				want := o.scan(start)
				w := breaker.NewWaiter()
				got, _, err := r.acquire(w, 0, false)
				if err != nil || got != want {
					t.Fatalf("acquire = %v, %v; the scan finds %v", got, err, want)
				}
				if got == nil {
					w.Cancel(errTest)
					return
				}
				held = append(held, got)
			},
			"give": func(t *rapid.T) {
				if len(held) > 0 {
					i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
					held[i].release(served)
					held = slices.Delete(held, i, i+1)
				}
			},
			"": func(t *rapid.T) {
				for i, p := range r.rotations[all].pods {
					if r.rotations[all].free.has(i) != p.available() {
						t.Fatalf("pod %d: the bit says %v", i, !p.available())
					}
				}
				if r.rotations[all].busy != len(held) {
					t.Fatalf("busy = %d, want %d", r.rotations[all].busy, len(held))
				}
			},
		})
	})
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, limit := range []int{0, 1, 10} {
		for _, session := range []uint64{0, 7} {
			s := settings()
			s.ContainerConcurrency = limit
			s.Outlier = Outlier{Failures: 5}
			s.Zone = ZonePreference{On: true, Spill: 2}
			a, r := newDispatcher(t, Config{Zone: "z1"}, s)
			publish(a, 1, readyPods(300, func(i int) string { return fmt.Sprint("z", i%3) })...)
			w := breaker.NewWaiter()
			n := testing.AllocsPerRun(1000, func() {
				p, _, err := r.acquire(w, session, false)
				if err != nil {
					t.Fatal(err)
				}
				p.release(served)
			})
			if n != 0 {
				t.Errorf("limit %d, session %d: %v allocations per request, want 0", limit, session, n)
			}
		}
	}
}

// TestTwoChoicesBalance: without a limit the fullest pod stays near the average, which a single random choice would
// not achieve.
func TestTwoChoicesBalance(t *testing.T) {
	s := settings()
	s.ContainerConcurrency = 0
	a, r := newDispatcher(t, Config{}, s)
	publish(a, 1, readyPods(100, nil)...)
	for range 1000 {
		get(t, r, 0)
	}
	most := 0
	for _, n := range a.Use(hello) {
		most = max(most, n)
	}
	if most > 14 { // one choice gives about 18
		t.Errorf("the fullest of 100 pods has %d of 1000 requests, want at most 14", most)
	}
}

// BenchmarkPick is one request's turn, an acquire and a release, where one pod of so many has a free slot.
func BenchmarkPick(b *testing.B) {
	for _, pods := range []int{10, 100, 1000} {
		for _, way := range []string{"bitset", "scan", "session"} {
			b.Run(fmt.Sprintf("%d/%s", pods, way), func(b *testing.B) {
				s := settings()
				a, r := newDispatcher(b, Config{}, s)
				publish(a, 1, readyPods(pods, nil)...)
				var last *pod
				for range pods {
					last = get(b, r, 0)
				}
				last.release(served)
				session := uint64(0)
				if way == "session" {
					session = 42
				}
				w := breaker.NewWaiter()
				var found *pod
				b.ReportAllocs()
				for b.Loop() {
					if way == "scan" {
						found = r.rotations[all].scan(0)
					}
					p, _, _ := r.acquire(w, session, false)
					p.release(served)
				}
				_ = found
			})
		}
	}
}

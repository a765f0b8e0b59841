package activator

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/identity"
)

// dispatchModel drives a revision's dispatcher by its two halves, acquire and release, so that one goroutine plays
// every client, and believes nothing but its own books.
type dispatchModel struct {
	a        *Activator
	r        *revision
	limit    int
	grants   map[string]int
	ready    map[string]bool
	inFlight map[string]int
	above    map[string]bool // has more in flight than a lowered grant allows
	held     []*pod          // one per request in flight
	queue    []*breaker.Waiter
	freed    []string
}

var modelPods = []string{"a", "b", "c"}

func newDispatchModel(t *rapid.T) *dispatchModel {
	m := &dispatchModel{limit: rapid.IntRange(0, 5).Draw(t, "limit"),
		ready: map[string]bool{}, inFlight: map[string]int{}, above: map[string]bool{}}
	a, err := New(Config{}, Deps{Router: byHost{}, Stats: &sink{},
		NewPool: func(e endpoint.Endpoint) *forward.Pool {
			return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr})
		},
		Freed: func(rev identity.Revision, uid string) {
			if rev != hello {
				t.Fatalf("freed of %v, want %v", rev, hello)
			}
			m.freed = append(m.freed, uid)
		}})
	if err != nil {
		t.Fatal(err)
	}
	m.a = a
	m.configure()
	m.r = a.revision(hello)
	return m
}

func (m *dispatchModel) configure() {
	s := settings()
	s.ContainerConcurrency = m.limit
	m.a.Put(hello, s)
}

// room is what the pod may have in flight, granted what the leases say of that.
func (m *dispatchModel) room(uid string) int {
	if m.limit == 0 {
		return m.granted(uid)
	}
	return min(m.limit, m.granted(uid))
}

func (m *dispatchModel) granted(uid string) int {
	if m.grants == nil {
		return unlimited
	}
	return m.grants[uid]
}

func (m *dispatchModel) anyFree() bool {
	return slices.ContainsFunc(modelPods, func(uid string) bool { return m.ready[uid] && m.inFlight[uid] < m.room(uid) })
}

func (m *dispatchModel) request(t *rapid.T) {
	first := len(m.queue) > 0 && rapid.Bool().Draw(t, "dispatched before")
	w := breaker.NewWaiter()
	free := m.anyFree()
	p, _, err := m.r.acquire(w, 0, first)
	if err != nil {
		t.Fatal(err)
	}
	if (p != nil) != free {
		t.Fatalf("acquire gave a pod: %v, want %v", p != nil, free)
	}
	switch {
	case p != nil:
		m.took(t, p)
	case first:
		m.queue = slices.Insert(m.queue, 0, w)
	default:
		m.queue = append(m.queue, w)
	}
}

func (m *dispatchModel) took(t *rapid.T, p *pod) {
	if !m.ready[p.uid] || m.inFlight[p.uid] >= m.room(p.uid) {
		t.Fatalf("pod %s was given a request: ready %v, %d in flight, room for %d", p.uid, m.ready[p.uid], m.inFlight[p.uid], m.room(p.uid))
	}
	m.inFlight[p.uid]++
	m.held = append(m.held, p)
}

func (m *dispatchModel) finish(t *rapid.T) {
	if len(m.held) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.held)-1).Draw(t, "which")
	p := m.held[i]
	m.held = slices.Delete(m.held, i, i+1)
	m.inFlight[p.uid]--
	before := len(m.freed)
	m.a.tell(p, p.release(forward.Result{Status: 200}))
	fits := m.inFlight[p.uid] <= m.granted(p.uid)
	if told := len(m.freed) > before; told != (m.above[p.uid] && fits) {
		t.Fatalf("pod %s: freed was told: %v; was above its grant %v, fits now %v", p.uid, told, m.above[p.uid], fits)
	}
	if fits {
		m.above[p.uid] = false
	}
	m.served(t)
}

func (m *dispatchModel) leave(t *rapid.T) {
	if len(m.queue) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.queue)-1).Draw(t, "which")
	w := m.queue[i]
	m.queue = slices.Delete(m.queue, i, i+1)
	w.Cancel(errTest)
	if err := w.Wait(); !errors.Is(err, errTest) {
		t.Fatalf("Wait = %v, want %v", err, errTest)
	}
}

func (m *dispatchModel) grant(t *rapid.T) {
	m.grants = nil
	if rapid.IntRange(0, 4).Draw(t, "leases") > 0 {
		m.grants = map[string]int{}
		for _, uid := range modelPods {
			if n := rapid.IntRange(-1, 4).Draw(t, uid); n >= 0 {
				m.grants[uid] = n
			}
		}
	}
	m.a.Grant(hello, m.grants)
	for _, uid := range modelPods {
		m.above[uid] = m.inFlight[uid] > m.granted(uid)
	}
	m.served(t)
}

func (m *dispatchModel) resize(t *rapid.T) {
	m.limit = rapid.IntRange(0, 5).Draw(t, "to")
	m.configure()
	m.served(t)
}

func (m *dispatchModel) move(t *rapid.T) {
	uid := rapid.SampledFrom(modelPods).Draw(t, "pod")
	m.ready[uid] = !m.ready[uid]
	draining := rapid.Bool().Draw(t, "draining")
	var eps []endpoint.Endpoint
	for _, known := range modelPods {
		ep := endpoint.Endpoint{Pod: identity.Pod{UID: known, Addr: netip.MustParseAddrPort("127.0.0.1:1")}}
		if m.ready[known] {
			ep.State = endpoint.Ready
		} else if draining {
			ep.State = endpoint.Draining
		}
		eps = append(eps, ep)
	}
	m.a.Update(endpoint.Update{Snapshot: endpoint.Snapshot{Revision: hello, Endpoints: eps}})
	m.served(t)
}

// served takes over what the dispatcher handed out: always to the head of the queue.
func (m *dispatchModel) served(t *rapid.T) {
	for len(m.queue) > 0 && m.queue[0].Grant != nil {
		w := m.queue[0]
		m.queue = m.queue[1:]
		if err := w.Wait(); err != nil {
			t.Fatal(err)
		}
		m.took(t, podOf(w.Grant))
	}
}

func (m *dispatchModel) check(t *rapid.T) {
	for i, w := range m.queue {
		if w.Grant != nil {
			t.Fatalf("waiter %d of the queue was served before the head", i)
		}
	}
	if len(m.queue) > 0 && m.anyFree() {
		t.Fatal("somebody waits although a slot is free")
	}
	use := m.a.Use(hello)
	maps.DeleteFunc(use, func(_ string, n int) bool { return n == 0 })
	want := maps.Clone(m.inFlight)
	maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
	if diff := cmp.Diff(want, use); diff != "" {
		t.Fatalf("Use (-model +activator):\n%s", diff)
	}
	parked, inFlight, _ := m.a.Counts(hello)
	if parked != len(m.queue) || inFlight != len(m.held) {
		t.Fatalf("Counts = %d parked, %d in flight; want %d, %d", parked, inFlight, len(m.queue), len(m.held))
	}
}

// TestDispatcherAgainstModel plays random requests, ends, grants, limits and endpoint changes: no pod is ever given
// more than its grant and its limit allow, nobody waits while a slot is free, the queue is first in, first out.
func TestDispatcherAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newDispatchModel(t)
		t.Repeat(map[string]func(*rapid.T){"request": m.request, "finish": m.finish, "leave": m.leave,
			"grant": m.grant, "resize": m.resize, "move": m.move, "": m.check})
	})
}

// TestGrantComesBeforeOrAfterThePod: the outcome is the same.
func TestGrantComesBeforeOrAfterThePod(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprint(before), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := settings()
				s.ContainerConcurrency = 10
				w := newWorld(t, s)
				grants := map[string]int{"a": 2}
				if before {
					w.Grant(hello, grants)
				}
				w.pod("a", endpoint.Ready)
				if !before {
					w.Grant(hello, grants)
				}
				release := make(chan struct{})
				var all []chan struct{}
				for range 5 {
					x := forwardtest.New("hello")
					x.OnForward = func(*forward.Pool) forward.Result {
						<-release
						return forward.Result{Status: 200}
					}
					all = append(all, w.serve(x))
				}
				synctest.Wait()
				if diff := cmp.Diff(map[string]int{"a": 2}, w.Use(hello)); diff != "" {
					t.Errorf("in flight (-want +got):\n%s", diff)
				}
				w.Grant(hello, map[string]int{"a": 4})
				synctest.Wait()
				if diff := cmp.Diff(map[string]int{"a": 4}, w.Use(hello)); diff != "" {
					t.Errorf("in flight after the raise (-want +got):\n%s", diff)
				}
				close(release)
				for _, done := range all {
					<-done
				}
			})
		})
	}
}

package control

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// hands is an ActivatorSource with one activator.
type hands struct {
	mu       sync.Mutex
	requests int
	gone     bool
}

func (h *hands) set(requests int, gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests, h.gone = requests, gone
}

func (h *hands) Unheard(_ identity.Revision, heard func(string) bool) (requests int, connected bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return 0, false
	}
	if heard("activator") {
		return 0, true
	}
	return h.requests, true
}

// serving adds a revision with so many ready pods.
func (w *world) serving(pods int, sidecar bool, annotations ...string) identity.Revision {
	w.t.Helper()
	rev := revisionOf(w.t, "hello-1", append([]string{"target", "10", "target-utilization-percentage", "100"}, annotations...)...)
	var all []endpoint.Endpoint
	for i := range pods {
		e := endpoint.Endpoint{Pod: identity.Pod{UID: fmt.Sprintf("old-%02d", i), Addr: netip.MustParseAddrPort("127.0.0.1:1")}, Sidecar: sidecar, State: endpoint.Ready}
		w.live[rev.ID] = append(w.live[rev.ID], e.Pod.UID)
		all = append(all, e)
	}
	w.book.Publish(rev.ID, all)
	if err := w.loop.Add(rev, Target{Scale: w, Mode: &routes{answer: true}, Replicas: pods}); err != nil {
		w.t.Fatal(err)
	}
	return rev.ID
}

// have fails unless there are so many pods.
func (w *world) have(id identity.Revision, want int) {
	w.t.Helper()
	synctest.Wait()
	if n := len(w.pods(id)); n != want {
		w.t.Errorf("%d pods, want %d; applied %q, %s", n, want, w.story(), w.explain(id).Reason)
	}
}

// TestPodsThatAreNotHeardStay: their reports are cut off while they have requests, at any moment of a decision's period.
func TestPodsThatAreNotHeardStay(t *testing.T) {
	for phase := range 4 {
		for _, algorithm := range []string{"linear", "weighted-exponential"} {
			inWorld(t, Config{}, nil, func(w *world) {
				time.Sleep(time.Duration(phase) * 500 * time.Millisecond)
				id := w.serving(1, true, "target-burst-capacity", "0", "metric-aggregation-algorithm", algorithm)
				for range 70 {
					w.report(id, "old-00", 5, 0)
					time.Sleep(time.Second)
				}
				time.Sleep(5 * time.Minute)
				w.have(id, 1)
			})
		}
	}
}

// TestSomePodsThatAreNotHeard: those that are heard can ask for more pods, and not for fewer until the others have gone.
func TestSomePodsThatAreNotHeard(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.serving(10, true, "target-burst-capacity", "0")
		at := w.pods(id)
		tell := func(d time.Duration, each float64, pods ...string) {
			for range int(d / time.Second) {
				for _, uid := range pods {
					w.report(id, uid, each, 0)
				}
				time.Sleep(time.Second)
			}
		}
		tell(2*time.Minute, 10, at...)
		tell(5*time.Minute, 10, at[6:]...)
		w.have(id, 10)
		tell(2*time.Minute, 30, at[6:]...)
		w.have(id, 12)
		w.mu.Lock()
		w.live[id] = w.live[id][7:]
		w.mu.Unlock()
		w.book.Publish(id, nil, at[:7]...)
		tell(5*time.Minute, 9, at[7:]...)
		w.have(id, 3)
	})
}

// TestAPodThatIsNotReadyIsNotWaitedFor: its node may be lost with all that was in flight there.
func TestAPodThatIsNotReadyIsNotWaitedFor(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.serving(2, true, "target-burst-capacity", "0")
		for s := range 300 {
			if s == 150 {
				w.book.Publish(id, []endpoint.Endpoint{{Pod: identity.Pod{UID: "old-00", Addr: netip.MustParseAddrPort("127.0.0.1:1")}, Sidecar: true}})
			}
			if s < 150 {
				w.report(id, "old-00", 9, 0)
			}
			w.report(id, "old-01", 9, 0)
			time.Sleep(time.Second)
		}
		w.have(id, 1)
	})
}

// TestActivatorsThatAreNotHeard, where nobody else counts: what the last report said holds, until another way tells better.
func TestActivatorsThatAreNotHeard(t *testing.T) {
	for _, kind := range []struct {
		name    string
		sidecar bool
		tbc     string
	}{{"no queue-proxy", false, "211"}, {"no burst capacity", true, "-1"}} {
		for _, tc := range []struct {
			name      string
			last      float64
			activator *hands // as it is once its reports stay out; nil for no other way
			want      int
		}{
			{"it had requests", 5, nil, 1},
			{"it had none", 0, nil, 0},
			{"it has requests", 5, &hands{requests: 5}, 1},
			{"it has some by now", 0, &hands{requests: 1}, 1},
			{"only its last report was lost", 5, &hands{}, 0},
			{"it has gone, and there is no other", 0, &hands{gone: true}, 1},
		} {
			t.Run(kind.name+", "+tc.name, func(t *testing.T) {
				h := &hands{}
				inWorld(t, Config{}, func(d *Deps) {
					if tc.activator != nil {
						d.Activators = h
					}
				}, func(w *world) {
					id := w.serving(1, kind.sidecar, "target-burst-capacity", kind.tbc)
					for range 100 {
						w.report(id, "activator", 5, 0)
						time.Sleep(time.Second)
					}
					w.report(id, "activator", tc.last, 0)
					if tc.activator != nil {
						h.set(tc.activator.requests, tc.activator.gone)
					}
					time.Sleep(5 * time.Minute)
					w.have(id, tc.want)
				})
			})
		}
	}
}

// TestActivatorsThatPodsTellOf: queue-proxies have requests from activators, who alone count them, and report nothing.
func TestActivatorsThatPodsTellOf(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.serving(2, true)
		for s := range 400 {
			for _, uid := range w.pods(id) {
				w.report(id, uid, 8, 8)
			}
			if s < 100 {
				w.report(id, "activator", 16, 0)
			} else if s == 100 {
				w.report(id, "activator", 0, 0)
			}
			time.Sleep(time.Second)
		}
		w.have(id, 2)
	})
}

// TestWhatCannotStartGoesToZero: a request is parked for a minute and refused, and then activators say nothing more; at any
// moment of a decision's period, and however long that is.
func TestWhatCannotStartGoesToZero(t *testing.T) {
	for _, period := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second} {
		for phase := range 5 {
			inWorld(t, Config{Period: period}, nil, func(w *world) {
				w.startup = 100 * 24 * time.Hour
				rev := revisionOf(t, "hello-1")
				if err := w.loop.Add(rev, Target{Scale: w, Mode: &routes{answer: true}}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute + period*time.Duration(phase)/5)
				for range 60 {
					w.report(rev.ID, "activator", 1, 0)
					time.Sleep(time.Second)
				}
				w.report(rev.ID, "activator", 0, 0)
				time.Sleep(20 * time.Minute)
				synctest.Wait()
				if e := w.explain(rev.ID); e.Pods.Requested != 0 {
					t.Errorf("period %v, phase %d: %d pods are asked for long after the last request: %s", period, phase, e.Pods.Requested, e.Reason)
				}
			})
		}
	}
}

// TestATakeoverInTheMiddleOfReports: who takes over has heard only some pods for a while, since the others reported to the
// former owner and look for another.
func TestATakeoverInTheMiddleOfReports(t *testing.T) {
	own := &owner{}
	inWorld(t, Config{}, func(d *Deps) { d.Ownership = own }, func(w *world) {
		id := w.serving(10, true, "target-burst-capacity", "0")
		for s := range 160 {
			if s == 90 {
				own.Store(true)
			}
			for i, uid := range w.pods(id) {
				if i < 2 || s < 80 || s > 100 {
					w.report(id, uid, 10, 0)
				}
			}
			time.Sleep(time.Second)
		}
		w.kept(10)
	})
}

var _ ActivatorSource = (*hands)(nil)

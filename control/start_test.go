package control

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// met adds a revision whose pods were there before the loop. As in a cluster, they become known after it, and their
// number before them.
func (w *world) met(rev *config.Revision, pods, ready int, own func()) {
	w.t.Helper()
	if rev.Scaling.InitialScale.V == 1 {
		rev.Scaling.InitialScale.V = 0 // as it is for every workload in a cluster
	}
	if err := w.loop.Add(rev, Target{Scale: w, Mode: &routes{answer: true}, Replicas: pods}); err != nil {
		w.t.Fatal(err)
	}
	w.told(rev.ID, pods)
	own()
	synctest.Wait()
	var all []endpoint.Endpoint
	for i := range pods {
		e := endpoint.Endpoint{Pod: identity.Pod{UID: fmt.Sprintf("old-%02d", i), Addr: netip.MustParseAddrPort("127.0.0.1:1")}, Sidecar: true}
		if i < ready {
			e.State = endpoint.Ready
		}
		w.live[rev.ID] = append(w.live[rev.ID], e.Pod.UID)
		all = append(all, e)
	}
	w.book.Publish(rev.ID, all)
}

// kept fails when a pod was taken away, and tells the reasons.
func (w *world) kept(pods int) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.applied {
		if r.Desired < pods {
			w.t.Errorf("after %v: %d→%d because %s, want no fewer than %d", time.Since(w.began), r.From, r.Desired, r.Reason, pods)
		}
	}
}

// TestAStartTakesNothingAway: control starts while ten pods are busy, and learns of it bit by bit.
func TestAStartTakesNothingAway(t *testing.T) {
	for name, annotations := range map[string][]string{
		"no bounds":        nil,
		"min-scale":        {"min-scale", "2"},
		"activation-scale": {"activation-scale", "3"},
		"schedule":         {"min-scale", "1"},
	} {
		for phase := range 10 { // the first turn of the wheel comes before or after what else there is
			t.Run(fmt.Sprint(name, " ", phase), func(t *testing.T) {
				own := &owner{}
				inWorld(t, Config{Growth: 2}, func(d *Deps) { d.Ownership = own }, func(w *world) {
					time.Sleep(time.Duration(phase) * 200 * time.Millisecond)
					rev := revisionOf(t, "hello-1", append([]string{"target", "10"}, annotations...)...)
					w.met(rev, 10, 10, func() {})
					if err := w.loop.SetFloor(rev.ID, 1); name == "schedule" && err != nil {
						t.Fatal(err)
					}
					time.Sleep(200 * time.Millisecond)
					own.Store(true)
					time.Sleep(800 * time.Millisecond)
					for s := range 59 {
						for i, uid := range w.pods(rev.ID) {
							if i < 4 || s > 5 { // the others take a while to come back
								w.report(rev.ID, uid, 7, 0)
							}
						}
						time.Sleep(time.Second)
					}
					w.kept(10)
				})
			})
		}
	}
}

// TestAStartInABurst: pods that start count like those that are ready.
func TestAStartInABurst(t *testing.T) {
	for ready := range 3 {
		inWorld(t, Config{Growth: 2}, nil, func(w *world) {
			rev := revisionOf(t, "hello-1", "target", "10")
			w.met(rev, 20, ready, func() {})
			for s := range 30 {
				w.report(rev.ID, "activator-1", 70, 0)
				if s > 2 {
					w.report(rev.ID, "activator-2", 70, 0)
				}
				time.Sleep(time.Second)
			}
			w.kept(20)
		})
	}
}

// TestOptingInTakesNothingAway: a live workload comes to an instance that owns it at once, and nothing is known of its load.
// A bound asks for more pods then, and only max-scale for fewer: for as many as it allows.
func TestOptingInTakesNothingAway(t *testing.T) {
	for _, tc := range []struct {
		name        string
		annotations []string
		ready, want int
	}{
		{"min-scale below", []string{"min-scale", "2"}, 10, 10},
		{"min-scale below, nothing ready yet", []string{"min-scale", "2"}, 0, 10},
		{"min-scale above", []string{"min-scale", "12"}, 10, 12},
		{"activation-scale", []string{"activation-scale", "3"}, 10, 10},
		{"initial-scale", []string{"initial-scale", "4"}, 10, 10},
		{"max-scale below", []string{"min-scale", "2", "max-scale", "5"}, 10, 5},
		{"max-scale above", []string{"min-scale", "2", "max-scale", "20"}, 10, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			own := &owner{}
			own.Store(true)
			inWorld(t, Config{Growth: 2}, func(d *Deps) { d.Ownership = own }, func(w *world) {
				rev := revisionOf(t, "hello-1", tc.annotations...)
				w.met(rev, 10, tc.ready, func() {})
				time.Sleep(50 * time.Second)
				w.kept(min(tc.want, 10))
				if e := w.explain(rev.ID); e.Pods.Requested != tc.want {
					t.Errorf("%d pods are asked for, want %d", e.Pods.Requested, tc.want)
				}
			})
		})
	}
}

// TestScaleToZeroThatIsOffTakesNothingAway either: it asks for one pod at least.
func TestScaleToZeroThatIsOffTakesNothingAway(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		rev := revisionOf(t, "hello-1")
		rev.Scaling.EnableScaleToZero.V = false
		w.met(rev, 10, 10, func() {})
		time.Sleep(50 * time.Second)
		w.kept(10)
	})
}

// TestANewRevisionIsNotInPanic because it begins with several pods.
func TestANewRevisionIsNotInPanic(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		rev := revisionOf(t, "hello-1", "initial-scale", "3")
		if err := w.loop.Add(rev, Target{Scale: w, Replicas: 3, New: true}); err != nil {
			t.Fatal(err)
		}
		if e := w.explain(rev.ID); e.Panic {
			t.Error("in panic")
		}
	})
}

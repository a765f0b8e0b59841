package control

import (
	"errors"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/identity"
)

// told is what is said about the scale of a revision by somebody else than its target's answers.
func (w *world) told(id identity.Revision, all ...int) {
	w.t.Helper()
	for _, n := range all {
		if err := w.loop.SetReplicas(id, n); err != nil {
			w.t.Error(err)
		}
	}
}

// held is a revision with one pod whose next request, to 0, is under way and ends with outcome once answer is called.
func held(w *world, outcome error) (id identity.Revision, answer func()) {
	w.t.Helper()
	id = w.add(revisionOf(w.t, "r", "window", "6s", "scale-to-zero-pod-retention-period", "0s"))
	w.report(id, "activator", 1, 0)
	w.told(id, 1)
	w.load(id, 1, 2*time.Second)
	block := make(chan struct{})
	w.mu.Lock()
	w.block, w.failing = block, outcome
	w.mu.Unlock()
	last := func() Request {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.applied[len(w.applied)-1]
	}
	for began := time.Now(); last().Desired != 0; {
		if w.load(id, 0, time.Second); time.Since(began) > time.Minute {
			w.t.Fatalf("the last request is %+v, want one from 1 to 0", last())
		}
	}
	<-time.After(300 * time.Millisecond) // no decision is due now
	return id, func() {
		close(block)
		w.story()
		w.mu.Lock()
		w.failing, w.block, w.lines = nil, nil, nil
		w.mu.Unlock()
	}
}

// TestALostAnswer: the server has set the scale to 0, and the answer was lost. A request that comes afterwards wakes the
// revision, whenever the watch tells of it.
func TestALostAnswer(t *testing.T) {
	lost := errors.New("connection reset by peer")
	for name, tc := range map[string]struct {
		outcome       error
		before, after []int // told before and after the answer
	}{
		"told before":      {lost, []int{0}, nil},
		"told twice":       {lost, []int{1, 0}, nil},
		"told after":       {lost, nil, []int{0}},
		"it was not lost":  {nil, []int{0}, nil},
		"and is told late": {nil, nil, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Config{}, nil, func(w *world) {
				id, answer := held(w, tc.outcome)
				w.told(id, tc.before...)
				answer()
				w.told(id, tc.after...)
				w.book.Publish(id, nil, w.pods(id)...) // the pod goes
				w.mu.Lock()
				w.live[id] = nil
				w.mu.Unlock()
				w.load(id, 1, 5*time.Second) // one request is parked
				if n := len(w.pods(id)); n != 1 {
					t.Errorf("%d pods for a request that is parked, want 1; applied %q", n, w.story())
				}
			})
		})
	}
}

// TestWhatIsToldDuringARequest is of before it or of after it: the last word counts, a while later; at once when the request
// has failed.
func TestWhatIsToldDuringARequest(t *testing.T) {
	for _, tc := range []struct {
		name     string
		outcome  error
		before   []int // told while the request to 0 is under way
		after    []int // once it is through
		soon, at int   // what the scale is believed to be
	}{
		{"nothing else", nil, nil, []int{0}, 0, 0},
		{"an event of before", nil, []int{1}, []int{0}, 0, 0},
		{"somebody else's change, together with ours", nil, []int{4}, nil, 0, 4},
		{"somebody else's change, after ours", nil, []int{0, 4}, nil, 0, 4},
		{"somebody else's change, after it was through", nil, nil, []int{0, 4}, 4, 4},
		{"failed", errRefused, nil, nil, 1, 1},
		{"failed, and somebody else's change", errRefused, []int{4}, nil, 4, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, Config{}, nil, func(w *world) {
				id, answer := held(w, tc.outcome)
				r := w.loop.find(id.Key())
				believed := func(when string, after time.Duration, want int) {
					t.Helper()
					r.mu.Lock()
					defer r.mu.Unlock()
					r.heed(w.loop.now().Add(after))
					if r.replicas != want {
						t.Errorf("%s: believed to be %d, want %d", when, r.replicas, want)
					}
				}
				w.told(id, tc.before...)
				answer()
				w.told(id, tc.after...)
				believed("at once", 0, tc.soon)
				believed("a while later", hearsay, tc.at)
			})
		})
	}
}

// TestAFormerOwnerAsksForNothing that still waited when another got the revision.
func TestAFormerOwnerAsksForNothing(t *testing.T) {
	for name, keeps := range map[string]bool{"it keeps it": true, "another has it": false} {
		t.Run(name, func(t *testing.T) {
			own := &owner{}
			own.Store(true)
			inWorld(t, Config{}, func(d *Deps) { d.Ownership = own }, func(w *world) {
				block := make(chan struct{})
				w.block = block
				id := w.add(revisionOf(t, "r"))
				w.report(id, "activator", 1, 0)
				w.story()
				w.report(id, "activator", 700, 0)
				if err := w.loop.Decide(id); err != nil {
					t.Fatal(err)
				}
				own.Store(keeps)
				close(block)
				want := 1
				if keeps {
					want = 2
				}
				if story := w.story(); len(story) != want {
					t.Errorf("applied %q, want %d requests", story, want)
				}
				if e := w.explain(id); !keeps && e.Pods.Requested != 1 {
					t.Errorf("it believes that %d pods were asked for, want the one that was", e.Pods.Requested)
				}
			})
		})
	}
}

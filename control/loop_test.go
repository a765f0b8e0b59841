package control

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

func diff(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestFirstDemandWakesAtOnce(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		time.Sleep(3500 * time.Millisecond)
		w.report(id, "activator", 1, 0)
		diff(t, "applied", []string{"3.5s hello-1 0→1"}, w.story())
		diff(t, "events", []string{"waking 0→1"}, w.kinds())
	})
}

func TestNewRevisionWakesBeforeItsFirstTurn(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		w.report(id, "activator", 1, 0)
		diff(t, "applied", []string{"0s hello-1 0→1"}, w.story())
	})
}

func TestWakeAfterSleep(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1", "window", "6s"))
		w.load(id, 3, 4*time.Second)
		w.load(id, 0, 40*time.Second)
		story := w.story()
		if len(story) != 2 || !strings.HasSuffix(story[1], "1→0") {
			t.Fatalf("applied %q, want one wake and one sleep", story)
		}
		time.Sleep(time.Minute)
		w.report(id, "activator", 1, 0)
		story = w.story()
		if got, want := story[len(story)-1], time.Since(w.began).String()+" hello-1 0→1"; got != want {
			t.Errorf("last applied %q, want %q", got, want)
		}
		diff(t, "events", []string{"waking 0→1", "asleep 1→0", "waking 0→1"}, w.kinds())
	})
}

func TestProxiedShareCountsOnce(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1", "target", "10", "target-utilization-percentage", "100"))
		w.load(id, 10, 20*time.Second) // the activator and the pod both report the same 10
		if e := w.explain(id); e.Observed[0].Stable != 10 || e.Pods.Ready != 1 {
			t.Errorf("stable = %g with %d pods, want 10 with 1", e.Observed[0].Stable, e.Pods.Ready)
		}
	})
}

func TestScaleUpAndPanic(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1", "target", "10", "target-utilization-percentage", "100"))
		w.load(id, 10, 70*time.Second)
		w.load(id, 40, 10*time.Second)
		w.load(id, 10, 90*time.Second)
		ks := w.kinds()
		for _, want := range []string{"waking 0→1", "panic begins 0→0", "panic ends 0→0"} {
			if !slices.Contains(ks, want) {
				t.Errorf("events %q lack %q", ks, want)
			}
		}
		if n := len(w.pods(id)); n != 1 {
			t.Errorf("%d pods in the end, want 1", n)
		}
	})
}

func TestDecisionsAreSpreadOverThePeriod(t *testing.T) {
	inWorld(t, Config{Slots: 4}, nil, func(w *world) {
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			w.add(revisionOf(t, name))
		}
		synctest.Wait()
		before := w.loop.counts.decisions.Load()
		for step := 1; step <= 8; step++ {
			time.Sleep(500*time.Millisecond + 1)
			synctest.Wait()
			if got := w.loop.counts.decisions.Load() - before; got != uint64(2*step) {
				t.Fatalf("%d decisions after step %d, want %d", got, step, 2*step)
			}
		}
	})
}

func TestSlowTargetHoldsUpNobodyElse(t *testing.T) {
	inWorld(t, Config{Workers: 2}, nil, func(w *world) {
		slow := w.add(revisionOf(t, "slow", "target", "1", "target-utilization-percentage", "100"))
		other := w.add(revisionOf(t, "other"))
		w.mu.Lock()
		w.block = make(chan struct{})
		block := w.block
		w.mu.Unlock()
		w.report(slow, "activator", 1, 0)
		synctest.Wait()
		w.mu.Lock()
		w.block = nil
		w.mu.Unlock()
		w.report(other, "activator", 1, 0)
		w.report(slow, "activator", 7, 0)
		time.Sleep(2 * time.Second)
		w.report(slow, "activator", 11, 0)
		time.Sleep(2 * time.Second)
		diff(t, "before", []string{"0s slow 0→1", "0s other 0→1"}, w.story())
		close(block)
		story := w.story()
		if len(story) != 3 || !strings.HasPrefix(story[2], "4s slow 1→") {
			t.Errorf("applied %q, want one newest request after the first was through", story)
		}
	})
}

func TestFailedRequestIsAskedForAgain(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		w.failing = errRefused
		time.Sleep(time.Second)
		w.report(id, "activator", 1, 0)
		time.Sleep(3 * time.Second)
		w.mu.Lock()
		w.failing = nil
		w.mu.Unlock()
		time.Sleep(2 * time.Second)
		story := w.story()
		if len(story) != 3 || len(w.pods(id)) != 1 {
			t.Errorf("applied %q with %d pods, want three attempts and one pod", story, len(w.pods(id)))
		}
		// The second failure says nothing new.
		diff(t, "events", []string{"waking 0→1", "apply failed 0→1"}, w.kinds())
		if !errors.Is(w.events[1].Err, errRefused) {
			t.Errorf("error %v, want that of the target", w.events[1].Err)
		}
	})
}

func TestBoundsChangeLive(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		w.load(id, 1, 4*time.Second)
		w.add(revisionOf(t, "hello-1", "min-scale", "3"))
		w.load(id, 1, 3*time.Second)
		if n := len(w.pods(id)); n != 3 {
			t.Errorf("%d pods after min-scale was raised to 3", n)
		}
		if e := w.explain(id); e.Limit != "min-scale raises it" || e.Observed[0].Stable != 1 {
			t.Errorf("limit %q, stable %g: want min-scale with the window kept at 1", e.Limit, e.Observed[0].Stable)
		}
	})
}

func TestVictimsAreTheIdlest(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1", "min-scale", "4"))
		time.Sleep(time.Second)
		w.add(revisionOf(t, "hello-1", "min-scale", "1"))
		busy := []float64{3, 0, 5, 1} // of pod-1 … pod-4; some of it came through an activator
		for range 80 {
			w.report(id, "activator", 5, 0)
			for i, uid := range []string{"pod-1", "pod-2", "pod-3", "pod-4"} {
				w.report(id, uid, busy[i], float64(i%3)/2*busy[i])
			}
			time.Sleep(time.Second)
		}
		diff(t, "left", []string{"pod-3"}, w.pods(id))
		w.mu.Lock()
		defer w.mu.Unlock()
		var victims []string
		for _, r := range w.applied {
			victims = append(victims, r.Victims...)
		}
		diff(t, "victims", []string{"pod-2", "pod-4", "pod-1"}, victims)
	})
}

func TestUIDsGuardAgainstReuse(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		stale := id
		stale.UID = "an older one"
		w.report(stale, "activator", 1, 0)
		diff(t, "applied", []string(nil), w.story())
		noUID := id
		noUID.UID = "" // Knative's producers know none
		w.report(noUID, "activator", 1, 0)
		diff(t, "applied", []string{"0s hello-1 0→1"}, w.story())
		if err := w.loop.SetReplicas(stale, 1); !errors.Is(err, ErrUnknownRevision) {
			t.Errorf("SetReplicas of another UID = %v", err)
		}
	})
}

func TestRemovedRevisionIsLeftAlone(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		w.loop.Remove(id)
		w.loop.Remove(id)
		w.report(id, "activator", 1, 0)
		w.book.Publish(id, []endpoint.Endpoint{{Pod: identity.Pod{UID: "late"}}})
		time.Sleep(10 * time.Second)
		diff(t, "applied", []string(nil), w.story())
		if _, err := w.loop.Explain(id.Key()); !errors.Is(err, ErrUnknownRevision) {
			t.Errorf("Explain = %v", err)
		}
	})
}

func TestModeFollowsBurstCapacity(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		rt := &routes{took: 300 * time.Millisecond, answer: true}
		rev := revisionOf(t, "hello-1", "target-burst-capacity", "50", "window", "6s")
		if err := w.loop.Add(rev, Target{Scale: w, Mode: rt}); err != nil {
			t.Fatal(err)
		}
		w.load(rev.ID, 1, 10*time.Second)
		e := w.explain(rev.ID)
		if e.Mode != "serve" || e.Excess != 49 {
			t.Errorf("mode %s with excess %d, want serve with 49", e.Mode, e.Excess)
		}
		w.load(rev.ID, 0, 60*time.Second)
		if n := len(w.pods(rev.ID)); n != 0 || rt.asked == 0 {
			t.Errorf("%d pods, %d probes: want none left, and the address probed before", n, rt.asked)
		}
		rt.mu.Lock()
		defer rt.mu.Unlock()
		diff(t, "modes", []kpa.Mode{kpa.Proxy, kpa.Serve, kpa.Proxy}, slices.Compact(rt.modes))
	})
}

func TestLastPodStaysUntilAnActivatorAnswers(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		rt := &routes{answer: false}
		rev := revisionOf(t, "hello-1", "window", "6s")
		if err := w.loop.Add(rev, Target{Scale: w, Mode: rt}); err != nil {
			t.Fatal(err)
		}
		w.load(rev.ID, 1, 10*time.Second)
		w.load(rev.ID, 0, 2*time.Minute)
		if n := len(w.pods(rev.ID)); n != 1 {
			t.Errorf("%d pods while no activator answers, want 1", n)
		}
		rt.mu.Lock()
		rt.answer = true
		rt.mu.Unlock()
		w.load(rev.ID, 0, 10*time.Second)
		if n := len(w.pods(rev.ID)); n != 0 {
			t.Errorf("%d pods after an activator answered, want 0", n)
		}
	})
}

type owner struct{ atomic.Bool }

func (o *owner) Owns(identity.Revision) bool { return o.Load() }

func TestNewOwnerAsksAgain(t *testing.T) {
	own := &owner{}
	inWorld(t, Config{}, func(d *Deps) { d.Ownership = own }, func(w *world) {
		id := w.add(revisionOf(t, "hello-1"))
		w.load(id, 1, 10*time.Second)
		diff(t, "applied before", []string(nil), w.story())
		if e := w.explain(id); e.Raw != 1 || e.Owner {
			t.Errorf("raw = %d, owner %v: want 1 decided but not applied", e.Raw, e.Owner)
		}
		own.Store(true)
		w.load(id, 1, 3*time.Second)
		if story := w.story(); len(story) != 1 {
			t.Errorf("applied %q, want one request of the new owner", story)
		}
	})
}

// TestProofsOfAFormerTermCountNothing: an owner that gets a revision back believes neither that an activator answers nor
// that traffic goes where it led it.
func TestProofsOfAFormerTermCountNothing(t *testing.T) {
	own := &owner{}
	own.Store(true)
	inWorld(t, Config{}, func(d *Deps) { d.Ownership = own }, func(w *world) {
		rt := &routes{answer: true}
		rev := revisionOf(t, "hello-1", "window", "6s", "scale-to-zero-pod-retention-period", "30s", "target-burst-capacity", "50")
		if err := w.loop.Add(rev, Target{Scale: w, Mode: rt}); err != nil {
			t.Fatal(err)
		}
		expect := func(when string, pods int, modes ...kpa.Mode) {
			t.Helper()
			synctest.Wait()
			rt.mu.Lock()
			defer rt.mu.Unlock()
			if n := len(w.pods(rev.ID)); n != pods {
				t.Errorf("%s: %d pods, want %d", when, n, pods)
			}
			diff(t, "modes "+when, modes, slices.Compact(rt.modes))
			rt.modes = nil
		}
		w.load(rev.ID, 1, 10*time.Second)
		w.load(rev.ID, 0, 15*time.Second)
		synctest.Wait()
		if r := w.loop.find(rev.ID.Key()); r.path.Probe != kpa.ProbeOK {
			t.Fatal("there is no proof yet")
		}
		expect("idle", 1, kpa.Proxy, kpa.Serve, kpa.Proxy)
		own.Store(false)
		rt.mu.Lock()
		rt.answer = false
		rt.mu.Unlock()
		w.load(rev.ID, 0, time.Minute)
		expect("of another owner", 1)
		own.Store(true)
		w.load(rev.ID, 0, 10*time.Second)
		expect("back, and no activator answers", 1, kpa.Proxy)
		rt.mu.Lock()
		rt.answer = true
		rt.mu.Unlock()
		w.load(rev.ID, 0, 10*time.Second)
		expect("an activator answers", 0)
		own.Store(false)
		w.load(rev.ID, 0, 10*time.Second)
		own.Store(true)
		w.load(rev.ID, 1, 10*time.Second)
		expect("back again, under load", 1, kpa.Proxy, kpa.Serve)
	})
}

func TestBucketsCoverEveryRevisionOnce(t *testing.T) {
	for _, name := range []string{"a", "b", "c", "hello-00001"} {
		owners := 0
		for i := range 5 {
			b := Buckets{Count: 5, Holds: func(n int) bool { return n == i }}
			if b.Owns(identity.Revision{Namespace: "default", Name: name}) {
				owners++
			}
		}
		if owners != 1 {
			t.Errorf("%s has %d owners", name, owners)
		}
	}
}

// TestRestartMovesNoDecision: a successor with the snapshot decides as the loop would have that never stopped.
func TestRestartMovesNoDecision(t *testing.T) {
	settings := []string{"target", "10", "target-utilization-percentage", "100"}
	curve := func(second int) float64 { return float64(5 + 40*(second/15%2)) }
	run := func(restartAt int) (pods []int) {
		inWorld(t, Config{}, nil, func(w *world) {
			id := w.add(revisionOf(t, "hello-1", settings...))
			for s := range 150 {
				if s == restartAt {
					w.restart(t, id, settings)
				}
				w.load(id, curve(s), time.Second)
				pods = append(pods, len(w.pods(id)))
			}
		})
		return pods
	}
	unbroken := run(-1)
	for _, at := range []int{20, 37, 64, 91} {
		for s, n := range run(at) {
			if d := n - unbroken[s]; d < -1 || d > 1 {
				t.Errorf("restart at %d s: %d pods at %d s, want %d ± 1", at, n, s, unbroken[s])
			}
		}
	}
}

// restart replaces the loop by one that knows its snapshot, as it comes out of JSON.
func (w *world) restart(t *testing.T, id identity.Revision, settings []string) {
	t.Helper()
	raw, err := json.Marshal(w.loop.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	w.loop.Remove(id)
	var s Snapshot
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	w.loop.Restore(s)
	if err := w.loop.Add(revisionOf(t, id.Name, settings...), Target{Scale: w, Replicas: len(w.pods(id))}); err != nil {
		t.Fatal(err)
	}
}

func TestConfigNamesItsFaults(t *testing.T) {
	_, err := New(Config{Period: time.Microsecond, Workers: -1, Events: -1}, Deps{})
	for _, field := range []string{"Period", "Workers", "Events"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("error %v does not name %s", err, field)
		}
	}
}

func TestScheduleKeepsAFloor(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) { // virtual time begins on 2000-01-01 at midnight, UTC
		rev := revisionOf(t, "hello-1", "window", "6s")
		in := config.Input{ID: rev.ID, Service: "hello", Annotations: map[string]string{
			"rouse.dev/schedule": "3 from 5 0 * * * to 10 0 * * * in UTC", "autoscaling.knative.dev/window": "6s",
		}}
		rev, faults := config.Resolve(in)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		id := w.add(rev)
		for minute := range 15 {
			time.Sleep(30 * time.Second)
			if n, want := len(w.pods(id)), 3; minute >= 5 && minute < 10 && n != want {
				t.Errorf("%d pods at minute %d, want %d", n, minute, want)
			}
			w.load(id, 0, 30*time.Second)
		}
		if n := len(w.pods(id)); n != 0 {
			t.Errorf("%d pods after the schedule, want 0", n)
		}
	})
}

func TestGrowthDecidesBeforeTheTick(t *testing.T) {
	for growth, want := range map[float64]int{0: 1, 2: 6} {
		inWorld(t, Config{Growth: growth}, nil, func(w *world) {
			id := w.add(revisionOf(t, "hello-1", "target", "10", "target-utilization-percentage", "100"))
			time.Sleep(2100 * time.Millisecond)
			w.report(id, "activator", 1, 0)
			time.Sleep(time.Second)
			w.report(id, "activator", 109, 0)
			w.story()
			if n := len(w.pods(id)); n != want {
				t.Errorf("growth %g: %d pods at once, want %d", growth, n, want)
			}
		})
	}
}

// TestTheLastPodGoesOnAFreshProofAlone: activators have answered once, and all of them are gone when the pod could go.
func TestTheLastPodGoesOnAFreshProofAlone(t *testing.T) {
	idle := 30 * time.Second
	for _, tc := range []struct {
		name        string
		annotations []string
		before      func(w *world, id identity.Revision)
		wait        time.Duration // until the pod goes when an activator answers
	}{
		{"the proof is of the last sleep", []string{"window", "6s"}, func(w *world, id identity.Revision) {
			w.load(id, 0, time.Minute)
			if n := len(w.pods(id)); n != 0 {
				w.t.Fatalf("%d pods after the first sleep", n)
			}
			w.load(id, 1, 10*time.Minute)
		}, time.Minute},
		{"the proof is of the beginning of a long retention", []string{"window", "6s", "scale-to-zero-pod-retention-period", "10m"},
			func(w *world, id identity.Revision) { w.load(id, 0, idle) }, 15 * time.Minute},
		{"no burst capacity, which needs no proof in Knative", []string{"window", "6s", "target-burst-capacity", "-1"},
			func(*world, identity.Revision) {}, time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, Config{}, nil, func(w *world) {
				rt := &routes{answer: true}
				rev := revisionOf(t, "hello-1", tc.annotations...)
				if err := w.loop.Add(rev, Target{Scale: w, Mode: rt}); err != nil {
					t.Fatal(err)
				}
				w.load(rev.ID, 1, 10*time.Second)
				tc.before(w, rev.ID)
				rt.answers(false)
				w.load(rev.ID, 0, tc.wait)
				if n := len(w.pods(rev.ID)); n != 1 {
					t.Errorf("%d pods while no activator answers, want 1", n)
				}
				rt.answers(true)
				w.load(rev.ID, 0, 5*time.Second)
				if n := len(w.pods(rev.ID)); n != 0 {
					t.Errorf("%d pods when one answers again, want 0", n)
				}
			})
		})
	}
}

// TestProbesAreFew: the public address is asked when a pod begins to be idle and when it goes, and not while it is asleep.
func TestProbesAreFew(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		rt := &routes{answer: true}
		rev := revisionOf(t, "hello-1", "window", "6s", "scale-to-zero-pod-retention-period", "1h")
		if err := w.loop.Add(rev, Target{Scale: w, Mode: rt}); err != nil {
			t.Fatal(err)
		}
		w.load(rev.ID, 1, 10*time.Minute)
		w.load(rev.ID, 0, 65*time.Minute)
		if n := len(w.pods(rev.ID)); n != 0 {
			t.Errorf("%d pods after the retention, want 0", n)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		rt.mu.Lock()
		defer rt.mu.Unlock()
		if rt.asked > 3 {
			t.Errorf("asked %d times, want 3 at most: at the start, when idle, and in the end", rt.asked)
		}
	})
}

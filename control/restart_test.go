package control

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/endpoint"
)

// succeed replaces what the loop knows of a revision by what comes out of its snapshot after JSON, without a decision.
func (w *world) succeed(r *revision) *revision {
	w.t.Helper()
	one, _ := r.snapshot()
	raw, err := json.Marshal(one)
	if err != nil {
		w.t.Fatal(err)
	}
	var saved RevisionState
	if err := json.Unmarshal(raw, &saved); err != nil {
		w.t.Fatal(err)
	}
	next := newRevision(r.cfg, r.target, w.loop.now())
	next.setPolicy(*r.policy)
	next.reach = r.reach
	cancel := w.book.Subscribe(r.id, func(u endpoint.Update) { next.setPods(u.Snapshot, w.loop.now()) })
	next.begin(cancel, &saved, w.loop.now())
	w.loop.mu.Lock()
	w.loop.delist(r)
	w.loop.revs[r.id.Key()] = next
	w.loop.enlist(next)
	w.loop.mu.Unlock()
	w.loop.retire(r)
	w.loop.wheel.add(next)
	return next
}

// lease is held by one instance, by both for a moment, or by none.
type lease struct {
	mu      sync.Mutex
	holders map[string]bool
}

func (l *lease) give(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holders = map[string]bool{}
	for _, n := range names {
		l.holders[n] = true
	}
}

// of returns the ownership of one instance, by one bucket that stands for all.
func (l *lease) of(name string) Ownership {
	return Buckets{Count: 1, Holds: func(int) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.holders[name]
	}}
}

// instance is one of two autoscalers of the same pods.
type instance struct {
	*Loop
	kill context.CancelFunc
	done chan error
}

func (w *world) instance(t *testing.T, l *lease, name string) *instance {
	t.Helper()
	loop, err := New(Config{}, Deps{Pods: &w.book, Ownership: l.of(name)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	i := &instance{loop, cancel, make(chan error, 1)}
	go func() { i.done <- loop.Run(ctx) }()
	return i
}

// TestTakeover: two instances receive the same reports. The one that holds the lease is killed while load rises; the
// other applies within a period of getting the lease, and from what it has seen itself asks for no more or less than one
// that never stopped.
func TestTakeover(t *testing.T) {
	settings := []string{"target", "10", "target-utilization-percentage", "100"}
	curve := func(second int) float64 { return float64(8 * (1 + second/3)) }
	run := func(killAt int) (pods []int, gap time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{}, nil)
			l := &lease{}
			l.give("a")
			a, b := w.instance(t, l, "a"), w.instance(t, l, "b")
			id := revisionOf(t, "hello-1", settings...)
			for _, i := range []*instance{a, b} {
				if err := i.Add(id, Target{Scale: w}); err != nil {
					t.Fatal(err)
				}
			}
			for s := range 60 {
				if s == killAt {
					a.kill()
					l.give("b")
					gap = w.untilApplied()
				}
				for _, i := range []*instance{a, b} {
					i.Report(message(id.ID, "activator", curve(s), 0))
				}
				time.Sleep(time.Second)
				pods = append(pods, len(w.pods(id.ID)))
			}
			a.kill()
			b.kill()
			for _, i := range []*instance{a, b} {
				if err := <-i.done; err != nil {
					t.Error(err)
				}
			}
			time.Sleep(time.Hour) // virtual: pods that still start
		})
		return pods, gap
	}
	unbroken, _ := run(-1)
	for _, at := range []int{1, 7, 20, 33} {
		pods, gap := run(at)
		if gap > 2*time.Second {
			t.Errorf("killed at %d s: the successor applied after %v, want one period", at, gap)
		}
		for s := at; s < len(pods); s++ {
			late := max(0, s-3) // what is decided up to a period earlier or later may differ by what came in between
			if pods[s] < unbroken[late]-1 || pods[s] > unbroken[min(s+3, len(unbroken)-1)]+1 {
				t.Errorf("killed at %d s: %d pods at %d s, want %d ± 1", at, pods[s], s, unbroken[s])
			}
		}
	}
}

// untilApplied waits for the next request of any instance and returns how long it took, an hour at most.
func (w *world) untilApplied() time.Duration {
	began, before := time.Now(), len(w.story())
	for time.Since(began) < time.Hour {
		time.Sleep(10 * time.Millisecond)
		if len(w.story()) > before {
			return time.Since(began)
		}
	}
	return time.Hour
}

// TestTwoOwnersForAMomentAskForTheSame: nothing goes up and down between them.
func TestTwoOwnersForAMomentAskForTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, nil)
		l := &lease{}
		l.give("a", "b")
		a, b := w.instance(t, l, "a"), w.instance(t, l, "b")
		rev := revisionOf(t, "hello-1", "target", "10", "target-utilization-percentage", "100")
		for _, i := range []*instance{a, b} {
			if err := i.Add(rev, Target{Scale: w}); err != nil {
				t.Fatal(err)
			}
		}
		for s := range 30 {
			load := float64(10 + 40*(s/10))
			for _, i := range []*instance{a, b} {
				i.Report(message(rev.ID, "activator", load, 0))
			}
			time.Sleep(time.Second)
		}
		w.mu.Lock()
		asked := append([]Request(nil), w.applied...)
		w.mu.Unlock()
		for i, r := range asked {
			if i > 0 && r.Desired < asked[i-1].Desired {
				t.Errorf("request %d asks for %d pods after %d, while load only rises", i, r.Desired, asked[i-1].Desired)
			}
		}
		if n := len(asked); n < 4 || n > 30 || asked[n-1].Desired != 9 {
			t.Errorf("%d requests, the last for %d pods; want every number from both, the last 9", n, asked[max(n-1, 0)].Desired)
		}
		a.kill()
		b.kill()
		for _, i := range []*instance{a, b} {
			if err := <-i.done; err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Hour)
	})
}

// TestNewOwnerLeavesActivatorsInThePath: traffic that belongs through activators does not go past them because it has
// another owner, who has not been told of any.
func TestNewOwnerLeavesActivatorsInThePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, nil)
		l := &lease{}
		l.give("a")
		a, b := w.instance(t, l, "a"), w.instance(t, l, "b")
		rev := revisionOf(t, "hello-1", "target-burst-capacity", "-1", "min-scale", "2")
		of := map[*instance]*routes{a: {answer: true}, b: {answer: true}}
		for i, r := range of {
			if err := i.Add(rev, Target{Scale: w, Mode: r}); err != nil {
				t.Fatal(err)
			}
		}
		for s := range 40 {
			if s == 20 {
				l.give("b")
			}
			for i := range of {
				i.Report(message(rev.ID, "activator", 5, 0))
			}
			time.Sleep(time.Second)
		}
		for i, r := range of {
			i.kill()
			if err := <-i.done; err != nil {
				t.Error(err)
			}
			if len(r.modes) == 0 || slices.Contains(r.modes, kpa.Serve) {
				t.Errorf("an owner asked for %v, want mode proxy alone", r.modes)
			}
		}
		time.Sleep(time.Hour)
	})
}

// TestStepsToZeroDoNotWaitForTheWheel: a decision that says when it may change is made again then.
func TestStepsToZeroDoNotWaitForTheWheel(t *testing.T) {
	r := &routes{answer: true}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Period: 10 * time.Second}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.loop.Run(ctx) }()
		rev := revisionOf(t, "hello-1", "window", "6s", "scale-to-zero-pod-retention-period", "0s")
		rev.Scaling.ScaleToZeroGrace.V = 7 * time.Second
		if err := w.loop.Add(rev, Target{Scale: w, Mode: r}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.report(rev.ID, "activator", 1, 0)
		var steps []time.Duration
		last := time.Time{}
		for time.Since(w.began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
			if now := time.Since(w.began); now%time.Second == 0 && now <= 3*time.Second {
				w.report(rev.ID, "activator", 1, 0)
			} else if now%time.Second == 0 {
				w.report(rev.ID, "activator", 0, 0)
			}
			if e := w.explain(rev.ID); !e.Decided.Equal(last) {
				last = e.Decided
				if time.Since(w.began) < 4*time.Second {
					continue // demand that meets no pod decides at once
				}
				steps = append(steps, e.Decided.Sub(w.began).Round(100*time.Millisecond))
			}
		}
		onTheWheel := true
		for _, s := range steps[1:] {
			onTheWheel = onTheWheel && s%(10*time.Second) == steps[0]%(10*time.Second)
		}
		if onTheWheel || len(w.pods(rev.ID)) != 0 {
			t.Errorf("decided at %v, with %d pods left; want steps to zero between the turns of the wheel", steps, len(w.pods(rev.ID)))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
	})
}

// TestEventSourcesBoundThePods: a Kafka source with three partitions never gets more than three pods, requests beside it
// do, and a source that has gone bounds nothing.
func TestEventSourcesBoundThePods(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		rev := revisionOf(t, "hello-1", "target", "1", "target-utilization-percentage", "100")
		id := w.add(rev)
		tell := func(parallel, concurrency float64) {
			m := message(id, "kafka-1", 0, 0)
			m.Stat.Extension.Parallel, m.Stat.Extension.Lag = parallel, 1000
			w.loop.Report(m)
			w.report(id, "activator", concurrency, 0)
			time.Sleep(time.Second)
		}
		r := w.loop.find(id.Key())
		p := *r.policy
		p.Targets = append(p.Targets, kpa.Target{Metric: kpa.Lag, Value: 10, Total: 10})
		r.setPolicy(p)
		for range 6 {
			tell(3, 3)
		}
		if n, e := len(w.pods(id)), w.explain(id); n != 3 || !strings.Contains(e.Reason, "useful parallelism") {
			t.Errorf("%d pods by %v, want 3 by useful parallelism", n, e.Reason)
		}
		for range 60 {
			tell(3, 40)
		}
		if n := len(w.pods(id)); n < 40 {
			t.Errorf("%d pods with 40 requests of others, want 40 at least", n)
		}
	})
}

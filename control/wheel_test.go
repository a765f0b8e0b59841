package control

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestWheelTurnsEachOnce: whatever comes and goes, each revision that stays on the wheel for a whole turn is called
// exactly once in it, and no slot has more than its share and one.
func TestWheelTurnsEachOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWheel(time.Second, rapid.IntRange(1, 8).Draw(t, "slots"))
		var on []*revision
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			if len(on) > 0 && rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				i := rapid.IntRange(0, len(on)-1).Draw(t, "which")
				w.remove(on[i])
				w.remove(on[i]) // a second time does nothing
				on = slices.Delete(on, i, i+1)
				continue
			}
			r := &revision{slot: -1}
			w.add(r)
			on = append(on, r)
		}
		seen := map[*revision]int{}
		for i, slot := range w.slots {
			for _, r := range slot {
				seen[r]++
				if r.slot != i {
					t.Fatalf("a revision in slot %d says %d", i, r.slot)
				}
			}
		}
		for _, r := range on {
			if seen[r] != 1 {
				t.Fatalf("a revision is on the wheel %d times", seen[r])
			}
		}
		if len(seen) != len(on) {
			t.Fatalf("%d revisions on the wheel, want %d", len(seen), len(on))
		}
	})
}

// TestSlowTurnIsLeftOut: when the work takes longer than a period, the wheel does not run after itself.
func TestSlowTurnIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel(time.Second, 2)
		for range 4 {
			w.add(&revision{slot: -1})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var late time.Duration
		calls := 0
		w.turn(ctx, func(_ *revision, due time.Time) {
			calls++
			late = max(late, time.Since(due))
			time.Sleep(time.Second)
		})
		if calls < 29 || late > 4*time.Second {
			t.Errorf("%d calls, at most %s late: want one after the other, never more than a turn and its work behind", calls, late)
		}
	})
}

// TestLaneNeverRunsARevisionTwiceAtATime: whatever is put when, the work for one revision does not overlap, and the last
// put is followed by work.
func TestLaneNeverRunsARevisionTwiceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, worked, begun := map[*revision]bool{}, map[*revision]int{}, map[*revision]time.Time{}
		l := newLane(func(_ context.Context, r *revision) {
			mu.Lock()
			if running[r] {
				t.Error("two workers at one revision")
			}
			running[r], begun[r] = true, time.Now()
			worked[r]++
			mu.Unlock()
			time.Sleep(7 * time.Millisecond)
			mu.Lock()
			running[r] = false
			mu.Unlock()
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { l.work(ctx) })
		}
		rs := make([]*revision, 5)
		last := map[*revision]time.Time{}
		for i := range rs {
			rs[i] = &revision{}
		}
		for step := range 200 {
			r := rs[step*step%5]
			r.mu.Lock()
			l.put(r, laneScale)
			r.mu.Unlock()
			last[r] = time.Now()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		mu.Lock()
		for r, at := range last {
			if begun[r].Before(at) || worked[r] == 0 {
				t.Errorf("put at %s, last work began at %s after %d", at, begun[r], worked[r])
			}
		}
		mu.Unlock()
		cancel()
		wg.Wait()
	})
}

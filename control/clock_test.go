package control

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/config"
)

// step makes the wall clock differ by so much from what it was when the loop was made.
func (w *world) step(by time.Duration) { w.loop.at = w.loop.at.Add(-by) }

// scheduled is a revision with a floor of 3 from 5 to 10 minutes after midnight, which is when virtual time begins.
func scheduled(t *testing.T) *config.Revision {
	t.Helper()
	rev, faults := config.Resolve(config.Input{ID: revisionOf(t, "hello-1").ID, Service: "hello", Annotations: map[string]string{
		"rouse.dev/schedule": "3 from 5 0 * * * to 10 0 * * * in UTC",
	}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return rev
}

// TestAStepOfTheClock: the wall clock is wrong when the loop is made and set right afterwards, forwards or backwards. Schedules,
// and the times that people read, go by what it shows; windows are not disturbed.
func TestAStepOfTheClock(t *testing.T) {
	for name, by := range map[string]time.Duration{"forwards": 5 * time.Hour, "backwards": -5 * time.Hour, "not at all": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{}, nil)
				w.step(by)
				id := w.add(scheduled(t))
				for minute := range 12 {
					if err := w.loop.Decide(id); err != nil {
						t.Fatal(err)
					}
					want := 0
					if minute >= 5 && minute < 10 {
						want = 3
					}
					if got := w.loop.find(id.Key()).floorNow; got != want {
						t.Errorf("a floor of %d at minute %d, want %d", got, minute, want)
					}
					if e := w.explain(id); !e.Decided.Equal(time.Now()) {
						t.Errorf("decided at %v, want %v", e.Decided, time.Now())
					}
					time.Sleep(time.Minute)
				}
				w.loop.out.close()
				w.loop.out.deliver(w.loop.tell)
				if len(w.events) == 0 || w.events[0].Time.Sub(w.began) != 5*time.Minute {
					t.Errorf("events %+v, want the first after 5 minutes", w.events)
				}
			})
		})
	}
}

// TestTheClockIsSetBack while a floor of the schedule is known for hours.
func TestTheClockIsSetBack(t *testing.T) {
	midnight := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	r := &revision{cfg: scheduled(t)}
	for _, tc := range []struct {
		at   time.Duration
		want int
	}{{time.Hour, 0}, {6 * time.Minute, 3}, {-time.Hour, 0}, {7 * time.Minute, 3}} {
		if got := r.scheduled(midnight.Add(tc.at)); got != tc.want {
			t.Errorf("%v after midnight: a floor of %d, want %d", tc.at, got, tc.want)
		}
	}
}

package assign

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

func TestPauseAfter(t *testing.T) {
	for _, c := range []struct {
		took time.Duration
		size int
		want time.Duration
	}{
		{0, 10000, 0},
		{10 * time.Millisecond, 10000, 40 * time.Millisecond},
		{time.Second, 10000, 50 * time.Millisecond},
		{time.Second, 100000, maxPause},
		{time.Second, 2, 10 * time.Microsecond}, // the machine did something else
	} {
		if got := pauseAfter(c.took, c.size); got != c.want {
			t.Errorf("pauseAfter(%s, %d) = %s, want %s", c.took, c.size, got, c.want)
		}
	}
}

// TestALongDecisionIsNotRepeatedAtOnce: what is asked for meanwhile happens when the pause is over, and not later.
func TestALongDecisionIsNotRepeatedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Ready)))
		_, poor, of := b.two()
		time.Sleep(time.Minute)
		b.srv.mu.Lock() // no decision takes any time in a bubble
		b.srv.revs[b.id].leases.rest = time.Now().Add(maxPause)
		b.srv.mu.Unlock()
		poor.say(1)
		of[poor].Active(b.id)
		time.Sleep(maxPause - 1)
		if n := b.slots(poor); n != 0 {
			t.Errorf("%d slots before the pause is over, want none", n)
		}
		time.Sleep(time.Nanosecond)
		if n := b.slots(poor); n != 1 {
			t.Errorf("%d slots when the pause is over, want one", n)
		}
	})
}

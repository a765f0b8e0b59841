package assign

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

// TestAShardWithoutAnOwnerIsBorrowedFrom: an instance gives a shard up, its streams stay, and nobody takes it: after a while
// that is as if control were gone. Whoever owns it then, the same instance too, takes back what was lent.
func TestAShardWithoutAnOwnerIsBorrowedFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Ready)))
		rich, poor, of := b.two()
		slots := func(when string, want int) {
			t.Helper()
			if r, p := b.slots(rich), b.slots(poor); r != 1 || p != want {
				t.Fatalf("%s: slots %d and %d, want 1 and %d", when, r, p, want)
			}
		}
		silence := of[poor].cfg.Silence
		b.srv.Disown(0)
		b.srv.Disown(0) // says nothing twice
		time.Sleep(silence - 1)
		slots("before the time is over", 0)
		time.Sleep(time.Nanosecond)
		slots("nobody has taken it", 1)
		b.srv.Own(0, 2)
		slots("it is owned again", 0)
		b.srv.Disown(0)
		b.srv.Own(0, 3)
		time.Sleep(2 * silence)
		slots("it was given up for a moment", 0)
	})
}

// TestWhoIsNotTheOwnerCannotDisown: a former owner's last word may come after the first of the next one.
func TestWhoIsNotTheOwnerCannotDisown(t *testing.T) {
	m := newMirror(&Client{cfg: ClientConfig{}.Default(), to: newBook()})
	former, next := &link{}, &link{}
	m.hear(heard{former, &down{Epoch: 1, Begin: true}})
	m.hear(heard{next, &down{Epoch: 2, Begin: true}})
	m.hear(heard{former, &down{Epoch: 1, Disowned: true}})
	if m.shards[0].from != next {
		t.Error("the owner was dropped on the word of a former one")
	}
	m.hear(heard{next, &down{Epoch: 2, Disowned: true}})
	if sh := m.shards[0]; sh.from != nil || sh.silent.IsZero() {
		t.Errorf("the owner's own word: %+v, want no owner", sh)
	}
}

package assign

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
)

// two starts two activators, and returns the book of the one with the slot in "p" first, each with its client.
func (b *bubble) two() (rich, poor *book, of map[*book]*Client) {
	one, ones, _ := b.activator("one")
	two, twos, _ := b.activator("two")
	rich, poor = ones, twos
	if b.slots(poor) > 0 {
		rich, poor = poor, rich
	}
	return rich, poor, map[*book]*Client{ones: one, twos: two}
}

// say sets what an activator has parked and what is of no use to it.
func (b *book) say(parked int, dead ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parked, b.dead = parked, dead
}

func (b *book) slotsIn(t *testing.T, at *bubble, pods ...string) (n int) {
	t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, uid := range pods {
		n += b.grants[at.id][uid]
	}
	return n
}

// TestASlotInAPodThatIsLeftAloneIsNone: a request that a pod refused is parked beside slots in that pod; the idle slot in
// another pod comes with the next report. When the pod is back it counts again.
func TestASlotInAPodThatIsLeftAloneIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Ready), ep("q", endpoint.Ready)))
		rich, poor, of := b.two()
		time.Sleep(time.Minute)
		if rich.slotsIn(t, b, "q") != 0 || poor.slotsIn(t, b, "q") != 1 {
			t.Fatal("want a pod for each")
		}
		poor.say(1)
		of[poor].Active(b.id)
		time.Sleep(time.Minute)
		if n := poor.slotsIn(t, b, "p", "q"); n != 1 {
			t.Fatalf("%d slots for one request, want 1", n)
		}
		poor.say(1, "q")
		time.Sleep(of[poor].cfg.LoadPeriod)
		if n := poor.slotsIn(t, b, "p"); n != 1 {
			t.Fatalf("%d slots in the pod that is idle, want 1", n)
		}
		poor.say(0)
		rich.say(1)
		of[rich].Active(b.id)
		time.Sleep(time.Second)
		if n := rich.slotsIn(t, b, "p", "q"); n != 1 {
			t.Errorf("%d slots for the other's request after that, want 1", n)
		}
	})
}

// TestTheSlotOfAStartingPodWaitsForItsAnswer: whoever parks has the slot before the pod answers, in the same moment in
// which it parks, though nobody can use it yet.
func TestTheSlotOfAStartingPodWaitsForItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, 1)
		defer b.close()
		settings := Settings{ContainerConcurrency: 1}
		settings.Dispatching.Probe.By = config.ProbeTCP
		b.srv.PutRevision(Revision{ID: b.id, Settings: settings})
		_, _, of := b.two()
		for told := range of {
			told.say(0, "p") // it starts, to both
		}
		b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Starting)))
		time.Sleep(time.Minute)
		var poor *book
		for told := range of {
			if b.slots(told) == 0 {
				poor = told
			}
		}
		poor.say(1, "p")
		began := time.Now()
		of[poor].Active(b.id)
		if n := b.slots(poor); n != 1 || time.Since(began) != 0 {
			t.Errorf("%d slots after %s, want one at the same moment", n, time.Since(began))
		}
	})
}

// TestWithoutControlASlotInADeadPodIsNone: it borrows like one without a slot, also when the pod dies long after.
func TestWithoutControlASlotInADeadPodIsNone(t *testing.T) {
	for name, early := range map[string]bool{"dead before": true, "dead long after": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, 1)
				defer b.close()
				b.srv.Endpoints(snapshot(b.id, 1, ep("p", endpoint.Ready), ep("q", endpoint.Ready)))
				_, poor, of := b.two()
				b.away()
				synctest.Wait()
				if early {
					poor.say(0, "q")
				}
				time.Sleep(of[poor].cfg.Silence)
				if n := poor.slotsIn(t, b, "p"); (n == 1) != early {
					t.Fatalf("%d slots lent when control is silent", n)
				}
				time.Sleep(time.Hour)
				poor.say(1, "q")
				of[poor].Active(b.id)
				if n := poor.slotsIn(t, b, "p"); n != 1 {
					t.Errorf("%d slots lent for a request, want 1", n)
				}
				poor.say(0, "q")
				b.serve(1, 2, ep("p", endpoint.Ready), ep("q", endpoint.Ready))
				time.Sleep(10 * time.Second)
				if n := poor.slotsIn(t, b, "p"); n != 0 {
					t.Errorf("%d slots are still lent with control back", n)
				}
			})
		})
	}
}

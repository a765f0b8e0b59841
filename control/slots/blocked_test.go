package slots

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// everybody sets for all activators whether a pod can be used.
func (w *world) everybody(uid string, dead bool) {
	for _, a := range w.agents {
		a.fail(uid, dead)
	}
}

// holderOf returns the agent that has a pod's slots, and the other of two.
func (w *world) holderOf(uid string) (holder, other *agent) {
	holder, other = w.agents[0], w.agents[1]
	if holder.grants[uid] == 0 {
		holder, other = other, holder
	}
	return holder, other
}

// TestSlotsInADeadPodAreNoSlots: who has slots in nothing but a pod that it can send nothing to gets one in the other
// pod, at once; and the one that had all of those keeps what it needs.
func TestSlotsInADeadPodAreNoSlots(t *testing.T) {
	for _, limit := range []int{1, 10} {
		for _, dead := range []string{"p1", "p2"} {
			for _, known := range []string{"to its holder", "to all"} {
				t.Run(fmt.Sprintf("limit %d, %s dead %s", limit, dead, known), func(t *testing.T) {
					rapid.Check(t, func(t *rapid.T) {
						w := newWorld(t, limit, 2)
						w.ready(2)
						w.pass(time.Minute)
						a, b := w.holderOf(dead)
						a.fail(dead, true)
						b.fail(dead, known == "to all")
						a.parked = 1
						w.pass(0)
						if a.parked != 0 {
							t.Fatalf("parked beside an idle pod: %s", w)
						}
						b.parked = 1
						w.pass(0)
						if limit > 1 && b.parked != 0 {
							t.Fatalf("the other one has lost what it needs: %s", w)
						}
					})
				})
			}
		}
	}
}

// TestTheOnlySlotThatWorksGoesRound: of two pods with a slot each one is dead; two activators take turns at the other.
func TestTheOnlySlotThatWorksGoesRound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 1, 2)
		w.ready(2)
		w.everybody("p2", true)
		served := map[string]int{}
		for _, a := range w.agents {
			a.parked = 1000
		}
		for range 100 {
			w.pass(time.Duration(rapid.IntRange(1, 60).Draw(t, "ms of work")) * time.Millisecond)
			for _, a := range w.agents {
				if a.use["p1"] > 0 {
					w.end(a, "p1")
					served[a.name]++
				}
			}
		}
		if served["a0"] < 10 || served["a1"] < 10 {
			t.Fatalf("served %v, want about even shares: %s", served, w)
		}
	})
}

// TestTheSlotOfAStartingPodIsWhereRequestsWait: while a pod starts, whoever parks a request gets its slot ahead, so that
// the request goes out the moment the pod answers, without a word to the ledger or from it.
func TestTheSlotOfAStartingPodIsWhereRequestsWait(t *testing.T) {
	for name, answered := range map[string]bool{"starts for both": false, "has answered its holder": true} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(t, 1, 2)
				w.everybody("p1", true) // as they begin to look
				w.ready(1)
				w.pass(time.Minute)
				idle, waits := w.holderOf("p1")
				idle.fail("p1", !answered)
				waits.parked = 1
				w.pass(0)
				if w.slots(waits) != 1 {
					t.Fatalf("the slot is not where the request waits: %s", w)
				}
				waits.fail("p1", false)
				if w.begin(waits); waits.parked != 0 {
					t.Fatalf("the request waits though the pod answers: %s", w)
				}
			})
		})
	}
}

// TestStartingPodsAreSharedByThoseWhoWait: two activators with requests have half of a starting pod's slots each when it
// answers, whichever came first, and nothing goes round meanwhile.
func TestStartingPodsAreSharedByThoseWhoWait(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 4, 2)
		w.everybody("p1", true)
		w.agents[0].parked = 10
		w.ready(1)
		w.pass(time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms before")) * time.Millisecond)
		w.agents[1].parked = 10
		w.pass(2 * testConfig.Turn)
		if w.slots(w.agents[0]) != 2 || w.slots(w.agents[1]) != 2 {
			t.Fatalf("want two slots each: %s", w)
		}
		before := w.agents[0].seq
		w.pass(time.Minute)
		if w.agents[0].seq != before {
			t.Fatalf("slots that nobody can use move: %s", w)
		}
	})
}

// TestAPodThatAnswersOneFirst: what another still waits for is its own for a turn: it may answer that one in a moment.
func TestAPodThatAnswersOneFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 4, 2)
		w.everybody("p1", true)
		for _, a := range w.agents {
			a.parked = 10
		}
		w.ready(1)
		w.pass(time.Minute)
		first, second := w.agents[0], w.agents[1]
		first.fail("p1", false)
		w.pass(testConfig.Turn - 1)
		if w.slots(second) != 2 {
			t.Fatalf("the second one has lost its slots: %s", w)
		}
		w.pass(1)
		if first.use["p1"] != 4 {
			t.Fatalf("slots are free that one could use: %s", w)
		}
	})
}

// TestOneThatLeavesGivesBackDeadSlotsFirst: and keeps those that its parked requests can go out by.
func TestOneThatLeavesGivesBackDeadSlotsFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 2, 2)
		w.ready(4)
		w.pass(time.Minute)
		leaver := w.agents[0]
		leaver.fail(slices.Min(slices.Collect(maps.Keys(leaver.grants))), true)
		w.ledger.Leaving(leaver.name)
		leaver.parked = 1
		w.pass(0)
		if leaver.parked != 0 || w.slots(leaver) != 1 {
			t.Fatalf("%d parked and %d slots, want none and the one in use: %s", leaver.parked, w.slots(leaver), w)
		}
	})
}

// TestAJoinerBesideDeadPods gets its share all the same, and the ledger comes to an end.
func TestAJoinerBesideDeadPods(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(1, 3).Draw(t, "limit"), 1)
		w.ready(4)
		w.pass(time.Minute)
		joiner := w.add("a1")
		for _, uid := range w.pods {
			joiner.fail(uid, rapid.Bool().Draw(t, uid))
			w.agents[0].fail(uid, rapid.Bool().Draw(t, uid))
		}
		w.pass(0)
		w.join(joiner)
		w.ledger.Load(w.now, joiner.name, joiner.load())
		w.pass(0)
		if w.slots(joiner) != 2*w.limit {
			t.Fatalf("%d slots, want half: %s", w.slots(joiner), w)
		}
	})
}

// TestSlotsOfADeadPodComeToRest: one that can use a pod takes what two that cannot have free there; these do not pass on to
// each other what comes free next, round and round.
func TestSlotsOfADeadPodComeToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 5, 3)
		w.ready(1)
		can, busy, waits := w.agents[0], w.agents[1], w.agents[2]
		busy.parked = 1
		w.pass(0)
		waits.fail("p1", true)
		w.pass(0)
		busy.parked = 1
		w.pass(0)
		busy.fail("p1", true)
		w.pass(0)
		busy.parked = 1
		w.pass(0)
		waits.parked = 3
		w.pass(97 * time.Millisecond)
		w.pass(3 * time.Millisecond)
		can.parked = 3
		w.pass(time.Minute) // fails if they move for ever
		if can.parked != 0 || can.use["p1"] != 3 {
			t.Fatalf("a request is parked beside a free slot: %s", w)
		}
	})
}

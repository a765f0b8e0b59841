package slots

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// deliver lets every message arrive, in order, and everybody act on it, until nothing moves at this moment.
func (w *world) deliver() time.Time {
	for round := 0; ; round++ {
		if round == 1000 {
			w.t.Fatalf("slots move for ever: %s", w)
		}
		next := w.step()
		quiet := true
		for _, a := range w.agents {
			for len(a.down) > 0 {
				w.receive(a, 0)
				quiet = false
			}
			w.begin(a)
			for _, ack := range a.up {
				w.ledger.Ack(w.now, a.name, ack)
				quiet = false
			}
			a.up = nil
			w.ledger.Load(w.now, a.name, a.load())
		}
		w.check()
		if quiet {
			return next
		}
	}
}

// pass lets time pass up to a moment, step by step as the ledger asks.
func (w *world) pass(d time.Duration) {
	until := w.now.Add(d)
	for {
		next := w.deliver()
		if next.IsZero() || next.After(until) {
			w.now = until
			w.deliver()
			return
		}
		w.now = next
	}
}

func (w *world) ready(n int) {
	for range n {
		w.made++
		w.pods = append(w.pods, fmt.Sprintf("p%d", w.made))
	}
	w.ledger.Pods(w.now, w.pods)
}

func (w *world) slots(a *agent) (n int) {
	for _, k := range a.grants {
		n += k
	}
	return n
}

// TestNobodyWaitsBesideFreeSlots is the promise of progress: from any state, with connections up, whatever is free
// anywhere is with those in need after two turns, if they can use it.
func TestNobodyWaitsBesideFreeSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(1, 5).Draw(t, "limit"), rapid.IntRange(1, 5).Draw(t, "activators"))
		w.ready(rapid.IntRange(1, 6).Draw(t, "pods"))
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			a := rapid.SampledFrom(w.agents).Draw(t, "activator")
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0, 1:
				a.parked += rapid.IntRange(1, 8).Draw(t, "requests")
			case 2:
				for _, uid := range slices.Sorted(maps.Keys(a.use)) {
					for a.use[uid] > 0 && rapid.Bool().Draw(t, "ends") {
						w.end(a, uid)
					}
				}
			case 3:
				w.ready(1)
			case 4:
				a.fail(rapid.SampledFrom(w.pods).Draw(t, "pod"), rapid.Bool().Draw(t, "dead"))
			}
			w.pass(time.Duration(rapid.IntRange(0, 100).Draw(t, "ms")) * time.Millisecond)
		}
		w.pass(2 * testConfig.Turn)
		busy := map[string]int{}
		for _, a := range w.agents {
			for uid, n := range a.use {
				busy[uid] += n
			}
		}
		for _, a := range w.agents {
			for _, uid := range w.pods {
				if free := w.limit - busy[uid]; a.parked > 0 && free > 0 && !a.dead[uid] {
					t.Fatalf("%d requests are parked at %s beside %d free slots of %s: %s", a.parked, a.name, free, uid, w)
				}
			}
		}
	})
}

// TestSlotsGoRound: with one slot and three activators that always have requests, each is served, in turns.
func TestSlotsGoRound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 1, 3)
		w.ready(rapid.IntRange(1, 2).Draw(t, "pods"))
		work := time.Duration(rapid.IntRange(1, 120).Draw(t, "ms of work")) * time.Millisecond
		served := map[string]int{}
		for _, a := range w.agents {
			a.parked = 1000
		}
		for range 200 {
			w.pass(work)
			for _, a := range w.agents {
				for uid := range maps.Clone(a.use) {
					w.end(a, uid)
					served[a.name]++
				}
			}
		}
		least, most := slices.Min(slices.Collect(maps.Values(served))), slices.Max(slices.Collect(maps.Values(served)))
		if len(served) < 3 || float64(least) < 0.6*float64(most)-float64(testConfig.Turn/work) {
			t.Fatalf("%d pods, %s of work each: served %v, want about even shares", len(w.pods), work, served)
		}
	})
}

// TestShares checks who has what in quiet times.
func TestShares(t *testing.T) {
	for _, tc := range []struct {
		name                    string
		limit, activators, pods int
		want                    []int
	}{
		{"one activator has all", 10, 1, 3, []int{30}},
		{"whole pods", 10, 3, 3, []int{10, 10, 10}},
		{"whole pods, one over", 10, 2, 3, []int{20, 10}},
		{"split", 10, 3, 1, []int{4, 3, 3}},
		{"fewer slots than activators", 1, 3, 2, []int{1, 1, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(t, tc.limit, tc.activators)
				w.ready(tc.pods)
				w.pass(time.Minute)
				var got []int
				for _, a := range w.agents {
					got = append(got, w.slots(a))
				}
				if !slices.Equal(got, tc.want) {
					t.Errorf("slots %v, want %v: %s", got, tc.want, w)
				}
			})
		})
	}
}

// TestQuietLeasesDoNotMove: without need nothing is sent, however long it takes and whatever the load within the shares.
func TestQuietLeasesDoNotMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(2, 5).Draw(t, "limit"), 3)
		w.ready(3)
		w.pass(time.Minute)
		if !w.ledger.Settled() {
			t.Fatalf("nothing is needed and something is on its way: %s", w)
		}
		before := []uint64{w.agents[0].seq, w.agents[1].seq, w.agents[2].seq}
		for range 50 {
			a := rapid.SampledFrom(w.agents).Draw(t, "activator")
			if len(a.use) == 0 {
				a.parked = 1
			} else {
				w.end(a, slices.Sorted(maps.Keys(a.use))[0])
			}
			w.begin(a)
			w.pass(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
		}
		if after := []uint64{w.agents[0].seq, w.agents[1].seq, w.agents[2].seq}; !slices.Equal(before, after) {
			t.Errorf("grants went from %v to %v, want none sent", before, after)
		}
	})
}

// TestAllGoesToOne: load at one of three activators gets every slot, in one move each, and an idle one gets a spare slot
// back when the load is over.
func TestAllGoesToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		w := newWorld(t, limit, 3)
		w.ready(3)
		w.pass(time.Minute)
		busy := w.agents[1]
		busy.parked = 3 * limit
		began := w.now
		w.pass(0)
		if n := w.slots(busy); n != 3*limit || !w.now.Equal(began) {
			t.Fatalf("%d of %d slots at once: %s", n, 3*limit, w)
		}
		for uid := range maps.Clone(busy.use) {
			for busy.use[uid] > 0 {
				w.end(busy, uid)
			}
		}
		w.pass(time.Minute)
		for _, a := range w.agents {
			if w.slots(a) == 0 {
				t.Errorf("%s has no slot long after: %s", a.name, w)
			}
		}
	})
}

// TestComingAndGoing: one that joins gets its share, one that leaves keeps what it uses and then nothing.
func TestComingAndGoing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 2, 2)
		w.ready(6)
		w.pass(time.Minute)
		third := w.add("a2")
		w.join(third)
		w.pass(0)
		if n := w.slots(third); n != 4 {
			t.Fatalf("%d slots for one that joined, want 4: %s", n, w)
		}
		leaver := w.agents[0]
		leaver.parked = 1
		w.pass(0)
		w.ledger.Leaving(leaver.name)
		w.pass(0)
		if n := w.slots(leaver); n != 1 {
			t.Fatalf("%d slots for one that leaves with one request, want 1: %s", n, w)
		}
		for uid := range maps.Clone(leaver.use) {
			w.end(leaver, uid)
		}
		w.pass(0)
		w.ledger.Goodbye(leaver.name)
		w.pass(0)
		if n := w.slots(w.agents[1]) + w.slots(third); n != 12 {
			t.Fatalf("%d slots for the two that stay, want 12: %s", n, w)
		}
	})
}

// TestALimitThatChanges: from none to some to fewer to none, the bounds follow.
func TestALimitThatChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 0, 2)
		for _, a := range w.agents {
			a.grants = nil
			w.join(a)
		}
		w.ready(1)
		w.agents[0].parked = 7
		w.pass(time.Second)
		if w.agents[0].use["p1"] != 7 {
			t.Fatalf("without a limit: %s", w)
		}
		w.ledger.Limit(3)
		w.pass(time.Second)
		w.agents[1].parked = 1
		w.pass(time.Second)
		if w.agents[1].use["p1"] != 0 {
			t.Fatalf("a slot was given while 7 requests are there and 3 may be: %s", w)
		}
		for w.agents[0].use["p1"] > 0 {
			w.end(w.agents[0], "p1")
		}
		w.limit = 3
		w.pass(time.Second)
		if w.agents[1].use["p1"] != 1 {
			t.Fatalf("no slot though all are free: %s", w)
		}
		w.limit = 0
		w.ledger.Limit(0)
		w.pass(time.Second)
		if w.agents[0].grants != nil || w.agents[1].grants != nil {
			t.Fatalf("still leased: %s", w)
		}
	})
}

// TestALimitThatAppears: activators that had no limit go on without leases while the new ledger waits for claims, and have
// slots from then on, at no moment nothing.
func TestALimitThatAppears(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 0, rapid.IntRange(1, 3).Draw(t, "activators"))
		w.made, w.pods = 1, []string{"p1"}
		w.ledger = New(testConfig)
		w.ledger.Limit(6)
		w.ledger.Pods(w.now, w.pods)
		began := w.now
		for _, a := range w.agents {
			a.grants = nil
			w.join(a)
		}
		if rapid.Bool().Draw(t, "a pod comes") {
			w.ready(1)
		}
		for range 40 {
			w.pass(testConfig.TTL / 30)
			for _, a := range w.agents {
				leased := a.grants != nil
				if late := w.now.Sub(began) >= testConfig.TTL; leased != late || leased && a.grants["p1"] == 0 && len(w.pods) == 1 {
					t.Fatalf("after %s: %s", w.now.Sub(began), w)
				}
			}
		}
	})
}

// TestAFreeSlotOfTheSamePodWillDo: who was promised a slot in a pod that hangs on a long request of another gets the one that a third has free
// there; also when the third one cannot use it, and waits too.
func TestAFreeSlotOfTheSamePodWillDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dead := rapid.Bool().Draw(t, "dead for the third")
		w := newWorld(t, 3, 3)
		w.ready(1)
		w.pass(time.Minute)
		waits, short, long := w.agents[0], w.agents[1], w.agents[2]
		long.parked = 2
		w.pass(2 * testConfig.Turn) // it takes the slot of one of the two others
		if w.slots(waits) > 0 {
			waits, short = short, waits
		}
		short.parked = 1
		w.pass(time.Millisecond)
		waits.parked = 1
		w.pass(2 * testConfig.Turn) // one of the long requests will make room for it
		if waits.parked != 1 || short.use["p1"] != 1 || long.use["p1"] != 2 {
			t.Fatalf("not as it should begin: %s", w)
		}
		w.end(short, "p1")
		if dead {
			short.fail("p1", true)
			short.parked = 1
		}
		w.pass(2 * testConfig.Turn)
		if waits.parked != 0 {
			t.Errorf("a request is parked beside a free slot: %s", w)
		}
	})
}

package simulate

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestFleetAgreesWithAList drives the fleet and a plain list of pods side by side.
func TestFleetAgreesWithAList(t *testing.T) {
	type model struct {
		phase    phase
		inFlight int
	}
	rapid.Check(t, func(r *rapid.T) {
		var f fleet
		pods := map[int32]*model{}
		pick := func(want func(*model) bool, label string) (int32, bool) {
			var ids []int32
			for id, p := range pods {
				if want(p) {
					ids = append(ids, id)
				}
			}
			slices.Sort(ids)
			if len(ids) == 0 {
				return 0, false
			}
			return rapid.SampledFrom(ids).Draw(r, label), true
		}
		for range rapid.IntRange(1, 150).Draw(r, "steps") {
			switch rapid.IntRange(0, 4).Draw(r, "op") {
			case 0:
				id, _ := f.ask(0)
				pods[id] = &model{phase: starting}
			case 1:
				if id, ok := pick(func(p *model) bool { return p.phase == starting }, "ready"); ok {
					f.become(id)
					pods[id].phase = ready
				}
			case 2:
				limit := rapid.IntRange(0, 3).Draw(r, "limit")
				least := -1
				for _, p := range pods {
					if p.phase == ready && (limit == 0 || p.inFlight < limit) && (least < 0 || p.inFlight < least) {
						least = p.inFlight
					}
				}
				id := f.idlest(limit)
				if (id < 0) != (least < 0) || id >= 0 && pods[id].inFlight != least {
					r.Fatalf("idlest(%d) = %d, want one with %d in flight", limit, id, least)
				}
				if id >= 0 {
					f.take(id)
					pods[id].inFlight++
				}
			case 3:
				if id, ok := pick(func(p *model) bool { return p.inFlight > 0 }, "done"); ok {
					f.release(id)
					if pods[id].inFlight--; pods[id].inFlight == 0 && pods[id].phase == draining {
						delete(pods, id)
					}
				}
			case 4:
				n := rapid.IntRange(0, 4).Draw(r, "shrink")
				f.shrink(n)
				for id, p := range pods {
					if got := f.pods[id].phase; got == gone {
						if p.inFlight > 0 {
							r.Fatalf("pod %d went with %d requests", id, p.inFlight)
						}
						delete(pods, id)
					} else {
						p.phase = got
					}
				}
			}
			count := map[phase]int{}
			for id, p := range pods {
				count[p.phase]++
				if got := int(f.pods[id].inFlight); got != p.inFlight {
					r.Fatalf("pod %d has %d in flight, want %d", id, got, p.inFlight)
				}
			}
			if f.starting != count[starting] || f.ready != count[ready] || f.draining != count[draining] {
				r.Fatalf("%d starting, %d ready, %d draining, want %v", f.starting, f.ready, f.draining, count)
			}
		}
	})
}

func TestEventsComeInOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var h events
		var want []int64
		for range rapid.IntRange(1, 200).Draw(r, "steps") {
			if len(want) > 0 && rapid.IntRange(0, 2).Draw(r, "pop") == 0 {
				if got := h.pop().at; got != want[0] {
					r.Fatalf("pop = %d, want %d", got, want[0])
				}
				want = want[1:]
				continue
			}
			at := rapid.Int64Range(0, 50).Draw(r, "at")
			h.push(event{at: at})
			i, _ := slices.BinarySearch(want, at)
			want = slices.Insert(want, i, at)
		}
	})
}

func TestQueueKeepsOrderWhileItGrows(t *testing.T) {
	var q fifo
	next, first := int64(0), int64(0)
	for round := range 500 {
		for range round % 7 {
			q.push(waiter{arrived: next})
			next++
		}
		for range round % 5 {
			if q.n > 0 {
				if got := q.pop().arrived; got != first {
					t.Fatalf("pop = %d, want %d", got, first)
				}
				first++
			}
		}
	}
	if q.n != int(next-first) {
		t.Errorf("%d wait, want %d", q.n, next-first)
	}
}

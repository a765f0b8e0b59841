package slots

import (
	"fmt"
	"testing"
	"time"
)

// crowd is a ledger at rest, with everything granted and acknowledged.
type crowd struct {
	*Ledger
	now time.Time
}

func newCrowd(pods, limit, activators int) *crowd {
	c := &crowd{New(testConfig), time.Unix(1e9, 0)}
	c.Limit(limit)
	c.Pods(c.now, nil)
	for i := range activators {
		c.Join(c.now, fmt.Sprint("a", i), Ack{})
	}
	uids := make([]string, pods)
	for i := range uids {
		uids[i] = fmt.Sprintf("0b6e6a1c-5a0e-4f6e-9d0e-%012d", i)
	}
	c.Pods(c.now, uids)
	c.settle()
	return c
}

// settle answers every grant until there are no more.
func (c *crowd) settle() {
	for grants, _ := c.Step(c.now); len(grants) > 0; grants, _ = c.Step(c.now) {
		for _, g := range grants {
			c.Ack(c.now, g.Activator, Ack{Seq: g.Seq, Bounds: g.Pods})
		}
	}
	c.now = c.now.Add(time.Second)
}

// overload makes everybody use all that it has, and park more.
func (c *crowd) overload() {
	for name, h := range c.holders {
		use := map[string]int{}
		for uid, n := range h.granted.pods {
			use[uid] = n
		}
		c.Load(c.now, name, Load{Parked: 100, Use: use})
	}
}

// TestSlotsMoveByThePod: giving many slots away costs a search per pod that gives some, not one per slot.
func TestSlotsMoveByThePod(t *testing.T) {
	const pods, limit = 200, 100
	t.Run("an activator joins", func(t *testing.T) {
		c := newCrowd(pods, limit, 1)
		c.searches = 0
		c.Join(c.now, "b", Ack{})
		c.settle()
		if got := c.holders["b"].total(); got != pods*limit/2 || c.searches > pods {
			t.Errorf("%d slots moved with %d searches, want %d with at most %d", got, c.searches, pods*limit/2, pods)
		}
	})
	t.Run("an idle one gives to one in need", func(t *testing.T) {
		c := newCrowd(pods, limit, 2)
		c.overload()
		c.Load(c.now, "a0", Load{})
		c.Load(c.now, "a1", Load{Parked: pods * limit, Use: c.holders["a1"].load.Use})
		c.now = c.now.Add(testConfig.Turn)
		c.searches = 0
		c.settle()
		if got := c.holders["a1"].total(); got != pods*limit || c.searches > pods {
			t.Errorf("%d slots there with %d searches, want %d with at most %d", got, c.searches, pods*limit, pods)
		}
	})
}

// BenchmarkStep is one decision about a large revision.
func BenchmarkStep(b *testing.B) {
	for _, s := range []struct{ pods, limit, activators int }{{10, 10, 3}, {100, 10, 3}, {1000, 1, 10}, {1000, 100, 10}} {
		name := fmt.Sprintf("%d pods, limit %d, %d activators", s.pods, s.limit, s.activators)
		b.Run(name+", rest", func(b *testing.B) {
			c := newCrowd(s.pods, s.limit, s.activators)
			b.ReportAllocs()
			for b.Loop() {
				c.Step(c.now)
			}
		})
		b.Run(name+", overload", func(b *testing.B) {
			c := newCrowd(s.pods, s.limit, s.activators)
			c.overload()
			b.ReportAllocs()
			for b.Loop() {
				c.Step(c.now)
			}
		})
		b.Run(name+", one joins", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				c := newCrowd(s.pods, s.limit, s.activators-1)
				c.Join(c.now, "b", Ack{})
				b.StartTimer()
				c.Step(c.now)
			}
		})
	}
}

package lag

import (
	"context"
	"slices"
	"time"

	"github.com/rousehq/rouse/kafkadispatch/keda"
)

// pollLimit bounds one poll of Watch.
const pollLimit = 5 * time.Second

// Watch polls every so often until ctx ends and hands each answer, or the error, to report, which must not block.
// Polls never overlap.
func (c *Client) Watch(ctx context.Context, group string, topics []string, every time.Duration, report func([]Partition, error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		inner, cancel := context.WithTimeout(ctx, pollLimit)
		ps, err := c.Poll(inner, group, topics)
		cancel()
		if ctx.Err() != nil {
			return
		}
		report(ps, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ForTrigger makes of two polls, one after the other, what a KEDA trigger looks at. The first poll has no before.
func ForTrigger(t keda.Trigger, before, now []Partition) []keda.Partition {
	committed := make(map[Partition]int64, len(before))
	id := func(p Partition) Partition { return Partition{Topic: p.Topic, Partition: p.Partition} }
	for _, p := range before {
		committed[id(p)] = p.Committed
	}
	var out []keda.Partition
	for _, p := range now {
		if t.Partitions != nil && !slices.Contains(t.Partitions, p.Partition) {
			continue
		}
		was, known := committed[id(p)]
		out = append(out, keda.Partition{
			Start: p.Start, End: p.End, Committed: p.Committed, Beyond: p.Beyond,
			Persistent: known && was == p.Committed && p.Lag() > 0,
		})
	}
	return out
}

package kafkadispatch

import (
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/kafkadispatch/order"
)

// Demand is how much work a source has for its sink. It is what scaling needs to know.
type Demand struct {
	// Lag is how many records are not finished: end − position, without those that are done beyond the position.
	Lag int64
	// Parallel is how many requests could be useful at once: partitions with work, live lanes, or the lag itself. More
	// pods than it divided by their concurrency would get nothing to do.
	Parallel int
	// InFlight is how many requests are under way.
	InFlight int
	// Partitions is how many partitions this member has.
	Partitions int
}

// Demand computes the present demand. Ends of the log are those that the client library saw last.
func (d *Dispatcher) Demand() Demand {
	d.mu.Lock()
	if d.consumer == nil {
		d.mu.Unlock()
		return Demand{}
	}
	d.admitAllLocked(time.Now())
	d.startLocked(time.Now())
	out := Demand{Partitions: len(d.parts)}
	out.InFlight, _ = d.sched.InFlight()
	ps := make([]*partition, 0, len(d.parts))
	progress := make(map[*partition][3]int64, len(d.parts))
	for _, p := range d.parts {
		ps = append(ps, p)
		o := p.Offsets()
		progress[p] = [3]int64{o.Position(), o.End(), int64(o.Beyond())}
		out.Parallel += p.Lanes()
	}
	mode := d.cfg.Order.Mode
	d.mu.Unlock()
	waiting := 0
	for _, p := range ps {
		pos, end, beyond := progress[p][0], progress[p][1], progress[p][2]
		low, high, err := d.consumer.GetWatermarkOffsets(p.ID.Topic, p.ID.Partition)
		if err == nil {
			end, pos = max(end, high), max(pos, low)
		}
		lag := max(0, end-pos-beyond)
		out.Lag += lag
		if lag > 0 {
			waiting++
		}
	}
	switch mode {
	case order.ByPartition:
		out.Parallel = waiting
	case order.Unordered:
		out.Parallel = int(min(out.Lag, 1<<30))
	default:
		out.Parallel = max(out.Parallel, waiting)
	}
	return out
}

// AtEnd says whether the end of every assigned partition has been seen since its assignment, and there is one.
func (d *Dispatcher) AtEnd() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.parts {
		if !p.ended {
			return false
		}
	}
	return len(d.parts) > 0
}

// counters are the dispatcher's totals since its start.
type counters struct {
	received, skipped, tries, delivered, retries   atomic.Int64
	deadLettered, dropped, blocked, replies, loops atomic.Int64
	commits, commitFailures, lost                  atomic.Int64
}

// Stats are totals since the start, for metrics.
type Stats struct {
	Received       int64 // records read
	Skipped        int64 // of those, finished by an earlier owner
	Tries          int64 // requests to the sink
	Delivered      int64 // records that the sink took
	Retries        int64 // records that had to wait for a further try
	DeadLettered   int64
	Dropped        int64 // records given up
	Blocked        int64 // tries of records that block their lane
	Replies        int64
	Loops          int64 // replies dropped by the loop guard
	Commits        int64
	CommitFailures int64
	Lost           int64 // partitions lost without a chance to commit
}

// Stats returns the totals.
func (d *Dispatcher) Stats() Stats {
	c := &d.counters
	return Stats{
		Received: c.received.Load(), Skipped: c.skipped.Load(), Tries: c.tries.Load(), Delivered: c.delivered.Load(),
		Retries: c.retries.Load(), DeadLettered: c.deadLettered.Load(), Dropped: c.dropped.Load(), Blocked: c.blocked.Load(),
		Replies: c.replies.Load(), Loops: c.loops.Load(), Commits: c.commits.Load(), CommitFailures: c.commitFailures.Load(),
		Lost: c.lost.Load(),
	}
}

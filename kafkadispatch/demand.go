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
	// Parallel is how many requests could be under way at once: partitions with work, live lanes, or the lag itself,
	// within the bounds of Config.Order and as batches need. More pods than it divided by their concurrency would get
	// nothing to do. It is above 0 whenever Lag is.
	Parallel int
	// InFlight is how many requests are under way.
	InFlight int
	// Partitions is how many partitions this member has.
	Partitions int
}

// progress is what a partition's share of the demand is computed from.
type progress struct {
	id              order.TopicPartition
	pos, end        int64
	beyond, waiting int // records finished beyond pos; lanes with work
}

// Demand computes the present demand. Ends of the log are those that the client library saw last.
func (d *Dispatcher) Demand() Demand {
	out := d.demand()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.startLocked(time.Now()) // what was received may be sent now
	return out
}

// demand is Demand for a caller that starts what it may have taken over.
func (d *Dispatcher) demand() Demand {
	d.mu.Lock()
	if d.consumer == nil {
		d.mu.Unlock()
		return Demand{}
	}
	d.admitAllLocked(time.Now())
	out := Demand{Partitions: len(d.parts)}
	out.InFlight, _ = d.sched.InFlight()
	ps := make([]progress, 0, len(d.parts))
	for _, p := range d.parts {
		o := p.Offsets()
		ps = append(ps, progress{p.ID, o.Position(), o.End(), o.Beyond(), p.Lanes()})
	}
	d.mu.Unlock()
	for _, p := range ps {
		low, high, err := d.consumer.GetWatermarkOffsets(p.id.Topic, p.id.Partition)
		if err == nil {
			p.end, p.pos = max(p.end, high), max(p.pos, low)
		}
		lag := max(0, p.end-p.pos-int64(p.beyond))
		out.Lag += lag
		if lag == 0 && high < 0 {
			lag = 1 // nothing was fetched yet: it may have work, and a bound that comes out too low at first would be none
		}
		out.Parallel += d.parallel(lag, p.waiting)
	}
	if out.Lag == 0 {
		out.Parallel = 0
	}
	out.Parallel = min(out.Parallel, max(1, d.cfg.Order.MaxInFlight))
	if d.cfg.Mode == Batched {
		size := int64(max(1, d.cfg.Batch.Records))
		out.Parallel = int(min(int64(out.Parallel), (out.Lag+size-1)/size))
	}
	return out
}

// parallel is how many requests one partition could have under way.
func (d *Dispatcher) parallel(lag int64, lanes int) int {
	o := &d.cfg.Order
	n := min(lag, int64(max(1, lanes))) // lanes of records that are not read yet are not known: one at least
	switch o.Mode {
	case order.ByPartition:
		n = min(lag, 1)
	case order.Unordered:
		n = min(lag, 1<<30)
	}
	if most := int64(o.MaxInFlightPerPartition); most > 0 {
		n = min(n, most)
	}
	return int(n)
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

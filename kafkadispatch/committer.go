package kafkadispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// commitLoop is the only regular committer: CommitOffsets blocks without a time limit, so nobody else may wait on it.
func (d *Dispatcher) commitLoop(ctx context.Context) {
	tick := time.NewTicker(d.cfg.CommitEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.commitNow:
		}
		err := d.commit()
		if err != nil && !failing {
			d.log.Warn("commit failed; trying on", "error", err)
		}
		failing = err != nil
	}
}

// commitWithin tries again while a commit fails, because a rebalance or a coordinator that moves refuses commits only
// for a moment.
func (d *Dispatcher) commitWithin(limit time.Duration) error {
	for until := time.Now().Add(limit); ; {
		err := d.commit()
		if err == nil || errors.Is(err, errLost) || time.Now().After(until) {
			return err
		}
		<-time.After(50 * time.Millisecond)
	}
}

// errLost says that the member has been put out of its group.
var errLost = errors.New("the assignment was lost: another member may be further")

// commit commits, in one request, every partition whose progress has changed. Commits never overlap, and what is
// collected after the lock is had is newer than what was committed before it.
func (d *Dispatcher) commit() error {
	d.committing.Lock()
	defer d.committing.Unlock()
	// The client library forgets its generation at once when it is put out of the group, and the callback that tells us
	// comes with a later Poll. Brokers take a commit without a generation when the group has no member at that moment:
	// it would set back what the others did in between. A commit that is on its way to the library at that very moment
	// cannot be held back; the next one is.
	if d.consumer.AssignmentLost() {
		return errLost
	}
	var offsets []kafka.TopicPartition
	var ps []*partition
	d.mu.Lock()
	upTo := time.Now()
	for _, p := range d.parts {
		offset, metadata, changed := p.Commit()
		if !changed {
			continue
		}
		tp := p.tp
		tp.Offset, tp.Metadata = kafka.Offset(offset), &metadata
		offsets, ps = append(offsets, tp), append(ps, p)
	}
	d.mu.Unlock()
	if len(offsets) == 0 {
		return nil
	}
	d.counters.commits.Add(1)
	got, err := d.consumer.CommitOffsets(offsets)
	for _, tp := range got {
		if err == nil && tp.Error != nil {
			err = fmt.Errorf("%s/%d: %w", *tp.Topic, tp.Partition, tp.Error)
		}
	}
	if err != nil {
		d.counters.commitFailures.Add(1)
		d.mu.Lock()
		for _, p := range ps {
			p.Uncommitted()
		}
		d.mu.Unlock()
	}
	if d.cfg.Committed != nil {
		d.cfg.Committed(upTo, err)
	}
	return err
}

package kafkadispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch/order"
)

// start is where a newly assigned partition begins.
type start struct {
	read   kafka.Offset // for the client
	from   int64        // for the scheduler: at or before the first record
	done   order.Map
	commit bool // commit the position at once, so that a restart begins at the same place
}

// askBroker bounds each question at assignment, askMost all tries of it. They run inside Poll, where the partitions
// that stay are not read further; what is held of them is sent meanwhile.
const (
	askBroker = 5 * time.Second
	askMost   = time.Minute
)

// starts finds where each partition begins: at its commit, else at the initial offset.
func (d *Dispatcher) starts(ctx context.Context, tps []kafka.TopicPartition) []start {
	out := make([]start, len(tps))
	committed, err := d.committed(ctx, tps)
	if err != nil {
		d.log.Error("commits cannot be read: the client's own position is used, finished records may be sent again", "error", err)
		for i := range out {
			out[i].read = kafka.OffsetStored
		}
		return out
	}
	for i, tp := range committed {
		if tp.Offset < 0 {
			out[i] = d.initial(tps[i])
			continue
		}
		out[i] = start{read: tp.Offset, from: int64(tp.Offset)}
		if tp.Metadata == nil || *tp.Metadata == "" {
			continue
		}
		m, err := order.DecodeMap(*tp.Metadata, int64(tp.Offset))
		if err != nil {
			d.log.Warn("commit metadata is not ours: records after the commit will be sent again", "partition", tp.Partition, "error", err)
			continue
		}
		out[i].done = m
	}
	return out
}

// committed asks until it gets an answer: starting without the map of what is finished would send all that again.
func (d *Dispatcher) committed(ctx context.Context, tps []kafka.TopicPartition) (out []kafka.TopicPartition, err error) {
	for until := time.Now().Add(askMost); time.Now().Before(until) && ctx.Err() == nil; {
		if out, err = d.consumer.Committed(tps, int(askBroker.Milliseconds())); err == nil && len(out) == len(tps) {
			if err = firstError(out); err == nil {
				return out, nil
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil, errors.Join(err, ctx.Err())
}

// firstError is what the brokers said about a single partition: such a one has no offset, which must not look as if the
// group had never committed.
func firstError(tps []kafka.TopicPartition) error {
	for _, tp := range tps {
		if tp.Error != nil {
			return fmt.Errorf("%s/%d: %w", *tp.Topic, tp.Partition, tp.Error)
		}
	}
	return nil
}

// initial is the start of a partition that nobody of the group has committed.
func (d *Dispatcher) initial(tp kafka.TopicPartition) start {
	if d.cfg.Kafka.InitialOffset == Earliest {
		return start{read: kafka.OffsetBeginning}
	}
	if at, err := time.Parse(time.RFC3339, string(d.cfg.Kafka.InitialOffset)); err == nil {
		tp.Offset = kafka.Offset(at.UnixMilli())
		found, err := d.consumer.OffsetsForTimes([]kafka.TopicPartition{tp}, int(askBroker.Milliseconds()))
		if err == nil && len(found) == 1 && found[0].Offset >= 0 {
			return start{read: found[0].Offset, from: int64(found[0].Offset), commit: true}
		}
	}
	_, end, err := d.consumer.QueryWatermarkOffsets(*tp.Topic, tp.Partition, int(askBroker.Milliseconds()))
	if err != nil {
		d.log.Warn("the end of a partition cannot be read; starting at what is its end a little later", "partition", tp.Partition, "error", err)
		return start{read: kafka.OffsetEnd}
	}
	return start{read: kafka.Offset(end), from: end, commit: true}
}

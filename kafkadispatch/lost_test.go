package kafkadispatch_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/internal/kafkabroker"
	"github.com/rousehq/rouse/kafkadispatch/order"
)

// A member that was put out of its group commits nothing more, although it learns of it only with its next poll: a broker
// takes a commit without a generation when the group is empty, and it would set back what others did since.
func TestLostMemberCommitsNothing(t *testing.T) {
	broker, err := kafkabroker.Start(kafkabroker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	k := broker.Cluster()
	var commits, stray, expel atomic.Int64
	k.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		commits.Add(1)
		if c := r.(*kmsg.OffsetCommitRequest); c.Generation < 0 || c.MemberID == "" {
			stray.Add(1)
		}
		return nil, nil, false
	})
	k.ControlKey(int16(kmsg.Heartbeat), func(r kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		if expel.Add(-1) < 0 {
			return nil, nil, false
		}
		answer := r.ResponseKind().(*kmsg.HeartbeatResponse)
		answer.ErrorCode = kerr.UnknownMemberID.Code
		return answer, nil, true
	})
	b := &cluster{addrs: broker.Bootstrap()}
	topic := b.topic(t, "lost", 1)
	s := newSink(t, func(int, request, *fasthttp.RequestCtx) { <-time.After(time.Millisecond) })
	msgs := make([]*kafka.Message, 20_000)
	for i := range msgs {
		msgs[i] = record(0, "", "x")
	}
	put(t, b, topic, msgs...)
	c := config(b, topic, s.url)
	// The poll loop waits for room most of the time, and something is to be committed all the time.
	c.BufferRecords, c.Order.Mode, c.Order.MaxInFlight = 50, order.Unordered, 1
	c.CommitEvery, c.Kafka.SessionTimeout = time.Millisecond, time.Second
	d, _ := start(t, c)
	for n := int64(1); n <= 3; n++ {
		was := d.Stats().Delivered
		await(t, "work", func() bool { return d.Stats().Delivered > was+20 })
		expel.Store(1)
		await(t, "the loss", func() bool { return d.Stats().Lost == n })
	}
	// One may be between our look and the client library at the moment of each loss.
	if stray.Load() > 3 || commits.Load() == 0 {
		t.Errorf("%d of %d commits had no member or no generation, want at most one for each of 3 losses", stray.Load(), commits.Load())
	}
}

package lag

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/internal/kafkabroker"
	"github.com/rousehq/rouse/kafkadispatch/keda"
	"github.com/rousehq/rouse/kafkadispatch/order"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPoll(t *testing.T) {
	b, err := kafkabroker.Start(kafkabroker.Config{Topics: map[string]int{"t": 2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Bootstrap()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range 10 {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Partition: 0, Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, b.String(), 2, order.Map{Base: 2, Done: []order.Range{{From: 3, To: 7}}})
	c, err := New(kafka.ConfigMap{"bootstrap.servers": b.String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got []Partition
	inner, stop := context.WithCancel(ctx)
	c.Watch(inner, "g", []string{"t"}, 10*time.Millisecond, func(ps []Partition, err error) {
		if err != nil {
			t.Error(err)
		}
		got = ps
		stop()
	})
	want := []Partition{{Topic: "t", End: 10, Committed: 2, Beyond: 4}, {Topic: "t", Partition: 1, Committed: -1}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Poll:\n%s", d)
	}
	if got[0].Lag() != 4 || got[1].Lag() != 0 {
		t.Errorf("lags are %d and %d, want 4 and 0", got[0].Lag(), got[1].Lag())
	}
	if all, err := c.Poll(ctx, "g", nil); err != nil || !cmp.Equal(want, all) {
		t.Errorf("Poll without topics = %v, %v; want those of the topic that the group has commits in: %v", all, err, want)
	}
	if none, err := c.Poll(ctx, "nobody", nil); err != nil || len(none) != 0 {
		t.Errorf("Poll of a group that is not there = %v, %v", none, err)
	}
	if ps, err := c.Poll(ctx, "nobody", []string{"t"}); err != nil || len(ps) != 2 || ps[0].Committed >= 0 || ps[0].Lag() != 10 {
		t.Errorf("Poll of a group that is not there = %v, %v", ps, err)
	}
	if _, err := c.Poll(ctx, "g", []string{"not.there"}); err == nil {
		t.Error("a topic that does not exist has a lag")
	}
}

func commit(t *testing.T, addr string, offset int64, m order.Map) {
	t.Helper()
	c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": addr, "group.id": "g"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text, _ := m.Encode(order.MapLimit)
	topic := "t"
	if _, err := c.CommitOffsets([]kafka.TopicPartition{{Topic: &topic, Offset: kafka.Offset(offset), Metadata: &text}}); err != nil {
		t.Fatal(err)
	}
}

func TestForTrigger(t *testing.T) {
	before := []Partition{{Topic: "t", Partition: 0, End: 5, Committed: 1}, {Topic: "t", Partition: 1, End: 5, Committed: 1}}
	now := []Partition{{Topic: "t", Partition: 0, End: 9, Committed: 1}, {Topic: "t", Partition: 1, End: 9, Committed: 4}, {Topic: "t", Partition: 2, End: 9}}
	got := ForTrigger(keda.Trigger{Partitions: []int32{0, 1}}, before, now)
	want := []keda.Partition{{End: 9, Committed: 1, Persistent: true}, {End: 9, Committed: 4}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ForTrigger:\n%s", d)
	}
}

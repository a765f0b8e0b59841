package kafkadispatch_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/order"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

func TestDeliversAndCommits(t *testing.T) {
	for _, mode := range []order.Mode{order.ByPartition, order.ByKey, order.Unordered} {
		t.Run(mode.String(), func(t *testing.T) {
			b := newBroker(t)
			topic := b.topic(t, "t", 4)
			s := newSink(t, nil)
			var msgs []*kafka.Message
			for i := range 200 {
				msgs = append(msgs, record(int32(i%4), fmt.Sprintf("k%d", i%7), fmt.Sprint(i)))
			}
			put(t, b, topic, msgs...)
			c := config(b, topic, s.url)
			c.Order.Mode = mode
			d, stop := start(t, c)
			await(t, "200 deliveries", func() bool { return len(s.requests()) >= 200 })
			stop()
			for p := range int32(4) {
				if got := committed(t, b, c.Kafka.Group, topic, p); got != 50 {
					t.Errorf("committed(%d) = %d, want 50", p, got)
				}
			}
			if st := d.Stats(); st.Delivered != 200 || st.Retries != 0 {
				t.Errorf("Stats = %+v, want 200 delivered at the first try", st)
			}
		})
	}
}

func TestPartitionOrderHoldsThroughRetries(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "t", 1)
	fails := 2
	s := newSink(t, func(_ int, r request, c *fasthttp.RequestCtx) {
		if r.ce("knativekafkaoffset") == "0" && fails > 0 {
			fails--
			c.SetStatusCode(503)
		}
	})
	put(t, b, topic, record(0, "", "a"), record(0, "", "b"), record(0, "", "c"))
	start(t, config(b, topic, s.url))
	await(t, "5 requests", func() bool { return len(s.requests()) >= 5 })
	if got, want := offsets(s.requests()), "0/0 0/0 0/0 0/1 0/2"; got != want {
		t.Errorf("sink saw %s, want %s", got, want)
	}
}

// Everything beyond one poison record is finished; after a crash only what was in flight may come again.
func TestCrashBesidePoisonKey(t *testing.T) {
	const n = 50_000
	b := newBroker(t)
	topic := b.topic(t, "poison", 1)
	var took, refused atomic.Int64
	s := newSink(t, func(_ int, r request, c *fasthttp.RequestCtx) {
		if r.body == "poison" {
			refused.Add(1)
			c.SetStatusCode(503)
			return
		}
		took.Add(1)
	})
	msgs := []*kafka.Message{record(0, "poison", "poison")}
	for i := range n {
		msgs = append(msgs, record(0, fmt.Sprintf("k%d", i%1000), "x"))
	}
	put(t, b, topic, msgs...)
	cc := childConfig{Bootstrap: b.Bootstrap(), Topic: topic, URL: s.url, Mode: order.ByKey, CommitMS: 20, Instance: "one"}
	kill := child(t, cc)
	await(t, "50,000 deliveries", func() bool { return took.Load() >= n })
	group := "g-" + topic
	await(t, "the map of them in the commit", func() bool {
		m, err := order.DecodeMap(metadata(t, b, group, topic), 0)
		return err == nil && len(m.Done) == 1 && m.Done[0] == order.Range{From: 1, To: n + 1}
	})
	sofar := took.Load() // more than n when a slow machine cost the group a member for a moment
	put(t, b, topic, record(0, "k0", "last"))
	await(t, "one more", func() bool { return took.Load() > sofar })
	kill()
	before, tookBefore := refused.Load(), took.Load()
	child(t, cc)
	await(t, "the poison record from the new process", func() bool { return refused.Load() >= before+3 })
	if again := took.Load() - tookBefore; again > 1 {
		t.Errorf("%d finished records were sent again, want at most the one that was not committed", again)
	}
}

func TestPoisonKeyDoesNotBlockOthers(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "t", 1)
	s := newSink(t, func(_ int, r request, c *fasthttp.RequestCtx) {
		if r.ce("key") == "bad" {
			c.SetStatusCode(400)
		}
	})
	msgs := []*kafka.Message{record(0, "bad", "1"), record(0, "bad", "2")}
	for i := range 100 {
		msgs = append(msgs, record(0, fmt.Sprint("k", i%10), "x"))
	}
	put(t, b, topic, msgs...)
	c := config(b, topic, s.url)
	c.Order.Mode = order.ByKey
	d, stop := start(t, c)
	await(t, "the others", func() bool { return d.Stats().Delivered == 100 })
	await(t, "tries of the poison record", func() bool { return d.Stats().Blocked >= 2 })
	stop()
	for _, r := range s.requests() {
		if r.body == "2" {
			t.Error("the second record of the key was sent although the first was not taken")
		}
	}
	if got := committed(t, b, c.Kafka.Group, topic, 0); got != 0 {
		t.Errorf("committed %d, want 0: the poison record is not finished", got)
	}
}

func TestBatchesKeepOrderAndIsolatePoison(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "t", 1)
	s := newSink(t, func(_ int, r request, c *fasthttp.RequestCtx) {
		if strings.Contains(r.body, `"bad"`) {
			c.SetStatusCode(422)
		}
	})
	dead := newSink(t, nil)
	var msgs []*kafka.Message
	for i := range 200 {
		value := fmt.Sprint(i)
		if i == 77 {
			value = `"bad"`
		}
		msgs = append(msgs, record(0, fmt.Sprint("k", i%5), value))
	}
	put(t, b, topic, msgs...)
	c := config(b, topic, s.url)
	c.Order.Mode, c.Mode = order.ByKey, kafkadispatch.Batched
	c.DeadLetter.HTTP = &sink.Config{URL: dead.url}
	d, stop := start(t, c)
	await(t, "200 records", func() bool { return d.Stats().Delivered == 199 && d.Stats().DeadLettered == 1 })
	stop()
	if got := committed(t, b, c.Kafka.Group, topic, 0); got != 200 {
		t.Errorf("committed %d, want 200", got)
	}
	last := map[string]int{}
	for _, r := range s.requests() {
		if r.header["content-type"] != "application/cloudevents-batch+json" {
			t.Fatalf("content type %q", r.header["content-type"])
		}
		var events []struct {
			Key                string
			KnativeKafkaOffset int
		}
		if err := json.Unmarshal([]byte(r.body), &events); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(r.body, `"bad"`) {
			continue
		}
		for _, e := range events {
			if was, ok := last[e.Key]; ok && e.KnativeKafkaOffset <= was {
				t.Errorf("key %s: offset %d after %d", e.Key, e.KnativeKafkaOffset, was)
			}
			last[e.Key] = e.KnativeKafkaOffset
		}
	}
}

func TestWrongSettingsSayOneClearThing(t *testing.T) {
	b := newBroker(t)
	for _, c := range []struct {
		name, want string
		change     func(*kafkadispatch.Config)
	}{
		{"unknown topic", "create the topic", func(c *kafkadispatch.Config) { c.Kafka.Topics = []string{"not.there" + b.run} }},
		{"wrong bootstrap", "correct bootstrapServers", func(c *kafkadispatch.Config) { c.Kafka.Bootstrap = []string{"127.0.0.1:1"} }},
		{"unknown host", "correct bootstrapServers", func(c *kafkadispatch.Config) { c.Kafka.Bootstrap = []string{"not-there.invalid:9092"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log syncBuffer
			cfg := config(b, "unused"+b.run, "http://127.0.0.1:1/")
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c.change(&cfg)
			_, stop := start(t, cfg)
			await(t, "the message", func() bool { return strings.Contains(log.String(), c.want) })
			stop()
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
				t.Errorf("%d errors were logged, want 1:\n%s", n, log.String())
			}
		})
	}
}

// syncBuffer is a buffer that many may write.
type syncBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// metadata is what a group's commit of partition 0 carries.
func metadata(t *testing.T, b *cluster, group, topic string) string {
	t.Helper()
	c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": b.String(), "group.id": group})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Committed([]kafka.TopicPartition{{Topic: &topic, Partition: 0}}, 10_000)
	if err != nil || len(got) != 1 || got[0].Metadata == nil {
		return ""
	}
	return *got[0].Metadata
}

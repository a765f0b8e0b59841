package kafkadispatch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/order"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// commitAt commits an offset for a group that has no member.
func commitAt(t *testing.T, b *cluster, group, topic string, offset int64) {
	t.Helper()
	c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": b.String(), "group.id": group})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.CommitOffsets([]kafka.TopicPartition{{Topic: &topic, Partition: 0, Offset: kafka.Offset(offset)}}); err != nil {
		t.Fatal(err)
	}
}

// replayMarkers interleaves two transactions, so that offsets 2 and 3 are their markers.
func replayMarkers(t *testing.T, s *stand) {
	topic := s.topic(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var open []*kgo.Client
	for i := range 2 {
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Bootstrap()...), kgo.TransactionalID(fmt.Sprint(topic, i)), kgo.DefaultProduceTopic(topic), kgo.UnknownTopicRetries(100))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		open = append(open, cl)
	}
	for _, cl := range open {
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "both markers", func() bool { return logEnd(t, s.broker, topic, 0) == 4 })
	put(t, s.broker, topic, record(0, "", "x"))
	target := newSink(t, nil)
	cfg := config(s.broker, topic, target.url)
	_, stop := start(t, cfg)
	await(t, "three requests", func() bool { return len(target.requests()) == 3 })
	stop()
	if got := committed(t, s.broker, cfg.Kafka.Group, topic, 0); got != 5 {
		t.Errorf("committed %d, want 5", got)
	}
	if got := offsets(target.requests()); got != "0/0 0/1 0/4" {
		t.Errorf("the sink saw %s, want offsets 0, 1 and 4", got)
	}
}

// replayCommitInterval runs with Knative's period, and sees the commit at the close.
func replayCommitInterval(t *testing.T, s *stand) {
	topic := s.topic(t, 1)
	put(t, s.broker, topic, record(0, "", "x"))
	target := newSink(t, nil)
	cfg := config(s.broker, topic, target.url)
	cfg.CommitEvery = 5 * time.Second
	d, stop := start(t, cfg)
	await(t, "the delivery", func() bool { return d.Stats().Delivered == 1 })
	stop()
	if got := committed(t, s.broker, cfg.Kafka.Group, topic, 0); got != 1 {
		t.Errorf("committed %d at the close, want 1", got)
	}
	if own := kafkadispatch.DefaultConfig().CommitEvery; own > time.Second {
		t.Errorf("our own period is %v, want 1 s or less", own)
	}
}

// replayLateAnswer takes a partition away while its request is under way.
func replayLateAnswer(t *testing.T, s *stand) {
	topic := s.topic(t, 2)
	put(t, s.broker, topic, record(0, "", "x"), record(1, "", "x"))
	hold := make(chan struct{})
	held := func(int, request, *fasthttp.RequestCtx) { <-hold }
	first, second := newSink(t, held), newSink(t, held)
	cfg := config(s.broker, topic, first.url)
	cfg.RevokeDeadline, cfg.DrainTimeout = 50*time.Millisecond, 50*time.Millisecond
	d1, stop1 := start(t, cfg)
	await(t, "both requests", func() bool { return len(first.requests()) == 2 })
	cfg.Sink.URL = second.url
	_, stop2 := start(t, cfg)
	await(t, "the new owner's request", func() bool { return len(second.requests()) == 1 })
	moved, err := strconv.Atoi(second.requests()[0].ce("knativekafkapartition"))
	if err != nil {
		t.Fatal(err)
	}
	close(hold)
	await(t, "the late answers", func() bool { return d1.Stats().Delivered == 2 })
	stop2()
	stop1()
	if got := committed(t, s.broker, cfg.Kafka.Group, topic, int32(moved)); got != 1 {
		t.Errorf("the new owner's commit is %d, want 1", got)
	}
	if n := len(first.requests()); n != 2 {
		t.Errorf("the old owner sent %d requests, want 2: none after the partition was gone", n)
	}
}

func replayRebalance(t *testing.T, s *stand, c oneCase) {
	if c.ID == "rebal-crash" {
		replayCrash(t, s)
		return
	}
	topic := s.topic(t, 6)
	target := newSink(t, nil)
	cfg := config(s.broker, topic, target.url)
	d1, stop1 := start(t, cfg)
	await(t, "six partitions", func() bool { return d1.Demand().Partitions == 6 })
	const each = 50
	feed := func() {
		var msgs []*kafka.Message
		for i := range 6 * each {
			msgs = append(msgs, record(int32(i%6), "", fmt.Sprint(i)))
		}
		put(t, s.broker, topic, msgs...)
	}
	feed()
	d2, stop2 := start(t, cfg)
	feed()
	await(t, "three partitions each", func() bool { return d1.Demand().Partitions == 3 && d2.Demand().Partitions == 3 })
	feed()
	distinct := func() int {
		seen := map[string]bool{}
		for _, r := range target.requests() {
			seen[r.ce("id")] = true
		}
		return len(seen)
	}
	await(t, "every record", func() bool { return distinct() == 3*6*each })
	stop1()
	stop2()
	if extra := len(target.requests()) - distinct(); extra > 0 {
		t.Errorf("%d records came twice although every request was answered at once", extra)
	}
}

// childEnv holds the configuration of a dispatcher that this test binary runs instead of its tests.
const childEnv = "ROUSE_TEST_DISPATCHER"

type childConfig struct {
	Bootstrap []string
	Topic     string
	URL       string
	Mode      order.Mode
	CommitMS  int
	Instance  string
}

// runChild is the whole life of such a process.
func runChild(text string) int {
	var cc childConfig
	if err := json.Unmarshal([]byte(text), &cc); err != nil {
		return 2
	}
	c := kafkadispatch.DefaultConfig()
	c.Namespace, c.Name = "ns", "src"
	c.Kafka.Bootstrap, c.Kafka.Topics, c.Kafka.Group = cc.Bootstrap, []string{cc.Topic}, "g-"+cc.Topic
	c.Kafka.InitialOffset, c.Kafka.SessionTimeout = kafkadispatch.Earliest, 1500*time.Millisecond
	c.Sink.URL, c.Sink.Timeout = cc.URL, 2*time.Second
	c.Order.Mode = cc.Mode
	c.Order.MaxInFlight = 64
	c.Policy.Delay, c.Policy.MaxDelay, c.Policy.Retries = 5*time.Millisecond, 100*time.Millisecond, 1000
	c.CommitEvery = time.Duration(cc.CommitMS) * time.Millisecond
	c.Kafka.InstanceID = cc.Instance
	d, err := kafkadispatch.New(c)
	if err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := d.Run(ctx); err != nil {
		return 1
	}
	return 0
}

// child starts a dispatcher in a process of its own, which kill ends with SIGKILL.
func child(t *testing.T, cc childConfig) (kill func()) {
	t.Helper()
	text, err := json.Marshal(cc)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dead := false
	kill = func() {
		if !dead {
			dead = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	return kill
}

// replayCrash kills a dispatcher in the middle of its work.
func replayCrash(t *testing.T, s *stand) {
	const n = 3000
	topic := s.topic(t, 2)
	target := newSink(t, nil)
	var msgs []*kafka.Message
	for i := range n {
		msgs = append(msgs, record(int32(i%2), fmt.Sprintf("k%d", i%50), fmt.Sprint(i)))
	}
	put(t, s.broker, topic, msgs...)
	cc := childConfig{Bootstrap: s.broker.Bootstrap(), Topic: topic, URL: target.url, Mode: order.ByKey, CommitMS: 20, Instance: "one"}
	kill := child(t, cc)
	await(t, "some work", func() bool { return len(target.requests()) > n/4 })
	kill()
	before := len(target.requests())
	child(t, cc)
	seen := map[string]int{}
	await(t, "every record", func() bool {
		clear(seen)
		for _, r := range target.requests() {
			seen[r.ce("id")]++
		}
		return len(seen) == n
	})
	if twice := len(target.requests()) - n; twice > before {
		t.Errorf("%d records came twice, more than were sent before the crash (%d)", twice, before)
	}
}

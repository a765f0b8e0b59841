package kafkadispatch_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/order"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

func TestNextGenerationGroupProtocol(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "nextgen", 2)
	s := newSink(t, nil)
	put(t, b, topic, record(0, "", "a"), record(1, "", "b"))
	c := config(b, topic, s.url)
	c.Kafka.NextGen = true
	d, stop := start(t, c)
	await(t, "both deliveries", func() bool { return d.Stats().Delivered == 2 })
	stop()
	if got := committed(t, b, c.Kafka.Group, topic, 0); got != 1 {
		t.Errorf("committed %d, want 1", got)
	}
}

func TestLogin(t *testing.T) {
	b, user, password := loginBroker(t)
	topic := b.topic(t, "login", 1)
	put(t, b, topic, record(0, "", "x"))
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256"} {
		t.Run(mechanism, func(t *testing.T) {
			s := newSink(t, nil)
			c := config(b, topic, s.url)
			c.Kafka.Group += mechanism
			c.Kafka.Bootstrap = b.login
			c.Kafka.SASL = kafkadispatch.SASL{Mechanism: mechanism, Username: user, Password: password}
			c.Kafka.SessionTimeout = 10 * time.Second
			d, stop := start(t, c)
			await(t, "the record", func() bool { return d.Stats().Delivered == 1 })
			stop()

			var log syncBuffer
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c.Kafka.SASL.Password = "wrong"
			_, stop = start(t, c)
			await(t, "the message", func() bool { return strings.Contains(log.String(), "net.sasl user and password") })
			stop()
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
				t.Errorf("%d errors were logged, want 1:\n%s", n, log.String())
			}
		})
	}
}

func TestLatestKeepsWhatComesBetween(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "latest", 1)
	put(t, b, topic, record(0, "", "before"))
	s := newSink(t, nil)
	c := config(b, topic, s.url)
	c.Kafka.InitialOffset = kafkadispatch.Latest
	_, stop := start(t, c)
	await(t, "the commit of the end", func() bool { return committed(t, b, c.Kafka.Group, topic, 0) == 1 })
	stop()
	put(t, b, topic, record(0, "", "between"))
	start(t, c)
	await(t, "the record", func() bool { return len(s.requests()) == 1 })
	if got := s.requests()[0].body; got != "between" {
		t.Errorf("the first record was %q, want the one that came while nobody was there", got)
	}
}

func TestStartAtATime(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "attime", 1)
	put(t, b, topic, record(0, "", "old"))
	<-time.After(20 * time.Millisecond)
	now := time.Now()
	<-time.After(20 * time.Millisecond)
	put(t, b, topic, record(0, "", "new"))
	s := newSink(t, nil)
	c := config(b, topic, s.url)
	c.Kafka.InitialOffset = kafkadispatch.InitialOffset(now.UTC().Format(time.RFC3339Nano))
	start(t, c)
	await(t, "a record", func() bool { return len(s.requests()) > 0 })
	if got := s.requests()[0].body; got != "new" {
		t.Errorf("the first record was %q, want new", got)
	}
}

// Demand says how many requests could be useful, and says so before the first one is made.
func TestDemandIsReported(t *testing.T) {
	for _, c := range []struct {
		mode order.Mode
		want int
	}{{order.ByPartition, 3}, {order.ByKey, 5}, {order.Unordered, 30}} {
		t.Run(c.mode.String(), func(t *testing.T) {
			b := newBroker(t)
			topic := b.topic(t, "demand-"+c.mode.String(), 3)
			hold := make(chan struct{})
			s := newSink(t, func(int, request, *fasthttp.RequestCtx) { <-hold })
			var msgs []*kafka.Message
			for i := range 30 {
				msgs = append(msgs, record(int32(i%5%3), string(rune('a'+i%5)), "x"))
			}
			put(t, b, topic, msgs...)
			var mu sync.Mutex
			var most kafkadispatch.Demand
			cfg := config(b, topic, s.url)
			cfg.Order.Mode = c.mode
			cfg.ReportEvery = 10 * time.Millisecond
			cfg.Report = func(d kafkadispatch.Demand) {
				mu.Lock()
				defer mu.Unlock()
				if d.Parallel > most.Parallel || d.Lag > most.Lag {
					most = d
				}
			}
			start(t, cfg)
			await(t, "the demand", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return most.Parallel == c.want && most.Lag == 30
			})
			close(hold)
		})
	}
}

// A sink that is down makes tries pause, and gets everything, in order, when it is back.
func TestCircuitBreaker(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "breaker", 4)
	var mu sync.Mutex
	down := true
	s := newSink(t, func(_ int, _ request, c *fasthttp.RequestCtx) {
		mu.Lock()
		defer mu.Unlock()
		if down {
			c.SetStatusCode(503)
		}
	})
	var msgs []*kafka.Message
	for i := range 40 {
		msgs = append(msgs, record(int32(i%4), "", "x"))
	}
	put(t, b, topic, msgs...)
	var log syncBuffer
	c := config(b, topic, s.url)
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	c.Policy = sink.Policy{Retries: 1_000_000, Delay: time.Millisecond, MaxDelay: 2 * time.Millisecond}
	d, _ := start(t, c)
	await(t, "the breaker", func() bool { return strings.Contains(log.String(), "tries pause") })
	mu.Lock()
	down = false
	mu.Unlock()
	await(t, "40 deliveries", func() bool { return d.Stats().Delivered == 40 })
	last := map[string]string{}
	for _, r := range s.requests() {
		p, o := r.ce("knativekafkapartition"), r.ce("knativekafkaoffset")
		if len(o) < len(last[p]) || (len(o) == len(last[p]) && o < last[p]) {
			t.Errorf("partition %s: offset %s after %s", p, o, last[p])
		}
		last[p] = o
	}
}

// A partition that stands is paused at its share of the buffer; the other one goes on, and nothing is lost or doubled
// by pausing and resuming.
func TestStandingPartitionIsPaused(t *testing.T) {
	const n = 3000
	b := newBroker(t)
	topic := b.topic(t, "standing", 2)
	hold := make(chan struct{})
	s := newSink(t, func(_ int, r request, _ *fasthttp.RequestCtx) {
		if r.ce("knativekafkapartition") == "0" {
			<-hold
		}
	})
	var msgs []*kafka.Message
	for i := range 2 * n {
		msgs = append(msgs, record(int32(i%2), "", "x"))
	}
	put(t, b, topic, msgs...)
	c := config(b, topic, s.url)
	c.BufferRecords = 200
	d, stop := start(t, c)
	await(t, "all of the other partition", func() bool { return d.Stats().Delivered == n })
	if got := d.Stats().Received; got > 2*n-1000 {
		t.Errorf("%d records were read although a partition stands and 200 are to be held", got)
	}
	close(hold)
	await(t, "the rest", func() bool { return d.Stats().Delivered == 2*n })
	stop()
	next := map[string]int{}
	for _, r := range s.requests() {
		p := r.ce("knativekafkapartition")
		if o := r.ce("knativekafkaoffset"); o != itoa(int64(next[p])) {
			t.Fatalf("partition %s: offset %s where %d was due", p, o, next[p])
		}
		next[p]++
	}
}

// The window beyond a commit that stands is bounded; the partition goes on when the commit does.
func TestWindowBoundPausesWithAnAlert(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "window", 1)
	hold := make(chan struct{})
	s := newSink(t, func(_ int, r request, _ *fasthttp.RequestCtx) {
		if r.ce("key") == "stands" {
			<-hold
		}
	})
	msgs := []*kafka.Message{record(0, "stands", "x")}
	for range 5000 {
		msgs = append(msgs, record(0, "", "x"))
	}
	put(t, b, topic, msgs...)
	var log syncBuffer
	c := config(b, topic, s.url)
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	c.Order.Mode, c.Order.Window.Records, c.BufferRecords = order.ByKey, 1000, 100
	d, stop := start(t, c)
	await(t, "the alert", func() bool { return strings.Contains(log.String(), "window_records") })
	close(hold)
	await(t, "all", func() bool { return d.Stats().Delivered == 5001 })
	stop()
	if got := committed(t, b, c.Kafka.Group, topic, 0); got != 5001 {
		t.Errorf("committed %d, want 5001", got)
	}
}

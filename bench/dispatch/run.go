package dispatch

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/order"
)

var modes = map[string]order.Mode{"partition": order.ByPartition, "key": order.ByKey, "none": order.Unordered, "batch": order.ByKey}

type bench struct {
	o      options
	sink   *helper
	broker *helper
	topics int
}

func newBench(_ context.Context, o options, stderr io.Writer) (*bench, error) {
	b := &bench{o: o}
	var err error
	if b.sink, err = startHelper("sink", stderr); err != nil {
		return nil, err
	}
	if o.bootstrap == "" {
		if b.broker, err = startHelper("broker", stderr); err != nil {
			b.close()
			return nil, err
		}
		b.o.bootstrap = b.broker.addr
	}
	return b, nil
}

func (b *bench) close() {
	b.sink.close()
	b.broker.close()
}

// records is how many records keep a measurement busy for about the wanted time.
func (b *bench) records(c cell) int {
	rate := 40_000.0
	if c.Delay > 0 {
		lanes := float64(b.o.inFlight)
		switch c.Order {
		case "partition":
			lanes = float64(c.Partitions)
		case "key", "batch":
			lanes = min(lanes, float64(c.Keys))
		}
		rate = min(rate, lanes/c.Delay.Seconds())
	}
	if c.Order == "batch" {
		rate = 200_000
	}
	if c.Order == "partition" && c.Delay == 0 {
		rate = 15_000
	}
	return max(500, int(rate*b.o.seconds))
}

func (b *bench) cell(ctx context.Context, c cell) (result, error) {
	r := result{cell: c, Records: b.records(c)}
	topic, err := b.fill(ctx, c, r.Records)
	if err != nil {
		return r, err
	}
	for round := range b.o.rounds {
		group := fmt.Sprintf("%s-%d", topic, round)
		s, err := b.rouse(ctx, c, topic, group, r.Records)
		if err != nil {
			return r, err
		}
		if s.rate > r.Rate {
			r.Rate, r.CPU, r.SinkCPU = s.rate, s.cpu, s.sink
		}
		if c.Order == "batch" || b.o.noBare {
			continue // the bare loop sends no batches
		}
		s, err = b.bare(ctx, c, topic, group+"-bare", r.Records)
		if err != nil {
			return r, err
		}
		if s.rate > r.BareRate {
			r.BareRate, r.BareCPU, r.BareSinkCPU = s.rate, s.cpu, s.sink
		}
	}
	if c.Order == "partition" && c.Delay > 0 {
		r.OverBound = r.Rate / (float64(c.Partitions) / c.Delay.Seconds())
	}
	return r, nil
}

// fill makes a topic and writes its records; a key always has the same partition.
func (b *bench) fill(ctx context.Context, c cell, n int) (string, error) {
	b.topics++
	topic := fmt.Sprintf("bench-%d-%d", time.Now().UnixNano(), b.topics)
	if err := b.create(ctx, topic, c.Partitions); err != nil {
		return "", err
	}
	p, err := kafka.NewProducer(&kafka.ConfigMap{"enable.metrics.push": false, "bootstrap.servers": b.o.bootstrap, "go.delivery.reports": false, "linger.ms": 5,
		"queue.buffering.max.messages": 2_000_000, "queue.buffering.max.kbytes": 1 << 20})
	if err != nil {
		return "", err
	}
	defer p.Close()
	value := []byte(strings.Repeat("x", c.Size))
	for i := range n {
		key := fmt.Sprint("k", (i*7919)%c.Keys)
		h := fnv.New32a()
		_, _ = h.Write([]byte(key))
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: int32(h.Sum32() % uint32(c.Partitions))}, Key: []byte(key), Value: value}
		if err := p.Produce(m, nil); err != nil {
			return "", err
		}
	}
	if left := p.Flush(60_000); left > 0 {
		return "", fmt.Errorf("%d records could not be written", left)
	}
	return topic, nil
}

func (b *bench) create(ctx context.Context, topic string, partitions int) error {
	a, err := kafka.NewAdminClient(&kafka.ConfigMap{"enable.metrics.push": false, "bootstrap.servers": b.o.bootstrap})
	if err != nil {
		return err
	}
	defer a.Close()
	res, err := a.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}})
	if err != nil {
		return err
	}
	if code := res[0].Error.Code(); code != kafka.ErrNoError && code != kafka.ErrTopicAlreadyExists {
		return res[0].Error
	}
	return nil
}

func (b *bench) config(c cell, topic, group string) kafkadispatch.Config {
	cfg := kafkadispatch.DefaultConfig()
	cfg.Namespace, cfg.Name = "bench", "bench"
	cfg.Kafka.Bootstrap, cfg.Kafka.Topics, cfg.Kafka.Group = strings.Split(b.o.bootstrap, ","), []string{topic}, group
	cfg.Kafka.InitialOffset = kafkadispatch.Earliest
	cfg.Sink.URL = "http://" + b.sink.addr + "/" + c.Delay.String()
	cfg.Order.Mode, cfg.Order.MaxInFlight = modes[c.Order], b.o.inFlight
	if c.Order == "batch" {
		cfg.Mode, cfg.Batch.Records = kafkadispatch.Batched, b.o.batch
	}
	return cfg
}

// sample is what one run of one rival gave: events per second, and CPU of its own and of the sink in µs per event.
type sample struct{ rate, cpu, sink float64 }

// meter measures from its making on.
type meter struct {
	b          *bench
	began      time.Time
	used, sink time.Duration
}

func (b *bench) meter() meter { return meter{b, time.Now(), cpuTime(), b.sink.cpuTime()} }

// read is the sample of n events since the meter was made.
func (m meter) read(n int) sample {
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }
	return sample{float64(n) / time.Since(m.began).Seconds(), each(cpuTime() - m.used), each(m.b.sink.cpuTime() - m.sink)}
}

// rouse measures from the first record that was delivered to the last.
func (b *bench) rouse(ctx context.Context, c cell, topic, group string, n int) (s sample, err error) {
	cfg := b.config(c, topic, group)
	first, last := make(chan struct{}), make(chan struct{})
	var done atomic.Int64
	cfg.Delivered = func(time.Time) {
		switch done.Add(1) {
		case 1:
			close(first)
		case int64(n):
			close(last)
		}
	}
	d, err := kafkadispatch.New(cfg)
	if err != nil {
		return s, err
	}
	stop := running(ctx, d)
	defer func() { err = errors.Join(err, stop()) }()
	if err := within(ctx, first); err != nil {
		return s, err
	}
	m := b.meter()
	err = within(ctx, last)
	return m.read(n), err
}

// within waits for two minutes at most.
func within(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("nothing came of it in two minutes"))
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// running runs a dispatcher until stop is called, which returns how Run ended.
func running(ctx context.Context, d *kafkadispatch.Dispatcher) (stop func() error) {
	inner, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.Run(inner) }()
	return func() error {
		cancel()
		return <-done
	}
}

// until looks every few milliseconds; two minutes are an error.
func until(ctx context.Context, cond func() bool) error {
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	for !cond() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("nothing came of it in two minutes")
		case <-tick.C:
		}
	}
	return nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

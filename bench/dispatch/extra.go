package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch"
)

// poison runs the same steady load twice at the same time, once beside a record that always fails, and compares how long
// the others take from their production to their delivery. What else the machine does hits both alike.
func (b *bench) poison(ctx context.Context, stdout io.Writer) error {
	fmt.Fprintf(stdout, "%-6s | %10s %10s | %10s %10s | %9s\n", "round", "p50", "p99", "p50 beside", "p99 poison", "p99 ratio")
	var ratios []float64
	for round := range b.o.rounds {
		alone, beside, err := b.pair(ctx)
		if err != nil {
			return err
		}
		ratio := float64(at(beside, 99)) / float64(at(alone, 99))
		ratios = append(ratios, ratio)
		fmt.Fprintf(stdout, "%-6d | %10v %10v | %10v %10v | %9.2f\n", round, at(alone, 50), at(alone, 99), at(beside, 50), at(beside, 99), ratio)
	}
	slices.Sort(ratios)
	fmt.Fprintf(stdout, "p99 beside a poison record: %.2f of p99 without it (median of %d rounds)\n", ratios[len(ratios)/2], len(ratios))
	return nil
}

// at is a percentile of sorted latencies.
func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[len(sorted)*percent/100].Round(10 * time.Microsecond)
}

func (b *bench) pair(ctx context.Context) (alone, beside []time.Duration, err error) {
	b.topics++
	name := fmt.Sprintf("steady-%d-%d", time.Now().UnixNano(), b.topics)
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() { alone, errs[0] = b.steady(ctx, name+"-alone", false) })
	wg.Go(func() { beside, errs[1] = b.steady(ctx, name+"-beside", true) })
	wg.Wait()
	slices.Sort(alone)
	slices.Sort(beside)
	return alone, beside, errors.Join(errs[:]...)
}

// steady produces 1,000 records a second to one partition, by key, and measures each from its production to its
// delivery.
func (b *bench) steady(ctx context.Context, topic string, poison bool) (out []time.Duration, err error) {
	c := cell{Partitions: 1, Delay: time.Millisecond, Size: 100, Order: "key", Keys: 1000}
	if err := b.create(ctx, topic, 1); err != nil {
		return nil, err
	}
	cfg := b.config(c, topic, topic)
	lat := make(chan time.Duration, 1<<16)
	cfg.Delivered = func(produced time.Time) { lat <- time.Since(produced) }
	d, err := kafkadispatch.New(cfg)
	if err != nil {
		return nil, err
	}
	stop := running(ctx, d)
	defer func() { err = errors.Join(err, stop()) }()
	n := int(b.o.seconds * 1000)
	if err := b.produceSteadily(ctx, topic, n, poison); err != nil {
		return nil, err
	}
	limit := time.After(30 * time.Second)
	for len(out) < n {
		select {
		case v := <-lat:
			out = append(out, v)
		case <-limit:
			return nil, fmt.Errorf("%d of %d records were delivered", len(out), n)
		}
	}
	return out[len(out)/5:], nil // the first ones waited for the group to form
}

func (b *bench) produceSteadily(ctx context.Context, topic string, n int, poison bool) error {
	p, err := kafka.NewProducer(&kafka.ConfigMap{"enable.metrics.push": false, "bootstrap.servers": b.o.bootstrap, "go.delivery.reports": false, "linger.ms": 0})
	if err != nil {
		return err
	}
	defer p.Close()
	send := func(key, value string) error {
		return p.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: 0}, Key: []byte(key), Value: []byte(value)}, nil)
	}
	if poison {
		if err := send("poison", "poison record"); err != nil {
			return err
		}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := send(fmt.Sprint("k", i%1000), "value"); err != nil {
			return err
		}
	}
	p.Flush(10_000)
	return nil
}

// memory starts idle sources and reads the kernel's account.
func (b *bench) memory(ctx context.Context, stdout io.Writer) (err error) {
	var stops []func() error
	if err := b.create(ctx, "idle", 8); err != nil {
		return err
	}
	base := residentKiB()
	fmt.Fprintf(stdout, "no source: %d KiB resident\n", base)
	defer func() {
		for _, stop := range stops {
			err = errors.Join(err, stop())
		}
	}()
	for n := 1; n <= 16; n++ {
		d, err := kafkadispatch.New(b.config(cell{Order: "key"}, "idle", fmt.Sprint("idle-", n)))
		if err != nil {
			return err
		}
		stops = append(stops, running(ctx, d))
		if err := until(ctx, func() bool { return d.Demand().Partitions == 8 }); err != nil {
			return err
		}
		if n == 1 || n == 4 || n == 16 {
			now := residentKiB()
			fmt.Fprintf(stdout, "%d idle sources of 8 partitions: %d KiB resident, %d KiB for each\n", n, now, (now-base)/n)
		}
	}
	return nil
}

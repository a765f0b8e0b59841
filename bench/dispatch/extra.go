package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch"
)

// poison runs the same steady load with and without a record that always fails, in turn, and compares how long the
// others take from their production to their delivery.
func (b *bench) poison(ctx context.Context, stdout io.Writer) error {
	fmt.Fprintf(stdout, "%-8s %6s %10s %10s\n", "round", "poison", "p50", "p99")
	for round := range b.o.rounds {
		for _, with := range []bool{false, true} {
			lat, err := b.steady(ctx, with)
			if err != nil {
				return err
			}
			slices.Sort(lat)
			fmt.Fprintf(stdout, "%-8d %6v %10v %10v\n", round, with, lat[len(lat)/2].Round(10*time.Microsecond), lat[len(lat)*99/100].Round(10*time.Microsecond))
		}
	}
	return nil
}

// steady produces 1,000 records a second to one partition, by key, and measures each from its production to its
// delivery.
func (b *bench) steady(ctx context.Context, poison bool) (out []time.Duration, err error) {
	c := cell{Partitions: 1, Delay: time.Millisecond, Size: 100, Order: "key", Keys: 1000}
	b.topics++
	topic := fmt.Sprintf("steady-%d-%d", time.Now().UnixNano(), b.topics)
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

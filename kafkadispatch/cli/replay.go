package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/internal/cmdline"
	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/order"
)

// ReplayDeadLetters sends the dead letters of a topic to a sink again and returns when there is none left. What the
// sink took is committed, so that a second run goes on where the first one ended; what it refuses stays where it is,
// and ends the command with an error.
func ReplayDeadLetters(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var conn connection
	var sinkURL, group string
	var limit time.Duration
	fs := newFlags("replay-dead-letters", "Send the dead letters of a topic to -sink again", stderr)
	conn.flags(fs)
	fs.StringVar(&sinkURL, "sink", "", "URL that gets the events")
	fs.StringVar(&group, "group", "", "consumer group that keeps the progress; rouse-replay-TOPIC when empty")
	fs.DurationVar(&limit, "limit", time.Minute, "give up after this time without progress")
	topic, err := cmdline.ParseArg(fs, args, "topic")
	if err != nil {
		return err
	}
	if sinkURL == "" {
		return cmdline.Misusef("-sink must be set; see rouse replay-dead-letters -h")
	}
	if group == "" {
		group = "rouse-replay-" + topic
	}
	if err := conn.finds(topic); err != nil { // a dispatcher would wait for brokers, and for the topic
		return fmt.Errorf("replay-dead-letters %s: %w", topic, err)
	}
	c := kafkadispatch.DefaultConfig()
	c.Namespace, c.Name = "rouse", "replay"
	c.Kafka = conn.kafka()
	c.Kafka.Group, c.Kafka.Topics, c.Kafka.InitialOffset = group, []string{topic}, kafkadispatch.Earliest
	c.Order.Mode = order.ByKey
	c.Sink.URL = sinkURL
	c.Policy.Retries, c.Policy.MaxDelay = 3, 5*time.Second
	c.StripErrors = true
	c.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	d, err := kafkadispatch.New(c)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.Run(inner) }()
	werr := awaitEmpty(ctx, d, limit)
	left := d.Demand().Lag
	cancel()
	err = errors.Join(werr, <-done)
	fmt.Fprintf(stdout, "%d dead letters sent again, %d left\n", d.Stats().Delivered, left)
	return err
}

// finds says why the brokers do not know a topic.
func (c *connection) finds(topic string) error {
	k := c.kafka()
	cm := k.ClientConfig()
	cm["group.id"] = "rouse-replay" // which the library wants of all consumers; this one joins none
	consumer, err := kafka.NewConsumer(&cm)
	if err != nil {
		return err
	}
	_, err = partitions(consumer, topic, c.timeout)
	return errors.Join(c.blame(err), consumer.Close())
}

// awaitEmpty returns when every partition is read to its end and finished.
func awaitEmpty(ctx context.Context, d *kafkadispatch.Dispatcher, limit time.Duration) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	progress, since, calm := int64(-1), time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		demand, n := d.Demand(), d.Stats().Delivered
		if n != progress {
			progress, since = n, time.Now()
		}
		if calm++; !d.AtEnd() || demand.Lag > 0 {
			calm = 0
		}
		if calm >= 3 {
			return nil
		}
		if time.Since(since) > limit {
			return fmt.Errorf("replay-dead-letters: no progress for %v; %d left", limit, demand.Lag)
		}
	}
}

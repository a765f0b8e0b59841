// Package cli holds the commands for people who work with topics: produce, consume, lag and replay-dead-letters.
//
// Each command is a function of its arguments and streams; it returns when it is done or ctx ends, and its error is
// for the user. Commands do not share state; they may run at the same time.
package cli

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/internal/cmdline"
	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/lag"
)

// connection holds the flags that say where the brokers are.
type connection struct {
	bootstrap, user, password, mechanism string
	tls                                  bool
	timeout                              time.Duration // of what is asked of the brokers
}

func (c *connection) flags(fs *flag.FlagSet) {
	fs.StringVar(&c.bootstrap, "bootstrap", "127.0.0.1:9092", "brokers, separated by commas")
	fs.StringVar(&c.user, "user", "", "SASL user")
	fs.StringVar(&c.password, "password", "", "SASL password")
	fs.StringVar(&c.mechanism, "sasl", "", "SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
	fs.BoolVar(&c.tls, "tls", false, "speak TLS")
	fs.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long brokers may take to answer")
}

func (c *connection) kafka() kafkadispatch.Kafka {
	k := kafkadispatch.DefaultKafka()
	k.Bootstrap = strings.Split(c.bootstrap, ",")
	k.SASL.Mechanism, k.SASL.Username, k.SASL.Password = c.mechanism, c.user, c.password
	k.TLS.Enable = c.tls
	return k
}

// unreachable are the client library's words for brokers that do not answer: none of them says which.
var unreachable = []kafka.ErrorCode{kafka.ErrTransport, kafka.ErrAllBrokersDown, kafka.ErrTimedOut, kafka.ErrMsgTimedOut, kafka.ErrResolve}

// blame names the brokers in an error that comes of not reaching them.
func (c *connection) blame(err error) error {
	var ke kafka.Error
	if errors.As(err, &ke) && slices.Contains(unreachable, ke.Code()) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: is there a broker at %s? See -bootstrap", err, c.bootstrap)
	}
	return err
}

// newFlags makes a command's flags. What follows them is what parse wants.
func newFlags(name, short string, stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("rouse "+name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintf(stderr, "%s.\n\nUsage:\n  rouse %s [FLAGS] TOPIC\n\nFlags, before the topic:\n", short, name)
		fs.PrintDefaults()
	}
	return fs
}

// Produce writes each line of stdin as a record. With -key-separator the part before it is the key.
func Produce(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var conn connection
	var key, separator string
	var partition int
	headers := map[string]string{}
	fs := newFlags("produce", "Write the lines of standard input to a topic", stderr)
	conn.flags(fs)
	fs.StringVar(&key, "key", "", "key of every record")
	fs.StringVar(&separator, "key-separator", "", "text between key and value in each line")
	fs.IntVar(&partition, "partition", -1, "partition; by key when negative")
	fs.Func("header", "name=value, may be repeated", func(s string) error {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("must be name=value")
		}
		headers[name] = value
		return nil
	})
	topic, err := cmdline.ParseArg(fs, args, "topic")
	if err != nil {
		return err
	}
	k := conn.kafka()
	cm := k.ClientConfig()
	cm["acks"], cm["enable.idempotence"], cm["message.timeout.ms"] = "all", true, int(conn.timeout.Milliseconds())
	p, err := kafka.NewProducer(&cm)
	if err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	defer p.Close()
	out := &outbox{p: p, done: make(chan error, 1)}
	go out.watch()
	lines := bufio.NewScanner(stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() && ctx.Err() == nil {
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: int32(partition)}, Value: []byte(lines.Text())}
		if key != "" {
			m.Key = []byte(key)
		}
		if k, v, ok := strings.Cut(lines.Text(), separator); ok && separator != "" {
			m.Key, m.Value = []byte(k), []byte(v)
		}
		for name, value := range headers {
			m.Headers = append(m.Headers, kafka.Header{Key: name, Value: []byte(value)})
		}
		if err := out.send(m); err != nil {
			return fmt.Errorf("produce: %w", err)
		}
	}
	if err := errors.Join(lines.Err(), out.close(conn.timeout)); err != nil {
		return fmt.Errorf("produce: %w", conn.blame(err))
	}
	fmt.Fprintf(stdout, "%d records\n", out.sent)
	return nil
}

// outbox counts what brokers refuse.
type outbox struct {
	p    *kafka.Producer
	sent int
	done chan error
}

func (o *outbox) send(m *kafka.Message) error {
	for {
		err := o.p.Produce(m, nil)
		var ke kafka.Error
		if errors.As(err, &ke) && ke.Code() == kafka.ErrQueueFull {
			o.p.Flush(100)
			continue
		}
		if err == nil {
			o.sent++
		}
		return err
	}
}

func (o *outbox) watch() {
	var first error
	for e := range o.p.Events() {
		if m, ok := e.(*kafka.Message); ok && m.TopicPartition.Error != nil && first == nil {
			first = m.TopicPartition.Error
		}
	}
	o.done <- first
}

// close waits until every record has its answer, or its time is over.
func (o *outbox) close(timeout time.Duration) error {
	left := o.p.Flush(int((timeout + time.Second).Milliseconds()))
	o.p.Close()
	if err := <-o.done; err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%d records were not taken by the brokers", left)
	}
	return nil
}

// Consume prints the records of a topic: partition, offset, key and value, separated by tabs.
func Consume(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var conn connection
	var from string
	var most int
	var stay bool
	fs := newFlags("consume", "Print a topic: partition, offset, key and value of each record", stderr)
	conn.flags(fs)
	fs.StringVar(&from, "from", "earliest", "earliest, latest, or an offset, for every partition")
	fs.IntVar(&most, "n", 0, "stop after so many records; 0 means no bound")
	fs.BoolVar(&stay, "follow", false, "wait for more at the end of the topic")
	topic, err := cmdline.ParseArg(fs, args, "topic")
	if err != nil {
		return err
	}
	start, err := kafka.NewOffset(from)
	if err != nil {
		return cmdline.Misusef("-from %q: must be earliest, latest or an offset", from)
	}
	k := conn.kafka()
	cm := k.ClientConfig()
	cm["group.id"], cm["enable.auto.commit"], cm["enable.partition.eof"] = "rouse-consume", false, true
	c, err := kafka.NewConsumer(&cm)
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	defer c.Close()
	parts, err := assignAll(c, topic, start, conn.timeout)
	if err != nil {
		return fmt.Errorf("consume %s: %w", topic, conn.blame(err))
	}
	ended := map[int32]bool{}
	for n := 0; ctx.Err() == nil && (most == 0 || n < most) && (stay || len(ended) < parts); {
		switch e := c.Poll(100).(type) {
		case *kafka.Message:
			n++
			fmt.Fprintf(stdout, "%d\t%d\t%s\t%s\n", e.TopicPartition.Partition, e.TopicPartition.Offset, e.Key, e.Value)
		case kafka.PartitionEOF:
			ended[e.Partition] = true
		}
	}
	return nil
}

// assignAll reads every partition without joining a group.
func assignAll(c *kafka.Consumer, topic string, start kafka.Offset, timeout time.Duration) (int, error) {
	parts, err := partitions(c, topic, timeout)
	if err != nil {
		return 0, err
	}
	var tps []kafka.TopicPartition
	for _, p := range parts {
		tps = append(tps, kafka.TopicPartition{Topic: &topic, Partition: p.ID, Offset: start})
	}
	return len(tps), c.Assign(tps)
}

func partitions(c *kafka.Consumer, topic string, timeout time.Duration) ([]kafka.PartitionMetadata, error) {
	md, err := c.GetMetadata(&topic, false, int(timeout.Milliseconds()))
	if err != nil {
		return nil, err
	}
	t := md.Topics[topic]
	if t.Error.Code() != kafka.ErrNoError {
		return nil, t.Error
	}
	return t.Partitions, nil
}

// Lag prints how far a group is behind, once, or until ctx ends with -every.
func Lag(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var conn connection
	var group string
	var every time.Duration
	fs := newFlags("lag", "How far the consumer group -group is behind in a topic, or in several divided by commas", stderr)
	conn.flags(fs)
	fs.StringVar(&group, "group", "", "consumer group")
	fs.DurationVar(&every, "every", 0, "repeat after this time")
	topic, err := cmdline.ParseArg(fs, args, "topic")
	if err != nil {
		return err
	}
	if group == "" {
		return cmdline.Misusef("-group must be set; see rouse lag -h")
	}
	k := conn.kafka()
	c, err := lag.New(k.ClientConfig())
	if err != nil {
		return fmt.Errorf("lag: %w", err)
	}
	defer c.Close()
	for {
		committed, err := printLag(ctx, c, group, topic, conn.timeout, stdout)
		if err != nil {
			return fmt.Errorf("lag: %w", conn.blame(err))
		}
		if !committed {
			fmt.Fprintf(stderr, "no group %q has committed anything in %s: if it is to exist, see -group; that of a KafkaSource without "+
				"spec.consumerGroup is knative-kafka-source-NAMESPACE-NAME\n", group, topic)
		}
		if every <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// printLag reports whether the group has committed anything.
func printLag(ctx context.Context, c *lag.Client, group, topic string, timeout time.Duration, w io.Writer) (committed bool, err error) {
	inner, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ps, err := c.Poll(inner, group, strings.Split(topic, ","))
	if err != nil {
		return false, err
	}
	total := int64(0)
	fmt.Fprintf(w, "%-30s %9s %10s %10s %10s %8s %8s\n", "TOPIC", "PARTITION", "START", "COMMITTED", "END", "BEYOND", "LAG")
	for _, p := range ps {
		at := "-"
		if p.Committed >= 0 {
			at, committed = fmt.Sprint(p.Committed), true
		}
		fmt.Fprintf(w, "%-30s %9d %10d %10s %10d %8d %8d\n", p.Topic, p.Partition, p.Start, at, p.End, p.Beyond, p.Lag())
		total += p.Lag()
	}
	fmt.Fprintf(w, "%-30s %70d\n", "total", total)
	return committed, nil
}

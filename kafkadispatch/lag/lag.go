// Package lag asks brokers how far a consumer group is behind, from outside of the group.
//
// Lag is end − max(start, committed), without the records that the commit's metadata says are finished beyond it, so
// that a record that blocks its lane does not look like a backlog. One poll is four requests, whatever the number of
// partitions: polling several times a second is cheap.
//
// It does not join groups or watch in the background. A [Client] is safe for concurrent use; Close ends it.
package lag

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch/order"
)

// Partition is how far a group is in a partition.
type Partition struct {
	Topic     string
	Partition int32
	Start     int64
	End       int64
	Committed int64 // below 0 when the group has committed nothing
	Beyond    int64 // records that are finished after Committed
}

// Lag is how many records are left to do. Without a commit that is all of them.
func (p Partition) Lag() int64 { return max(0, p.End-max(p.Start, p.Committed)-p.Beyond) }

// Client asks one cluster.
type Client struct {
	cfg   kafka.ConfigMap
	admin *kafka.AdminClient

	mu     sync.Mutex
	groups map[string]*kafka.Consumer // guarded by mu; nil after Close
}

// New makes a client; it connects at the first Poll.
func New(cfg kafka.ConfigMap) (*Client, error) {
	a, err := kafka.NewAdminClient(&cfg)
	if err != nil {
		return nil, fmt.Errorf("kafka admin client: %w", err)
	}
	return &Client{cfg: cfg, admin: a, groups: map[string]*kafka.Consumer{}}, nil
}

// Close ends the client. A Poll under way may fail.
func (c *Client) Close() {
	c.admin.Close()
	c.mu.Lock()
	groups := c.groups
	c.groups = nil
	c.mu.Unlock()
	for _, g := range groups {
		_ = g.Close()
	}
}

// Poll reads where the group is in every partition of the topics, or, without topics, of those that it has commits in.
// It returns when ctx ends, at the latest.
func (c *Client) Poll(ctx context.Context, group string, topics []string) ([]Partition, error) {
	tps, err := c.partitions(ctx, topics)
	if err != nil {
		return nil, err
	}
	commits, err := c.commits(ctx, group, tps)
	if err != nil {
		return nil, err
	}
	if len(topics) == 0 {
		tps = slices.DeleteFunc(tps, func(tp kafka.TopicPartition) bool { return !known(commits, *tp.Topic) })
	}
	if len(tps) == 0 {
		return nil, nil
	}
	starts, err := c.offsets(ctx, tps, kafka.EarliestOffsetSpec)
	if err != nil {
		return nil, err
	}
	ends, err := c.offsets(ctx, tps, kafka.LatestOffsetSpec)
	if err != nil {
		return nil, err
	}
	out := make([]Partition, 0, len(tps))
	for _, tp := range tps {
		id := order.TopicPartition{Topic: *tp.Topic, Partition: tp.Partition}
		p := Partition{Topic: id.Topic, Partition: id.Partition, Start: starts[id], End: ends[id], Committed: -1}
		if got, ok := commits[id]; ok {
			p.Committed, p.Beyond = int64(got.Offset), beyond(got)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out, nil
}

// known says whether there is a commit in any partition of the topic.
func known(commits map[order.TopicPartition]kafka.TopicPartition, topic string) bool {
	for id := range commits {
		if id.Topic == topic {
			return true
		}
	}
	return false
}

func beyond(tp kafka.TopicPartition) (n int64) {
	if tp.Metadata == nil {
		return 0
	}
	m, err := order.DecodeMap(*tp.Metadata, int64(tp.Offset))
	if err != nil {
		return 0 // another tool's text
	}
	for _, r := range m.Done {
		n += r.To - r.From
	}
	return n
}

// partitions asks without creating topics, which a request for the metadata of one may do.
func (c *Client) partitions(ctx context.Context, topics []string) ([]kafka.TopicPartition, error) {
	if len(topics) == 0 {
		return c.allPartitions(ctx)
	}
	res, err := c.admin.DescribeTopics(ctx, kafka.NewTopicCollectionOfTopicNames(topics))
	if err != nil {
		return nil, fmt.Errorf("topics %v: %w", topics, err)
	}
	var out []kafka.TopicPartition
	for _, t := range res.TopicDescriptions {
		if t.Error.Code() != kafka.ErrNoError {
			return nil, fmt.Errorf("topic %s: %w", t.Name, t.Error)
		}
		for _, p := range t.Partitions {
			out = append(out, kafka.TopicPartition{Topic: &t.Name, Partition: int32(p.Partition)})
		}
	}
	return out, nil
}

func (c *Client) offsets(ctx context.Context, tps []kafka.TopicPartition, spec kafka.OffsetSpec) (map[order.TopicPartition]int64, error) {
	ask := make(map[kafka.TopicPartition]kafka.OffsetSpec, len(tps))
	for _, tp := range tps {
		ask[tp] = spec
	}
	res, err := c.admin.ListOffsets(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	out := make(map[order.TopicPartition]int64, len(tps))
	for tp, info := range res.ResultInfos {
		if info.Error.Code() != kafka.ErrNoError {
			return nil, fmt.Errorf("list offsets of %s/%d: %w", *tp.Topic, tp.Partition, info.Error)
		}
		out[order.TopicPartition{Topic: *tp.Topic, Partition: tp.Partition}] = int64(info.Offset)
	}
	return out, nil
}

func (c *Client) allPartitions(ctx context.Context) (out []kafka.TopicPartition, err error) {
	all, err := c.admin.GetMetadata(nil, true, millis(ctx))
	if err != nil {
		return nil, fmt.Errorf("topics: %w", err)
	}
	for name, t := range all.Topics {
		if strings.HasPrefix(name, "__") {
			continue // Kafka's own
		}
		for _, p := range t.Partitions {
			out = append(out, kafka.TopicPartition{Topic: &name, Partition: p.ID})
		}
	}
	return out, nil
}

// millis is the time that ctx leaves, for calls that take no context.
func millis(ctx context.Context) int {
	at, ok := ctx.Deadline()
	if !ok {
		return int(pollLimit.Milliseconds())
	}
	return max(1, int(time.Until(at).Milliseconds()))
}

// commits has an entry for each partition with a commit. A group that does not exist has none.
//
// A consumer asks, which never joins its group: the admin client of librdkafka 2.11.1 aborts the process when a
// coordinator goes away while it asks (rd_kafka_enq_once_del_source_return).
func (c *Client) commits(ctx context.Context, group string, tps []kafka.TopicPartition) (map[order.TopicPartition]kafka.TopicPartition, error) {
	g, err := c.group(group)
	if err != nil {
		return nil, err
	}
	got, err := g.Committed(tps, millis(ctx))
	var ke kafka.Error
	if errors.As(err, &ke) && ke.Code() == kafka.ErrGroupIDNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("commits of group %s: %w", group, err)
	}
	out := map[order.TopicPartition]kafka.TopicPartition{}
	for _, tp := range got {
		if tp.Error != nil {
			return nil, fmt.Errorf("commit of group %s in %s/%d: %w", group, *tp.Topic, tp.Partition, tp.Error)
		}
		if tp.Offset >= 0 {
			out[order.TopicPartition{Topic: *tp.Topic, Partition: tp.Partition}] = tp
		}
	}
	return out, nil
}

func (c *Client) group(name string) (*kafka.Consumer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups == nil {
		return nil, errors.New("lag client is closed")
	}
	if g := c.groups[name]; g != nil {
		return g, nil
	}
	m := kafka.ConfigMap{"group.id": name, "enable.auto.commit": false}
	for k, v := range c.cfg {
		m[k] = v
	}
	g, err := kafka.NewConsumer(&m)
	if err != nil {
		return nil, fmt.Errorf("kafka client for group %s: %w", name, err)
	}
	c.groups[name] = g
	return g, nil
}

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
	"fmt"
	"slices"

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
	admin *kafka.AdminClient
}

// New makes a client; it connects at the first Poll.
func New(cfg kafka.ConfigMap) (*Client, error) {
	a, err := kafka.NewAdminClient(&cfg)
	if err != nil {
		return nil, fmt.Errorf("kafka admin client: %w", err)
	}
	return &Client{admin: a}, nil
}

// Close ends the client.
func (c *Client) Close() { c.admin.Close() }

// Poll reads where the group is in every partition of the topics. It returns when ctx ends, at the latest.
func (c *Client) Poll(ctx context.Context, group string, topics []string) ([]Partition, error) {
	tps, err := c.partitions(ctx, topics)
	if err != nil {
		return nil, err
	}
	starts, err := c.offsets(ctx, tps, kafka.EarliestOffsetSpec)
	if err != nil {
		return nil, err
	}
	ends, err := c.offsets(ctx, tps, kafka.LatestOffsetSpec)
	if err != nil {
		return nil, err
	}
	commits := c.commits(ctx, group, tps)
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

// partitions asks without creating topics, which a request for metadata may do.
func (c *Client) partitions(ctx context.Context, topics []string) ([]kafka.TopicPartition, error) {
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

// commits has an entry for each partition with a commit. A group that does not exist has none.
func (c *Client) commits(ctx context.Context, group string, tps []kafka.TopicPartition) map[order.TopicPartition]kafka.TopicPartition {
	out := map[order.TopicPartition]kafka.TopicPartition{}
	res, err := c.admin.ListConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: group, Partitions: tps}})
	if err != nil {
		return out
	}
	for _, g := range res.ConsumerGroupsTopicPartitions {
		for _, tp := range g.Partitions {
			if tp.Offset >= 0 {
				out[order.TopicPartition{Topic: *tp.Topic, Partition: tp.Partition}] = tp
			}
		}
	}
	return out
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rousehq/rouse/kafkadispatch/order"
)

// commit is what the group has committed for a partition.
type commit struct {
	Offset   int64
	Metadata string
}

// covers says whether a restart from the commit leaves the record out.
func (c commit) covers(offset int64) bool {
	if offset < c.Offset {
		return true
	}
	m, err := order.DecodeMap(c.Metadata, c.Offset)
	if err != nil {
		return false
	}
	for _, r := range m.Done {
		if r.From <= offset && offset < r.To {
			return true
		}
	}
	return false
}

// crash is a kill, in microseconds, with the group's commits just before it and when they were read again after it.
type crash struct {
	At, Read      int64
	Before, After map[int32]commit
}

// book asks the brokers for commits and writes crashes beside the sink's log. It asks with franz-go: librdkafka 2.11.1's
// admin client, which is not what is under test, aborts when a coordinator goes away at the wrong moment
// (rd_kafka_enq_once_del_source_return).
type book struct {
	o      options
	client *kgo.Client
}

func newBook(o options) (*book, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(o.bootstrap, ",")...))
	return &book{o, c}, err
}

func (b *book) close() { b.client.Close() }

// read asks until it gets an answer: the group's coordinator may be down.
func (b *book) read() (map[int32]commit, error) {
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		var got map[int32]commit
		if got, err = b.ask(); err == nil {
			return got, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}

func (b *book) ask() (map[int32]commit, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	topic := kmsg.NewOffsetFetchRequestGroupTopic()
	topic.Topic = b.o.topic
	for p := range b.o.partitions {
		topic.Partitions = append(topic.Partitions, int32(p))
	}
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group, group.Topics = b.o.topic, []kmsg.OffsetFetchRequestGroupTopic{topic}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Groups, req.RequireStable = []kmsg.OffsetFetchRequestGroup{group}, true
	res, err := req.RequestWith(ctx, b.client)
	if err != nil {
		return nil, err
	}
	return commits(res)
}

func commits(res *kmsg.OffsetFetchResponse) (map[int32]commit, error) {
	out := map[int32]commit{}
	for _, g := range res.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			return nil, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return nil, fmt.Errorf("commit of partition %d: %w", p.Partition, err)
				}
				c := commit{Offset: max(0, p.Offset)}
				if p.Metadata != nil {
					c.Metadata = *p.Metadata
				}
				out[p.Partition] = c
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the group's coordinator answers nothing")
	}
	return out, nil
}

func (b *book) write(c crash) error {
	f, err := os.OpenFile(b.o.log+".crashes", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewEncoder(f).Encode(c)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

func createTopic(o options) error {
	a, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": o.bootstrap})
	if err != nil {
		return err
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	res, err := a.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: o.topic, NumPartitions: o.partitions, ReplicationFactor: min(3, o.brokers)}})
	if err != nil {
		return err
	}
	if res[0].Error.Code() != kafka.ErrNoError {
		return res[0].Error
	}
	return nil
}

// produce writes "key n" records, n rising per key, until ctx ends; it returns how many the brokers took.
func produce(ctx context.Context, o options) (int, error) {
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": o.bootstrap, "enable.idempotence": true, "acks": "all",
		"linger.ms": 5, "message.timeout.ms": 120_000, "go.delivery.reports": true, "log_level": 2})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	failed := errors.New("")
	var lost int
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range p.Events() {
			if m, ok := e.(*kafka.Message); ok && m.TopicPartition.Error != nil {
				lost++
				failed = m.TopicPartition.Error
			}
		}
	})
	n := 0
	tick := time.NewTicker(time.Second / time.Duration(o.rate))
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		key := fmt.Sprint("k", n%o.keys)
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &o.topic, Partition: int32(n % o.keys % o.partitions)},
			Key: []byte(key), Value: fmt.Appendf(nil, "%s %d", key, n/o.keys)}
		if err := p.Produce(m, nil); err != nil {
			return n, err
		}
		n++
	}
	if left := p.Flush(120_000); left > 0 {
		return n, fmt.Errorf("%d records were not taken by the brokers", left)
	}
	p.Close()
	wg.Wait()
	if lost > 0 {
		return n, fmt.Errorf("%d records were refused by the brokers: %w", lost, failed)
	}
	return n, nil
}

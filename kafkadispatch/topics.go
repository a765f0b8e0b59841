package kafkadispatch

import (
	"errors"
	"fmt"
	"sync"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch/event"
)

// producer writes events to topics, in the binary mode of the Kafka protocol binding. It is opened at first use.
type producer struct {
	cfg    kafka.ConfigMap
	mu     sync.Mutex
	p      *kafka.Producer // guarded by mu
	closed bool            // guarded by mu
	wg     sync.WaitGroup
}

func (p *producer) open() (*kafka.Producer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("the dispatcher is stopping")
	}
	if p.p != nil {
		return p.p, nil
	}
	cm := kafka.ConfigMap{"enable.idempotence": true, "acks": "all", "linger.ms": 1, "message.timeout.ms": 10_000}
	for k, v := range p.cfg {
		cm[k] = v
	}
	kp, err := kafka.NewProducer(&cm)
	if err != nil {
		return nil, fmt.Errorf("kafka producer: %w", err)
	}
	p.p = kp
	p.wg.Go(func() {
		for range kp.Events() { // deliveries have channels of their own; errors show there too
		}
	})
	return kp, nil
}

// produce writes one event and waits until all in-sync replicas have it.
func (p *producer) produce(topic string, key []byte, e *event.Event) error {
	kp, err := p.open()
	if err != nil {
		return err
	}
	m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: kafka.PartitionAny}, Key: key, Value: e.Data}
	e.All(func(name string, value []byte) {
		h := kafka.Header{Key: "ce_" + name, Value: append([]byte{}, value...)}
		if name == "datacontenttype" {
			h.Key = "content-type"
		}
		m.Headers = append(m.Headers, h)
	})
	done := make(chan kafka.Event, 1)
	if err := kp.Produce(m, done); err != nil {
		return fmt.Errorf("produce to %s: %w", topic, err)
	}
	if report, ok := (<-done).(*kafka.Message); ok && report.TopicPartition.Error != nil {
		return fmt.Errorf("produce to %s: %w", topic, report.TopicPartition.Error)
	}
	return nil
}

func (p *producer) close() {
	p.mu.Lock()
	kp := p.p
	p.p, p.closed = nil, true
	p.mu.Unlock()
	if kp != nil {
		kp.Flush(2000)
		kp.Close()
		p.wg.Wait()
	}
}

package dispatch

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/valyala/fasthttp"
)

// bare is the rival: one poll loop, a channel and a goroutine per lane, a fasthttp client.
func (b *bench) bare(ctx context.Context, c cell, topic, group string, n int) (s sample, err error) {
	consumer, err := kafka.NewConsumer(&kafka.ConfigMap{"enable.metrics.push": false, "bootstrap.servers": b.o.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
		"enable.auto.commit": false, "fetch.wait.max.ms": 20, "log_level": 2})
	if err != nil {
		return s, err
	}
	defer consumer.Close()
	if err := consumer.Subscribe(topic, nil); err != nil {
		return s, err
	}
	lanes := b.o.inFlight
	if c.Order == "partition" {
		lanes = min(lanes, c.Partitions)
	}
	l := b.lanes(c, lanes, int64(n))
	defer l.end()
	var began meter
	for got := 0; got < n; {
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		m, ok := consumer.Poll(1000).(*kafka.Message)
		if !ok {
			continue
		}
		if got == 0 {
			began = b.meter()
		}
		l.queues[laneOf(c.Order, m, got, lanes)] <- m
		got++
	}
	<-l.finished
	return began.read(n), nil
}

func laneOf(order string, m *kafka.Message, i, lanes int) int {
	switch order {
	case "partition":
		return int(m.TopicPartition.Partition) % lanes
	case "key":
		h := fnv.New32a()
		_, _ = h.Write(m.Key)
		return int(h.Sum32()>>8) % lanes
	}
	return i % lanes
}

type bareLanes struct {
	queues   []chan *kafka.Message
	finished chan struct{}
	wg       sync.WaitGroup
}

func (b *bench) lanes(c cell, count int, n int64) *bareLanes {
	l := &bareLanes{queues: make([]chan *kafka.Message, count), finished: make(chan struct{})}
	client := &fasthttp.HostClient{Addr: b.sink.addr, MaxConns: 4096}
	url := "http://" + b.sink.addr + "/" + c.Delay.String()
	var done atomic.Int64
	for i := range l.queues {
		q := make(chan *kafka.Message, 10_000)
		l.queues[i] = q
		l.wg.Go(func() {
			for m := range q {
				post(client, url, m)
				if done.Add(1) == n {
					close(l.finished)
				}
			}
		})
	}
	return l
}

func post(client *fasthttp.HostClient, url string, m *kafka.Message) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.Header.SetMethod("POST")
	req.SetRequestURI(url)
	req.Header.Set("ce-id", fmt.Sprintf("partition:%d/offset:%d", m.TopicPartition.Partition, m.TopicPartition.Offset))
	req.Header.Set("ce-specversion", "1.0")
	req.Header.Set("ce-type", "dev.knative.kafka.event")
	req.SetBodyRaw(m.Value)
	_ = client.Do(req, resp) // the bare loop loses what fails
}

func (l *bareLanes) end() {
	for _, q := range l.queues {
		close(q)
	}
	l.wg.Wait()
}

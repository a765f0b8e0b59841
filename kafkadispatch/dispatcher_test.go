package kafkadispatch_test

import (
	"fmt"
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/kafkadispatch/order"
)

func TestDeliversAndCommits(t *testing.T) {
	for _, mode := range []order.Mode{order.ByPartition, order.ByKey, order.Unordered} {
		t.Run(mode.String(), func(t *testing.T) {
			b := newBroker(t, map[string]int{"t": 4})
			s := newSink(t, nil)
			var msgs []*kafka.Message
			for i := range 200 {
				msgs = append(msgs, record(int32(i%4), fmt.Sprintf("k%d", i%7), fmt.Sprint(i)))
			}
			put(t, b, "t", msgs...)
			c := config(b, "t", s.url)
			c.Order.Mode = mode
			d, stop := start(t, c)
			await(t, "200 deliveries", func() bool { return len(s.requests()) >= 200 })
			stop()
			for p := range int32(4) {
				if got := committed(t, b, "g-t", "t", p); got != 50 {
					t.Errorf("committed(%d) = %d, want 50", p, got)
				}
			}
			if st := d.Stats(); st.Delivered != 200 || st.Retries != 0 {
				t.Errorf("Stats = %+v, want 200 delivered at the first try", st)
			}
		})
	}
}

func TestPartitionOrderHoldsThroughRetries(t *testing.T) {
	b := newBroker(t, map[string]int{"t": 1})
	fails := 2
	s := newSink(t, func(_ int, r request, c *fasthttp.RequestCtx) {
		if r.ce("knativekafkaoffset") == "0" && fails > 0 {
			fails--
			c.SetStatusCode(503)
		}
	})
	put(t, b, "t", record(0, "", "a"), record(0, "", "b"), record(0, "", "c"))
	start(t, config(b, "t", s.url))
	await(t, "5 requests", func() bool { return len(s.requests()) >= 5 })
	if got, want := offsets(s.requests()), "0/0 0/0 0/0 0/1 0/2"; got != want {
		t.Errorf("sink saw %s, want %s", got, want)
	}
}

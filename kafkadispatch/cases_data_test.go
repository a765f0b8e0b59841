package kafkadispatch_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/event"
	"github.com/rousehq/rouse/kafkadispatch/keda"
	"github.com/rousehq/rouse/kafkadispatch/order"
	"github.com/rousehq/rouse/kafkadispatch/sink"
	"github.com/rousehq/rouse/kafkadispatch/source"
)

type noResolver struct{}

func (noResolver) Address(source.Ref) (string, error)                 { return "http://sink.invalid/", nil }
func (noResolver) Secret(string, string, string) (string, error)      { return "", nil }
func (noResolver) Embedded() []string                                 { return nil }
func (noResolver) Token(string) func(context.Context) (string, error) { return nil }

// policyOf is what a KafkaSource manifest with this delivery makes of it, as Knative would.
func policyOf(t *testing.T, delivery string) sink.Policy {
	t.Helper()
	k, err := source.Parse([]byte(`{apiVersion: sources.knative.dev/v1, kind: KafkaSource,
  metadata: {name: s, annotations: {rouse.dev/compat: knative}},
  spec: {bootstrapServers: [b], topics: [t], sink: {uri: "http://s/"}, delivery: ` + delivery + `}}`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.Config(noResolver{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Policy
}

func createTopic(t testing.TB, b *cluster, topic string, partitions int) {
	t.Helper()
	a, err := kafka.NewAdminClient(b.client(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	res, err := a.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}})
	if err != nil || res[0].Error.Code() != kafka.ErrNoError {
		t.Fatalf("create topic %s: %v %v", topic, err, res)
	}
}

func logEnd(t testing.TB, b *cluster, topic string, partition int32) int64 {
	t.Helper()
	c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": b.String(), "group.id": "ends"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, end, err := c.QueryWatermarkOffsets(topic, partition, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// putRaw writes a record with everything a record can have.
func putRaw(t *testing.T, b *cluster, rs ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Bootstrap()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(100))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// mapped sends records through a dispatcher and returns the last request.
func mapped(t *testing.T, s *stand, change func(*kafkadispatch.Config), partitions int, rs ...*kgo.Record) request {
	t.Helper()
	topic := s.topic(t, partitions)
	target := newSink(t, nil)
	for _, r := range rs {
		r.Topic = topic
	}
	putRaw(t, s.broker, rs...)
	cfg := config(s.broker, topic, target.url)
	if change != nil {
		change(&cfg)
	}
	_, stop := start(t, cfg)
	await(t, "the requests", func() bool { return len(target.requests()) == len(rs) })
	stop()
	r := target.requests()[len(rs)-1]
	r.header["topic"] = topic
	return r
}

func wantCE(t *testing.T, r request, want map[string]string) {
	t.Helper()
	for k, v := range want {
		name := "ce-" + k
		if k == "datacontenttype" {
			name = "content-type"
		}
		if got := string(event.Unescape([]byte(r.header[name]))); got != v {
			t.Errorf("attribute %s = %q, want %q", k, got, v)
		}
	}
}

func replayMapping(t *testing.T, s *stand, c oneCase) {
	switch {
	case c.ID == "map-raw":
		rs := make([]*kgo.Record, 43)
		for i := range rs {
			rs[i] = &kgo.Record{Partition: 3, Timestamp: time.UnixMilli(0), Key: []byte("k"), Value: []byte("\x01"),
				Headers: []kgo.RecordHeader{{Key: "hello", Value: []byte("world")}}}
		}
		r := mapped(t, s, func(c *kafkadispatch.Config) { c.Namespace, c.Name = "knative-ns", "ks" }, 4, rs...)
		wantCE(t, r, map[string]string{
			"id": "partition:3/offset:42", "type": "dev.knative.kafka.event", "subject": "partition:3#42", "time": "1970-01-01T00:00:00Z",
			"source": "/apis/v1/namespaces/knative-ns/kafkasources/ks#" + r.header["topic"], "key": "k", "partitionkey": "k", "kafkaheaderhello": "world",
		})
		if _, ok := r.header["content-type"]; ok || r.body != "\x01" {
			t.Errorf("content type %q and body %q, want none and 0x01", r.header["content-type"], r.body)
		}
	case c.ID == "map-no-key":
		r := mapped(t, s, nil, 1, &kgo.Record{Value: []byte("v")})
		if r.ce("key") != "" || r.ce("partitionkey") != "" {
			t.Errorf("a record without a key got one: %v", r.header)
		}
	case strings.HasPrefix(c.ID, "map-key-"):
		replayKey(t, s, c)
	case c.ID == "map-header-badchars":
		r := mapped(t, s, nil, 1, &kgo.Record{Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "X-My_Header.1", Value: []byte("v")}}})
		wantCE(t, r, map[string]string{"kafkaheaderxmyheader1": "v"})
	case c.ID == "map-header-null":
		r := mapped(t, s, nil, 1, &kgo.Record{Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "n"}, {Key: "m", Value: []byte("w")}}})
		wantCE(t, r, map[string]string{"kafkaheadern": "", "kafkaheaderm": "w", "id": "partition:0/offset:0"})
	case strings.HasPrefix(c.ID, "map-ce-binary"):
		replayNative(t, s, c)
	case c.ID == "map-ceoverrides":
		r := mapped(t, s, func(c *kafkadispatch.Config) { c.Overrides = map[string]string{"a": "b"} }, 1, &kgo.Record{Value: []byte("v")})
		wantCE(t, r, map[string]string{"a": "b"})
	default:
		t.Fatalf("no replay for %s", c.ID)
	}
}

func replayKey(t *testing.T, s *stand, c oneCase) {
	var g map[string]string
	var e map[string]json.RawMessage
	decode(t, c.Given, &g)
	decode(t, c.Expect, &e)
	key, err := hex.DecodeString(g["keyHex"])
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Trim(string(e["key"]), `"`)
	if strings.HasPrefix(want, "string(") {
		want = string(key)
	}
	r := mapped(t, s, func(c *kafkadispatch.Config) {
		c.KeyType = event.KeyType(g["label kafkasources.sources.knative.dev/key-type"])
	}, 1, &kgo.Record{Key: key, Value: []byte("v")})
	wantCE(t, r, map[string]string{"key": want, "partitionkey": want})
}

func replayNative(t *testing.T, s *stand, c oneCase) {
	var g struct {
		Headers map[string]string
		Value   *string
	}
	var e struct{ CE map[string]string }
	decode(t, c.Given, &g)
	decode(t, c.Expect, &e)
	rec := &kgo.Record{Key: []byte("not copied")}
	for k, v := range g.Headers {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	want := ""
	if g.Value != nil {
		rec.Value, want = []byte(*g.Value), *g.Value
	}
	r := mapped(t, s, nil, 1, rec)
	wantCE(t, r, e.CE)
	wantCE(t, r, map[string]string{"knativekafkapartition": "0", "knativekafkaoffset": "0", "key": ""})
	if r.body != want {
		t.Errorf("data = %q, want %q", r.body, want)
	}
}

// replayHTTP sends the event as the sink's answer: it is read from HTTP and goes on over HTTP.
func replayHTTP(t *testing.T, s *stand, c oneCase) {
	if c.ID == "ce-http-percent" {
		r := mapped(t, s, nil, 1, &kgo.Record{Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_id", Value: []byte("1")}, {Key: "ce_source", Value: []byte("/s")}, {Key: "ce_type", Value: []byte("t")},
			{Key: "ce_x", Value: []byte("Euro € 😀")}}})
		if got, want := r.ce("x"), "Euro%20%E2%82%AC%20%F0%9F%98%80"; got != want {
			t.Errorf("header = %q, want %q", got, want)
		}
		return
	}
	want := map[string]string{"id": "1234-1234-1234", "type": "com.example.someevent", "source": "/mycontext/subcontext",
		"time": "2018-04-05T03:56:24Z", "datacontenttype": "application/json"}
	if c.ID == "ce-http-binary-charset" {
		want["datacontenttype"] = "application/json; charset=utf-8"
	}
	target := newSink(t, func(_ int, _ request, x *fasthttp.RequestCtx) {
		x.SetStatusCode(200)
		x.SetBodyString(`{"message": "Hello CloudEvents!"}`)
		for k, v := range want {
			if k != "datacontenttype" {
				x.Response.Header.Set("ce-"+k, v)
			}
		}
		x.Response.Header.Set("ce-specversion", "1.0")
		x.SetContentType(want["datacontenttype"])
		if c.ID == "ce-http-structured-charset" {
			x.SetContentType("application/cloudevents+json; charset=utf-8")
			x.SetBodyString(`{"specversion":"1.0","id":"1234-1234-1234","type":"com.example.someevent","source":"/mycontext/subcontext",` +
				`"time":"2018-04-05T03:56:24Z","datacontenttype":"application/json","data":{"message":"Hello"}}`)
		}
	})
	replies := newSink(t, nil)
	topic := s.topic(t, 1)
	cfg := config(s.broker, topic, target.url)
	cfg.Reply.HTTP = &sink.Config{URL: replies.url}
	put(t, s.broker, topic, record(0, "", "x"))
	_, stop := start(t, cfg)
	await(t, "the reply", func() bool { return len(replies.requests()) == 1 })
	stop()
	wantCE(t, replies.requests()[0], want)
}

func replayKEDA(t *testing.T, _ *stand, c oneCase) {
	var g struct {
		LagPerPartition                    []int64
		LagThreshold                       int64
		ActivationLagThreshold             int64
		AllowIdleConsumers                 bool
		LimitToPartitionsWithLag           bool
		EnsureEvenDistributionOfPartitions bool
		ExcludePersistentLag               bool
		ScaleToZeroOnInvalidOffset         bool
		PersistentPartitions               []int
		MinReplicaCount, MaxReplicaCount   int
		CurrentReplicas                    int
		OffsetResetPolicy                  string
		LogStart, LogEnd                   int64
		Own                                bool
	}
	var e struct {
		Active      bool
		Metric, Lag int64
		Replicas    int
	}
	decode(t, c.Given, &g)
	decode(t, c.Expect, &e)
	tr := keda.Trigger{LagThreshold: g.LagThreshold, ActivationLagThreshold: g.ActivationLagThreshold, Earliest: g.OffsetResetPolicy == "earliest",
		AllowIdleConsumers: g.AllowIdleConsumers, ExcludePersistentLag: g.ExcludePersistentLag, ScaleToZeroOnInvalidOffset: g.ScaleToZeroOnInvalidOffset,
		LimitToPartitionsWithLag: g.LimitToPartitionsWithLag, EnsureEvenDistribution: g.EnsureEvenDistributionOfPartitions, Compat: !g.Own}
	if g.LagPerPartition == nil {
		if got, _ := tr.Lag(keda.Partition{Start: g.LogStart, End: g.LogEnd, Committed: -1}); got != e.Lag {
			t.Errorf("Lag = %d, want %d", got, e.Lag)
		}
		return
	}
	ps := make([]keda.Partition, len(g.LagPerPartition))
	for i, lag := range g.LagPerPartition {
		ps[i] = keda.Partition{End: 1000 + lag, Committed: 1000}
	}
	for _, i := range g.PersistentPartitions {
		ps[i].Persistent = true
	}
	got := tr.Evaluate(ps, keda.Bounds{Min: g.MinReplicaCount, Max: g.MaxReplicaCount, Current: g.CurrentReplicas})
	if want := (keda.Result{Active: e.Active, Metric: e.Metric, Replicas: e.Replicas}); got != want {
		t.Errorf("Evaluate = %+v, want %+v", got, want)
	}
}

func replayOffsets(t *testing.T, s *stand, c oneCase) {
	switch c.ID {
	case "off-int-overflow", "off-even-only":
		replayFarOffsets(t, c)
	case "off-txn-markers":
		replayMarkers(t, s)
	case "off-commit-interval":
		replayCommitInterval(t, s)
	case "off-revoked-late-ack":
		replayLateAnswer(t, s)
	default:
		replayCompletion(t, s, c)
	}
}

// replayFarOffsets is for offsets that no test can produce a log for: it runs on the tracker alone.
func replayFarOffsets(t *testing.T, c oneCase) {
	const first = int64(2147483597)
	now := time.Unix(0, 0)
	o := order.NewOffsets(first)
	for i := range int64(100) {
		seq := o.Receive(first+i, 1, now)
		if c.ID == "off-int-overflow" || (first+i)%2 == 0 {
			defer o.Finish(seq, now)
		}
	}
	t.Cleanup(func() {
		want := first
		if c.ID == "off-int-overflow" {
			want = 2147483697
		}
		if got := o.Position(); got != want {
			t.Errorf("Position = %d, want %d", got, want)
		}
	})
}

// gate holds each request until its offset is let through.
type gate struct {
	mu   sync.Mutex
	open map[string]chan struct{}
}

func (g *gate) of(offset string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = map[string]chan struct{}{}
	}
	if g.open[offset] == nil {
		g.open[offset] = make(chan struct{})
	}
	return g.open[offset]
}

// replayCompletion lets the sink answer in the order that the case tells.
func replayCompletion(t *testing.T, s *stand, c oneCase) {
	var g struct {
		FirstReceived    int64
		CompletedInOrder []int64
	}
	var e struct{ Committed *int64 }
	decode(t, c.Given, &g)
	decode(t, c.Expect, &e)
	last := int64(0)
	for _, o := range g.CompletedInOrder {
		last = max(last, o)
	}
	var doors gate
	target := newSink(t, func(_ int, r request, _ *fasthttp.RequestCtx) { <-doors.of(r.ce("knativekafkaoffset")) })
	topic := s.topic(t, 1)
	var msgs []*kafka.Message
	for range last + 1 {
		msgs = append(msgs, record(0, "", "x"))
	}
	put(t, s.broker, topic, msgs...)
	cfg := config(s.broker, topic, target.url)
	cfg.Order.Mode, cfg.DrainTimeout = order.Unordered, 100*time.Millisecond
	if g.FirstReceived > 0 {
		commitAt(t, s.broker, cfg.Kafka.Group, topic, g.FirstReceived)
	}
	d, stop := start(t, cfg)
	want := int(last + 1 - g.FirstReceived)
	await(t, "all requests", func() bool { return len(target.requests()) == want })
	for i, o := range g.CompletedInOrder {
		close(doors.of(itoa(o)))
		await(t, "the answer", func() bool { return d.Stats().Delivered == int64(i+1) })
	}
	stop()
	got := committed(t, s.broker, cfg.Kafka.Group, topic, 0)
	for o := range last + 1 {
		select {
		case <-doors.of(itoa(o)):
		default:
			close(doors.of(itoa(o)))
		}
	}
	if e.Committed == nil && got > g.FirstReceived {
		t.Errorf("committed %d, want nothing beyond %d", got, g.FirstReceived)
	}
	if e.Committed != nil && got != *e.Committed {
		t.Errorf("committed %d, want %d", got, *e.Committed)
	}
}

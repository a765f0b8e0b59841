package kafkadispatch_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

// ownCases are for choices of ours that differ from those in the case file.
var ownCases = []oneCase{
	{ID: "own-dls-none-blocks", Area: "dead-letter", Given: raw(`{"retry":0,"dls":false,"sinkStatusSequence":[500,500,500,202],"own":true}`), Expect: raw(`{"sinkRequests":4,"dlsRequests":0}`)},
	{ID: "own-dls-fails-is-tried-on", Area: "dead-letter", Given: raw(`{"retry":0,"dls":true,"sinkStatusSequence":[500],"dlsStatusSequence":[500,500,202],"own":true}`), Expect: raw(`{"sinkRequests":1,"dlsRequests":3}`)},
	{ID: "own-202-is-not-routed", Area: "reply", Given: raw(`{"resource":"Trigger","sinkStatus":202,"sinkReply":"binary CloudEvent"}`), Expect: raw(`{"produced":0}`)},
	{ID: "own-jitter-only-shortens", Area: "backoff", Given: raw(`{"own":"jitter"}`), Expect: raw(`{}`)},
	{ID: "own-keda-no-dead-zone", Area: "keda", Given: raw(`{"lagPerPartition":[1000,1000,1000,1000,1000,1000,1000,1000,1000,1000,1000,1000],"lagThreshold":1,"maxReplicaCount":12,"currentReplicas":11,"own":true}`), Expect: raw(`{"active":true,"metric":12,"replicas":12}`)},
	{ID: "own-keda-no-idle-replica", Area: "keda", Given: raw(`{"lagPerPartition":[10,10,10,19],"lagThreshold":10,"maxReplicaCount":100,"own":true}`), Expect: raw(`{"active":true,"metric":40,"replicas":4}`)},
	{ID: "own-keda-retention", Area: "keda", Given: raw(`{"committed":-1,"offsetResetPolicy":"earliest","logStart":400,"logEnd":500,"own":true}`), Expect: raw(`{"lag":100}`)},
}

// delivery is how cases write a delivery.
type delivery struct {
	Retry          *int
	BackoffPolicy  string
	BackoffDelayMs int
	TimeoutMs      int
	DLS            bool
}

func (d delivery) apply(c *kafkadispatch.Config) {
	c.Compat, c.Fixed = kafkadispatch.CompatKnative, true
	c.Policy = sink.Policy{Linear: d.BackoffPolicy == "linear", Delay: time.Duration(d.BackoffDelayMs) * time.Millisecond}
	if d.Retry != nil {
		c.Policy.Retries = *d.Retry
	}
	if d.TimeoutMs > 0 {
		c.Sink.Timeout = time.Duration(d.TimeoutMs) * time.Millisecond
	}
}

// sequence answers with one status after the other; the last one stays.
func sequence(statuses []int) func(int, request, *fasthttp.RequestCtx) {
	return func(n int, _ request, c *fasthttp.RequestCtx) {
		if len(statuses) > 0 {
			c.SetStatusCode(statuses[min(n, len(statuses)-1)])
		}
	}
}

func replayRetry(t *testing.T, s *stand, c oneCase) {
	var g struct {
		Delivery           delivery
		SinkStatusSequence []int
		Sink               string
	}
	var e struct {
		SinkRequests, DLSRequests int
	}
	decode(t, c.Given, &g)
	decode(t, c.Expect, &e)
	answer := sequence(g.SinkStatusSequence)
	if g.Sink != "" {
		over := make(chan struct{})
		t.Cleanup(func() { close(over) })
		answer = func(int, request, *fasthttp.RequestCtx) {
			select {
			case <-over:
			case <-time.After(3 * time.Second):
			}
		}
	}
	target, dls := newSink(t, answer), newSink(t, nil)
	topic := s.topic(t, 1)
	cfg := config(s.broker, topic, target.url)
	g.Delivery.apply(&cfg)
	if g.Delivery.DLS {
		cfg.DeadLetter.HTTP = &sink.Config{URL: dls.url}
	}
	put(t, s.broker, topic, record(0, "", "x"))
	d, stop := start(t, cfg)
	awaitDone(t, d)
	stop()
	if got := committed(t, s.broker, cfg.Kafka.Group, topic, 0); got != 1 {
		t.Errorf("committed %d, want 1", got)
	}
	if got := d.Stats().Tries; got != int64(e.SinkRequests) {
		t.Errorf("the sink was tried %d times, want %d", got, e.SinkRequests)
	}
	// A try that timed out before the sink had the time to read it is none that the sink knows of.
	if got := len(target.requests()); got != e.SinkRequests && (g.Sink == "" || got > e.SinkRequests || got == 0) {
		t.Errorf("the sink got %d requests, want %d", got, e.SinkRequests)
	}
	if got := len(dls.requests()); got != e.DLSRequests {
		t.Errorf("the dead letter sink got %d requests, want %d", got, e.DLSRequests)
	}
}

func replayDeadLetter(t *testing.T, s *stand, c oneCase) {
	var g struct {
		Retry                                 *int
		DLS                                   *bool
		SinkStatusSequence, DLSStatusSequence []int
		SinkBody, SinkURL, OIDCTokenRequest   string
		SinkBodyBytes                         int
		Own                                   bool
	}
	var e struct {
		SinkRequests, DLSRequests *int
		OffsetCommitted           *bool
		EventLost                 bool
		DLSExtensions             map[string]string
		DataBytes                 int `json:"knativeerrordataDecodedBytes"`
	}
	decode(t, c.Given, &g)
	decode(t, c.Expect, &e)
	body := g.SinkBody + strings.Repeat("b", g.SinkBodyBytes)
	statuses := sequence(g.SinkStatusSequence)
	target := newSink(t, func(n int, r request, x *fasthttp.RequestCtx) {
		statuses(n, r, x)
		x.Response.Header.Set("Kne-TestError", "hello")
		x.SetBodyString(body)
	})
	dls := newSink(t, sequence(g.DLSStatusSequence))
	topic := s.topic(t, 1)
	cfg := config(s.broker, topic, target.url)
	delivery{Retry: g.Retry, BackoffPolicy: "linear", BackoffDelayMs: 1}.apply(&cfg)
	if g.DLS == nil || *g.DLS {
		cfg.DeadLetter.HTTP = &sink.Config{URL: dls.url}
	}
	if g.Own {
		cfg.Compat = kafkadispatch.CompatNone
	}
	if g.OIDCTokenRequest != "" {
		cfg.Sink.Token = func(context.Context) (string, error) { return "", errors.New("no token today") }
	}
	put(t, s.broker, topic, record(0, "", "x"))
	d, stop := start(t, cfg)
	awaitDone(t, d)
	stop()
	if got := committed(t, s.broker, cfg.Kafka.Group, topic, 0); got != 1 {
		t.Errorf("committed %d, want 1", got)
	}
	wantCount(t, "sink", target, e.SinkRequests)
	wantCount(t, "dead letter sink", dls, e.DLSRequests)
	if got := d.Stats().Dropped == 1; got != e.EventLost {
		t.Errorf("dropped = %v, want %v", got, e.EventLost)
	}
	if e.DLSExtensions != nil {
		e.DLSExtensions["knativeerrordest"] = target.url
		e.DLSExtensions["testerror"] = "hello"
		for k, v := range e.DLSExtensions {
			if got := dls.requests()[0].ce(k); got != v {
				t.Errorf("extension %s = %q, want %q", k, got, v)
			}
		}
	}
	if e.DataBytes > 0 {
		data, err := base64.StdEncoding.DecodeString(dls.requests()[0].ce("knativeerrordata"))
		if err != nil || len(data) != e.DataBytes {
			t.Errorf("knativeerrordata has %d bytes (%v), want %d", len(data), err, e.DataBytes)
		}
	}
}

func wantCount(t *testing.T, who string, s *httpSink, want *int) {
	t.Helper()
	if want != nil && len(s.requests()) != *want {
		t.Errorf("the %s got %d requests, want %d", who, len(s.requests()), *want)
	}
}

func replayBackoff(t *testing.T, s *stand, c oneCase) {
	switch c.ID {
	case "backoff-linear", "backoff-exp":
		replayWaits(t, s, c)
	case "backoff-delay-without-retry":
		if p := policyOf(t, `{backoffDelay: PT1S}`); p.Retries != 0 {
			t.Errorf("retries = %d, want 0", p.Retries)
		}
	case "backoff-delay-default":
		wantWaits(t, policyOf(t, `{retry: 3}`), []int{2000, 4000, 8000})
	case "retry-after-upstream", "retry-after-cap":
		replayRetryAfter(t, s, c)
	case "backoff-go-vs-java":
		wantWaits(t, sink.Policy{Linear: true, Delay: time.Second}, []int{1000})
		wantWaits(t, sink.Policy{Delay: time.Second}, []int{2000})
	case "own-jitter-only-shortens":
		p := sink.Policy{Delay: time.Second, Jitter: 0.5, MaxDelay: 3 * time.Second}
		for n := range 100 {
			if got := p.Wait(n+1, 0); got < time.Second || got > 3*time.Second {
				t.Errorf("Wait(%d) = %v, want between 1 s and 3 s", n+1, got)
			}
		}
	default:
		t.Fatalf("no replay for %s", c.ID)
	}
}

func wantWaits(t *testing.T, p sink.Policy, ms []int) {
	t.Helper()
	for i, want := range ms {
		if got := p.Wait(i+1, 0); got != time.Duration(want)*time.Millisecond {
			t.Errorf("Wait(%d) = %v, want %d ms", i+1, got, want)
		}
	}
}

// replayWaits checks the waits as values, and that the dispatcher does wait them.
func replayWaits(t *testing.T, s *stand, c oneCase) {
	var g struct {
		Policy  string
		DelayMs int
		Retry   int
	}
	var e struct{ WaitsMs []int }
	decode(t, c.Given, &g)
	decode(t, c.Expect, &e)
	target := newSink(t, sequence([]int{500}))
	topic := s.topic(t, 1)
	cfg := config(s.broker, topic, target.url)
	delivery{Retry: &g.Retry, BackoffPolicy: g.Policy, BackoffDelayMs: g.DelayMs}.apply(&cfg)
	wantWaits(t, cfg.Policy, e.WaitsMs)
	put(t, s.broker, topic, record(0, "", "x"))
	start(t, cfg)
	await(t, "all tries", func() bool { return len(target.requests()) == g.Retry+1 })
	for i, r := range target.requests()[1:] {
		if gap := r.at.Sub(target.requests()[i].at); gap < time.Duration(e.WaitsMs[i])*time.Millisecond {
			t.Errorf("try %d came after %v, want %d ms or more", i+2, gap, e.WaitsMs[i])
		}
	}
}

func replayRetryAfter(t *testing.T, s *stand, c oneCase) {
	var g struct {
		Delivery json.RawMessage
		Response map[string]any
	}
	var e struct{ WaitMs int }
	decode(t, c.Given, &g)
	decode(t, c.Expect, &e)
	target := newSink(t, func(n int, _ request, x *fasthttp.RequestCtx) {
		if n == 0 {
			x.SetStatusCode(int(g.Response["status"].(float64)))
			x.Response.Header.Set("Retry-After", g.Response["Retry-After"].(string))
		}
	})
	topic := s.topic(t, 1)
	cfg := config(s.broker, topic, target.url)
	cfg.Policy = policyOf(t, string(g.Delivery))
	asked := sink.ParseRetryAfter(g.Response["Retry-After"].(string), time.Now())
	if got := cfg.Policy.Wait(1, asked); got != time.Duration(e.WaitMs)*time.Millisecond {
		t.Errorf("Wait(1) = %v, want %d ms", got, e.WaitMs)
	}
	put(t, s.broker, topic, record(0, "", "x"))
	start(t, cfg)
	await(t, "the second try", func() bool { return len(target.requests()) == 2 })
	rs := target.requests()
	if gap := rs[1].at.Sub(rs[0].at); gap < time.Duration(e.WaitMs)*time.Millisecond {
		t.Errorf("the second try came after %v, want %d ms or more", gap, e.WaitMs)
	}
}

func replayReply(t *testing.T, s *stand, c oneCase) {
	var g struct {
		Resource, SinkReply, SinkBody string
		SinkStatus                    int
		DLS                           bool
	}
	var e struct {
		ProducedToBrokerTopic, Produced, DLSRequests, SinkRequests *int
	}
	decode(t, c.Given, &g)
	decode(t, c.Expect, &e)
	target := newSink(t, func(_ int, _ request, x *fasthttp.RequestCtx) {
		x.SetStatusCode(g.SinkStatus)
		x.SetBodyString(g.SinkBody)
		if g.SinkReply != "" {
			for k, v := range map[string]string{"ce-specversion": "1.0", "ce-id": "r", "ce-source": "/r", "ce-type": "reply"} {
				x.Response.Header.Set(k, v)
			}
			x.SetBodyString("answer")
		}
	})
	dls := newSink(t, nil)
	topic, replies := s.topic(t, 1), s.topic(t, 1)
	cfg := config(s.broker, topic, target.url)
	delivery{}.apply(&cfg)
	if g.Resource != "KafkaSource" {
		cfg.Reply.Topic = replies
	}
	if g.DLS {
		cfg.DeadLetter.HTTP = &sink.Config{URL: dls.url}
	}
	put(t, s.broker, topic, record(0, "", "x"))
	d, stop := start(t, cfg)
	awaitDone(t, d)
	stop()
	if got := committed(t, s.broker, cfg.Kafka.Group, topic, 0); got != 1 {
		t.Errorf("committed %d, want 1", got)
	}
	want := 0
	for _, n := range []*int{e.ProducedToBrokerTopic, e.Produced} {
		if n != nil {
			want = *n
		}
	}
	if got := logEnd(t, s.broker, replies, 0); got != int64(want) {
		t.Errorf("%d replies were produced, want %d", got, want)
	}
	wantCount(t, "sink", target, e.SinkRequests)
	wantCount(t, "dead letter sink", dls, e.DLSRequests)
}

func replayRequest(t *testing.T, s *stand, c oneCase) {
	if c.ID == "req-timeout-default" {
		target, err := sink.New(sink.Config{URL: "http://s/x"})
		if err != nil || target.Timeout() != 600*time.Second {
			t.Errorf("Timeout = %v (%v), want 600 s", target.Timeout(), err)
		}
		return
	}
	target := newSink(t, nil)
	topic := s.topic(t, 1)
	var msgs []*kafka.Message
	for range 8 {
		msgs = append(msgs, record(0, "", "x"))
	}
	put(t, s.broker, topic, msgs...)
	start(t, config(s.broker, topic, target.url))
	await(t, "8 requests", func() bool { return len(target.requests()) == 8 })
	r := target.requests()[7]
	for k, v := range map[string]string{"prefer": "reply", "kn-namespace": "ns", "ce-specversion": "1.0",
		"ce-knativekafkapartition": "0", "ce-knativekafkaoffset": "7", "ce-id": "partition:0/offset:7"} {
		if r.header[k] != v {
			t.Errorf("header %s = %q, want %q", k, r.header[k], v)
		}
	}
	if r.body != "x" {
		t.Errorf("body = %q, want x", r.body)
	}
}

func replayOrdering(t *testing.T, s *stand, c oneCase) {
	topic := s.topic(t, 2)
	free := make(chan struct{})
	t.Cleanup(func() {
		select {
		case <-free:
		default:
			close(free)
		}
	})
	if c.ID == "order-per-partition" {
		target := newSink(t, sequence([]int{500, 500, 200}))
		put(t, s.broker, topic, record(0, "", "a"), record(0, "", "b"), record(0, "", "c"))
		start(t, config(s.broker, topic, target.url))
		await(t, "5 requests", func() bool { return len(target.requests()) == 5 })
		if got := offsets(target.requests()); got != "0/0 0/0 0/0 0/1 0/2" {
			t.Errorf("the sink saw %s", got)
		}
		return
	}
	target := newSink(t, func(_ int, r request, _ *fasthttp.RequestCtx) {
		if r.ce("knativekafkapartition") == "0" {
			<-free
		}
	})
	var msgs []*kafka.Message
	for i := range 20 {
		msgs = append(msgs, record(int32(i%2), "", fmt.Sprint(i)))
	}
	put(t, s.broker, topic, msgs...)
	start(t, config(s.broker, topic, target.url))
	await(t, "10 of partition 1 while partition 0 stands", func() bool {
		rs := target.requests()
		return len(slices.DeleteFunc(rs, func(r request) bool { return r.ce("knativekafkapartition") == "0" })) == 10
	})
	close(free)
	await(t, "all", func() bool { return len(target.requests()) == 20 })
}

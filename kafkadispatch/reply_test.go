package kafkadispatch_test

import (
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

// A batched answer is several replies: they go on in their order, and one that fails does not repeat those before it.
func TestBatchedReply(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "batchreply", 1)
	s := newSink(t, func(_ int, _ request, c *fasthttp.RequestCtx) {
		c.SetStatusCode(200)
		c.SetContentType("application/cloudevents-batch+json")
		c.SetBodyString(`[{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"n":1}},` +
			`{"specversion":"1.0","id":"2","source":"/s","type":"t","datacontenttype":"text/plain","data":"two"}]`)
	})
	replies := newSink(t, func(n int, _ request, c *fasthttp.RequestCtx) {
		if n == 1 {
			c.SetStatusCode(503)
		}
	})
	put(t, b, topic, record(0, "", "x"))
	c := config(b, topic, s.url)
	c.Reply = kafkadispatch.Destination{HTTP: &sink.Config{URL: replies.url}}
	d, _ := start(t, c)
	await(t, "two replies", func() bool { return d.Stats().Replies == 2 })
	awaitDone(t, d)
	var got []string
	for _, r := range replies.requests() {
		got = append(got, r.ce("id")+" "+r.ce("rousereplyhops")+" "+r.body)
	}
	want := []string{`1 1 {"n":1}`, "2 1 two", "2 1 two"}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("replies %q, want %q", got, want)
	}
}

// An answer that calls itself an event and is none is a failure of the record, as a body that is no event is.
func TestInvalidReplyFails(t *testing.T) {
	b := newBroker(t)
	topic := b.topic(t, "badreply", 1)
	s := newSink(t, func(_ int, _ request, c *fasthttp.RequestCtx) {
		c.SetStatusCode(200)
		for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-time": "yesterday"} {
			c.Response.Header.Set(name, value)
		}
		c.SetBodyString("x")
	})
	dead, replies := newSink(t, nil), newSink(t, nil)
	put(t, b, topic, record(0, "", "x"))
	c := config(b, topic, s.url)
	c.Reply = kafkadispatch.Destination{HTTP: &sink.Config{URL: replies.url}}
	c.DeadLetter = kafkadispatch.Destination{HTTP: &sink.Config{URL: dead.url}}
	d, _ := start(t, c)
	await(t, "the dead letter", func() bool { return d.Stats().DeadLettered == 1 })
	if n := len(replies.requests()); n != 0 {
		t.Errorf("%d replies were sent, want none", n)
	}
}

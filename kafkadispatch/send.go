package kafkadispatch

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rousehq/rouse/kafkadispatch/event"
	"github.com/rousehq/rouse/kafkadispatch/order"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

// maxErrorData is how much of a failed answer's body goes into knativeerrordata, before base64.
const maxErrorData = 1024

// maxBlocked caps the wait between tries of a record that blocks its lane.
const maxBlocked = 30 * time.Second

// hopsName is the extension that counts how often an event was a reply.
const hopsName = "rousereplyhops"

// send brings the records of one request as far as it can go now.
func (d *Dispatcher) send(w *worker, batch []*order.Record) verdict {
	first := batch[0].Payload.(*task)
	if d.cfg.Mode == Batched && first.stage == toSink {
		return d.sendBatch(w, batch)
	}
	return d.steps(w, first, untold)
}

// steps goes on until the record is done with or has to wait. told is what is known of the sink already.
func (d *Dispatcher) steps(w *worker, t *task, told outcome) verdict {
	for {
		if t.part.fenced.Load() {
			return verdict{park: true, sink: told}
		}
		v := d.step(w, t)
		if v.sink == untold {
			v.sink = told
		}
		if !v.again {
			return v
		}
		told = v.sink
	}
}

func (d *Dispatcher) step(w *worker, t *task) verdict {
	switch t.stage {
	case toReply:
		return d.stepReply(w, t)
	case toDeadLetter:
		return d.stepDeadLetter(w, t)
	}
	d.mapTask(w, t)
	w.encode(&w.ev, d.cfg.Mode)
	w.trace(t.msg)
	d.counters.tries.Add(1)
	err := d.sink.Do(&w.x)
	told, ok := w.judge(err, t.Attempts)
	v := verdict{}
	if ok {
		v = d.succeeded(w, t)
	} else {
		v = d.failed(w, t, d.sink.URL(), err)
	}
	v.sink = told
	return v
}

// judge says what an exchange with the sink tells about the sink, and whether it was a success. attempts is how many
// tries the record has had before.
func (w *worker) judge(err error, attempts int) (outcome, bool) {
	switch {
	case err == nil && w.x.Status() < 300:
		return well, true
	case errors.Is(err, sink.ErrToken), err == nil && !sink.Overload(w.x.Status()):
		return untold, false
	case attempts > 0:
		return unwellAgain, false
	}
	return unwell, false
}

// mapTask fills the worker's event from the record.
func (d *Dispatcher) mapTask(w *worker, t *task) {
	m := t.msg
	w.rec = event.Record{
		Topic: *m.TopicPartition.Topic, Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset),
		Time: m.Timestamp, Key: m.Key, Value: m.Value, Headers: w.rec.Headers[:0],
	}
	for _, h := range m.Headers {
		w.rec.Headers = append(w.rec.Headers, event.Header{Key: h.Key, Value: h.Value})
	}
	w.ev.Reset()
	d.mapper.Map(&w.ev, &w.rec)
	if d.cfg.StripErrors {
		for _, name := range [...]string{"knativeerrordest", "knativeerrorcode", "knativeerrordata"} {
			w.ev.Remove(name)
		}
	}
}

// encode puts an event into the worker's next request.
func (w *worker) encode(e *event.Event, mode ContentMode) {
	if mode == Structured {
		w.x.Head = append(w.x.Head[:0], "content-type: "+event.Structured+"\r\n"...)
		w.body = e.AppendJSON(w.body[:0])
		w.x.Body = w.body
		return
	}
	w.x.Head = e.AppendBinary(w.x.Head[:0])
	w.x.Body = e.Data
}

// trace passes W3C trace context on, from the record's headers or from the event's extension.
func (w *worker) trace(m *kafka.Message) {
	for _, name := range [...]string{"traceparent", "tracestate"} {
		var value []byte
		for _, h := range m.Headers {
			if strings.EqualFold(h.Key, name) || strings.EqualFold(h.Key, "ce_"+name) {
				value = h.Value
			}
		}
		if value == nil {
			continue
		}
		w.x.Head = append(append(w.x.Head, name...), ": "...)
		for _, c := range value {
			if c >= ' ' && c < 0x7f {
				w.x.Head = append(w.x.Head, c)
			}
		}
		w.x.Head = append(w.x.Head, "\r\n"...)
	}
}

// succeeded looks at the answer: an event in it is a reply, when replies go anywhere. A 202 carries none, says the
// data plane specification.
func (d *Dispatcher) succeeded(w *worker, t *task) verdict {
	d.counters.delivered.Add(1)
	if d.cfg.Delivered != nil {
		d.cfg.Delivered(t.msg.Timestamp)
	}
	if !d.reply.set() || w.x.Status() == 202 {
		return verdict{}
	}
	if len(w.x.Answer()) == 0 && !isEvent(w) {
		return verdict{}
	}
	es, err := event.ParseHTTP(w.x.Header, w.x.Answer())
	switch {
	case err == nil:
		return d.replyWith(t, es)
	case len(w.x.Answer()) == 0:
		return verdict{}
	}
	return d.exhausted(t, d.describe(w, d.sink.URL(), nil))
}

// isEvent looks at what an answer without a body needs to be an event.
func isEvent(w *worker) bool { return w.x.Peek("Ce-Specversion") != "" }

// replyWith sends the events on, one after the other, but for those that went round too often.
func (d *Dispatcher) replyWith(t *task, es []*event.Event) verdict {
	t.replies = nil
	for _, e := range es {
		hops, _ := strconv.Atoi(e.Get(hopsName))
		if was := eventHops(t.msg); was > hops {
			hops = was
		}
		if limit := d.cfg.MaxHops; limit > 0 && hops >= limit {
			d.counters.loops.Add(1)
			d.log.Warn("reply was dropped: the event was a reply too often", "hops", hops, "offset", t.Offset)
			continue
		}
		e.SetInt(hopsName, int64(hops+1))
		t.replies = append(t.replies, e.Clone())
	}
	if len(t.replies) == 0 {
		return verdict{}
	}
	t.stage, t.tries = toReply, 0
	return verdict{again: true}
}

func eventHops(m *kafka.Message) int {
	for _, h := range m.Headers {
		if h.Key == "ce_"+hopsName {
			n, _ := strconv.Atoi(string(h.Value))
			return n
		}
	}
	return 0
}

// failed decides what follows from a try that did not succeed at the sink.
func (d *Dispatcher) failed(w *worker, t *task, dest string, err error) verdict {
	t.Attempts++
	f := d.describe(w, dest, err)
	if d.retryable(w, err) && t.Attempts <= d.cfg.Policy.Retries {
		return verdict{park: true, wait: d.wait(w, t.Attempts, err)}
	}
	return d.exhausted(t, f)
}

func (d *Dispatcher) retryable(w *worker, err error) bool {
	if err != nil {
		return !errors.Is(err, sink.ErrToken)
	}
	return sink.Retryable(w.x.Status())
}

func (d *Dispatcher) wait(w *worker, n int, err error) time.Duration {
	asked := time.Duration(0)
	if err == nil && (w.x.Status() == 429 || w.x.Status() == 503) {
		asked = sink.ParseRetryAfter(w.x.Peek("Retry-After"), time.Now())
	}
	return d.cfg.Policy.Wait(n, asked)
}

// exhausted sends a record that failed for good to where it belongs.
func (d *Dispatcher) exhausted(t *task, f failure) verdict {
	switch {
	case d.dead.set():
		t.failure, t.stage, t.tries = &f, toDeadLetter, 0
		return verdict{again: true}
	case d.cfg.Exhausted == Drop || d.cfg.Compat == CompatKnative:
		d.counters.dropped.Add(1)
		d.log.Error("record was dropped: no try is left and there is no dead letter sink", "topic", t.part.ID.Topic,
			"partition", t.part.ID.Partition, "offset", t.Offset, "status", f.code)
		return verdict{}
	}
	return d.blocked(t, t.Attempts-d.cfg.Policy.Retries, f)
}

// blocked keeps trying; the lane waits and nothing else does.
func (d *Dispatcher) blocked(t *task, n int, f failure) verdict {
	d.counters.blocked.Add(1)
	if n <= 1 {
		d.log.Error("record blocks its lane: no try is left and nothing takes it; it is tried on", "topic", t.part.ID.Topic,
			"partition", t.part.ID.Partition, "offset", t.Offset, "status", f.code, "dest", f.dest)
	}
	return verdict{park: true, wait: min(maxBlocked, max(100*time.Millisecond, d.cfg.Policy.Wait(max(1, n), 0)))}
}

// describe keeps what a dead letter has to tell about the last try.
func (d *Dispatcher) describe(w *worker, dest string, err error) failure {
	f := failure{dest: dest}
	if err != nil {
		return f
	}
	f.code = strconv.Itoa(w.x.Status())
	body := w.x.Answer()
	f.data = append(f.data, body[:min(len(body), maxErrorData)]...)
	w.x.Header(func(name, value []byte) {
		if lower := strings.ToLower(string(name)); strings.HasPrefix(lower, "kne-") && len(lower) > 4 {
			f.extra = append(f.extra, [2]string{extensionName(lower[4:]), string(value)})
		}
	})
	return f
}

func extensionName(s string) string {
	return strings.Map(func(c rune) rune {
		if (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') {
			return c
		}
		return -1
	}, s)
}

func (d *Dispatcher) stepDeadLetter(w *worker, t *task) verdict {
	d.mapTask(w, t)
	w.ev.Set("knativeerrordest", t.failure.dest)
	if t.failure.code != "" {
		w.ev.Set("knativeerrorcode", t.failure.code)
		w.ev.Set("knativeerrordata", base64.StdEncoding.EncodeToString(t.failure.data))
	}
	for _, x := range t.failure.extra {
		if x[0] != "" {
			w.ev.Set(x[0], x[1])
		}
	}
	err := d.deliver(w, d.dead, &w.ev, t)
	if err == nil && (d.dead.http == nil || w.x.Status() < 300) {
		d.counters.deadLettered.Add(1)
		return verdict{}
	}
	t.tries++
	f := failure{dest: d.dead.String()}
	if d.dead.http != nil {
		f = d.describe(w, f.dest, err)
	}
	switch {
	case d.retryable(w, err) && t.tries <= d.cfg.Policy.Retries:
		return verdict{park: true, wait: d.wait(w, t.tries, err)}
	case d.cfg.Compat == CompatKnative:
		d.counters.dropped.Add(1)
		d.log.Error("record was dropped: the dead letter sink failed", "offset", t.Offset, "status", f.code)
		return verdict{}
	}
	return d.blocked(t, t.tries-d.cfg.Policy.Retries, f)
}

func (d *Dispatcher) stepReply(w *worker, t *task) verdict {
	err := d.deliver(w, d.reply, t.replies[0], t)
	if err == nil && (d.reply.http == nil || w.x.Status() < 300) {
		d.counters.replies.Add(1)
		t.replies, t.tries = t.replies[1:], 0
		return verdict{again: len(t.replies) > 0}
	}
	t.tries++
	if d.retryable(w, err) && t.tries <= d.cfg.Policy.Retries {
		return verdict{park: true, wait: d.wait(w, t.tries, err)}
	}
	if !d.dead.set() && d.cfg.Exhausted != Drop && d.cfg.Compat != CompatKnative {
		return d.blocked(t, t.tries-d.cfg.Policy.Retries, d.describe(w, d.reply.String(), err))
	}
	return d.exhausted(t, d.describe(w, d.reply.String(), err))
}

// deliver sends an event to a dead letter or reply destination.
func (d *Dispatcher) deliver(w *worker, to destination, e *event.Event, t *task) error {
	if to.http == nil {
		return d.topics.produce(to.topic, t.msg.Key, e)
	}
	mode := d.cfg.Mode
	if mode == Batched {
		mode = Structured
	}
	w.encode(e, mode)
	w.trace(t.msg)
	return to.http.Do(&w.x)
}

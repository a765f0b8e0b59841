package kafkadispatch

import (
	"github.com/rousehq/rouse/kafkadispatch/event"
	"github.com/rousehq/rouse/kafkadispatch/order"
)

// sendBatch sends records as one JSON array. A batch fails as a whole; when no try is left, or the sink refuses it,
// its records go one by one, so that one poison record takes no other with it.
func (d *Dispatcher) sendBatch(w *worker, batch []*order.Record) verdict {
	w.x.Head = append(w.x.Head[:0], "content-type: "+event.Batched+"\r\n"...)
	body := append(w.body[:0], '[')
	for i, r := range batch {
		t := r.Payload.(*task)
		if t.part.fenced.Load() {
			return verdict{park: true}
		}
		if i > 0 {
			body = append(body, ',')
		}
		d.mapTask(w, t)
		body = w.ev.AppendJSON(body)
	}
	w.body = append(body, ']')
	w.x.Body = w.body
	d.counters.tries.Add(1)
	err := d.sink.Do(&w.x)
	told, ok := w.judge(err, batch[0].Attempts)
	if ok {
		d.counters.delivered.Add(int64(len(batch)))
		if d.cfg.Delivered != nil {
			for _, r := range batch {
				d.cfg.Delivered(r.Payload.(*task).msg.Timestamp)
			}
		}
		return verdict{sink: told}
	}
	if len(batch) == 1 {
		return d.failedAlone(w, batch[0].Payload.(*task), told, err)
	}
	tries := 0
	for _, r := range batch {
		r.Attempts++
		tries = max(tries, r.Attempts)
	}
	if d.retryable(w, err) && tries <= d.cfg.Policy.Retries {
		return verdict{park: true, wait: d.wait(w, tries, err), sink: told}
	}
	for _, r := range batch {
		r.Solo, r.Attempts = true, min(r.Attempts-1, max(0, d.cfg.Policy.Retries-1))
	}
	return verdict{park: true, sink: told}
}

// failedAlone goes on with the next stage of a record that was sent alone.
func (d *Dispatcher) failedAlone(w *worker, t *task, told outcome, err error) verdict {
	t.Solo = true // what follows concerns this record only
	v := d.failed(w, t, d.sink.URL(), err)
	if v.again {
		return d.steps(w, t, told)
	}
	v.sink = told
	return v
}

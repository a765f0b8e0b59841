package kafkadispatch

import (
	"time"

	"github.com/rousehq/rouse/kafkadispatch/event"
	"github.com/rousehq/rouse/kafkadispatch/order"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

// worker sends one request at a time. What it holds is used again for every request.
type worker struct {
	wake  chan []*order.Record // one batch, or nil to end
	since time.Time            // idle since; guarded by Dispatcher.mu
	batch []*order.Record
	x     sink.Exchange
	body  []byte
	ev    event.Event
	rec   event.Record
}

// startLocked takes over what was received and gives it to workers until a bound is met. It is called with mu held,
// and nothing may follow it under the lock that changes what publishLocked tells.
func (d *Dispatcher) startLocked(now time.Time) {
	for again := true; again; again = d.publishLocked() {
		d.admitLocked(admitBurst, now)
		d.giveLocked(now)
	}
}

// giveLocked gives ready records to workers until a bound is met.
func (d *Dispatcher) giveLocked(now time.Time) {
	for d.sched.Ready() > 0 && !d.stopped {
		if n, _ := d.sched.InFlight(); n > 0 && n >= d.sched.Limit() {
			return
		}
		var w *worker
		if n := len(d.idle); n > 0 {
			w = d.idle[n-1]
		} else {
			w = &worker{wake: make(chan []*order.Record, 1)}
		}
		w.batch = d.takeLocked(w.batch[:0], now)
		if len(w.batch) == 0 {
			return
		}
		if n := len(d.idle); n > 0 {
			d.idle = d.idle[:n-1]
			w.wake <- w.batch
			continue
		}
		d.wg.Go(func() { d.work(w) })
	}
}

// nextLocked takes the records of the next request, from what was received if need be.
func (d *Dispatcher) nextLocked(dst []*order.Record, now time.Time) []*order.Record {
	for {
		more := d.admitLocked(admitBurst, now)
		if dst = d.takeLocked(dst, now); len(dst) > 0 || !more {
			return dst
		}
	}
}

// takeLocked takes the records of one request, unless a batch should still grow.
func (d *Dispatcher) takeLocked(dst []*order.Record, now time.Time) []*order.Record {
	d.sched.SetLimit(d.health.allowed(now))
	if at := d.health.reopens(); !at.IsZero() && at.After(now) {
		d.reopenLocked(at.Sub(now))
		return dst
	}
	if d.cfg.Mode != Batched {
		return d.sched.Take(dst, 1, 1<<62)
	}
	b := &d.cfg.Batch
	if wait := b.Linger - now.Sub(d.readySince); wait > 0 && d.sched.Ready() < b.Records {
		d.lingerLocked(wait)
		return dst
	}
	dst = d.sched.Take(dst, b.Records, b.Bytes)
	if len(dst) > 0 {
		d.readySince = now
	}
	return dst
}

// reopenLocked looks again when the circuit breaker lets a probe through.
func (d *Dispatcher) reopenLocked(wait time.Duration) {
	if d.reopening {
		return
	}
	d.reopening = true
	time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.reopening = false
		d.startLocked(time.Now())
	})
}

// lingerLocked looks again when a batch has waited long enough.
func (d *Dispatcher) lingerLocked(wait time.Duration) {
	if d.lingering {
		return
	}
	d.lingering = true
	time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lingering = false
		d.startLocked(time.Now())
	})
}

// work sends batches until there is none for long, or the dispatcher stops.
func (d *Dispatcher) work(w *worker) {
	batch := w.batch
	for batch != nil {
		v := d.send(w, batch)
		now := time.Now()
		d.mu.Lock()
		tripped := d.endLocked(batch, v, now)
		// First for itself: handing the next record to another worker would cost a switch of goroutines.
		w.batch = d.nextLocked(batch[:0], now)
		idle := len(w.batch) == 0
		if idle {
			w.x.Release()
			if d.stopped {
				d.mu.Unlock()
				return
			}
			w.since = now
			d.idle = append(d.idle, w)
		}
		batch = w.batch
		d.startLocked(now) // the end of one request may let more than one begin
		d.mu.Unlock()
		d.warnTripped(tripped)
		if idle {
			batch = <-w.wake
		}
	}
}

func (d *Dispatcher) warnTripped(tripped bool) {
	if tripped {
		d.log.Warn("sink keeps failing: tries pause, then one at a time probes it", "sink", d.sink.URL())
	}
}

// endLocked gives the records of a request back. It reports whether the circuit breaker opened.
func (d *Dispatcher) endLocked(batch []*order.Record, v verdict, now time.Time) (tripped bool) {
	switch v.sink {
	case well:
		d.health.success()
	case unwell, unwellAgain:
		tripped = d.health.overload(now, v.sink == unwell)
	}
	if v.park {
		d.parkLocked(batch, v.wait)
	} else {
		d.sched.Finish(batch, now)
		for _, r := range batch {
			r.Payload.(*task).free()
		}
		d.uncommit += len(batch)
		if d.uncommit >= d.cfg.CommitRecords && d.cfg.CommitRecords > 0 {
			d.uncommit = 0
			signal(d.commitNow)
		}
	}
	if d.awaiting {
		signal(d.landed)
	}
	return tripped
}

func (d *Dispatcher) parkLocked(batch []*order.Record, wait time.Duration) {
	d.sched.Park(batch)
	d.counters.retries.Add(int64(len(batch)))
	if wait <= 0 {
		d.sched.Unpark(batch)
		return
	}
	parked := append([]*order.Record(nil), batch...)
	time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.sched.Unpark(parked)
		d.startLocked(time.Now())
	})
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

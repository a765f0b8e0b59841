package forward

import (
	"context"
	"sync"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
)

// streamWatch cancels a stream's waiter when its client leaves or its deadline passes. Both happen under the lock
// and only while armed, so that once close (or disarming) has returned no late cancel meets the waiter's next use.
type streamWatch struct {
	waiter *breaker.Waiter
	timer  *time.Timer // stopped while there is nothing to wait for

	mu    sync.Mutex // guards the following
	until time.Time  // zero: no deadline is armed
	over  bool       // it has passed
	gone  bool
	stop  func() bool // nil: the client is not watched yet
	live  uint64      // generation; a callback of an earlier one does nothing
}

func newStreamWatch() *streamWatch {
	d := &streamWatch{waiter: breaker.NewWaiter()}
	d.waiter.Parking = d.parking
	d.timer = time.AfterFunc(time.Hour, d.fire)
	d.timer.Stop()
	return d
}

// client cancels the waiter when ctx, the stream's context, ends.
func (d *streamWatch) client(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		return
	}
	live := d.live
	d.stop = context.AfterFunc(ctx, func() { d.left(live) })
}

func (d *streamWatch) left(live uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live == live {
		d.gone = true
		d.waiter.Cancel(fault.ClientGone)
	}
}

// deadline arms, moves or (zero) disarms the deadline of the next wait.
func (d *streamWatch) deadline(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until, d.over = t, false
	if t.IsZero() {
		d.timer.Stop()
		return
	}
	d.timer.Reset(time.Until(t))
}

func (d *streamWatch) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.until.IsZero() && !time.Now().Before(d.until) {
		d.over = true
		d.waiter.Cancel(fault.QueueDeadline)
	}
}

// parking runs on the handler's goroutine when it is about to block in its queue. What came before the waiter stood
// in the queue could not cancel it, so it is cancelled here.
func (d *streamWatch) parking() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.gone:
		d.waiter.Cancel(fault.ClientGone)
	case d.over:
		d.waiter.Cancel(fault.QueueDeadline)
	}
}

// close disarms everything.
func (d *streamWatch) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live++
	d.until, d.over, d.gone = time.Time{}, false, false
	d.timer.Stop()
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
}

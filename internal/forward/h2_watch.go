package forward

import (
	"context"
	"sync"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
)

// recancel is how often a cancellation is repeated until the stream ends or the deadline is disarmed: a waiter that
// is cancelled in the instant before it enters its queue does not notice.
const recancel = 10 * time.Millisecond

// streamWatch cancels a stream's waiter when its client leaves or its deadline passes. Both happen under the lock
// and only while armed, so that once close (or disarming) has returned no late cancel meets the waiter's next use.
type streamWatch struct {
	waiter *breaker.Waiter
	timer  *time.Timer // stopped while there is nothing to wait for

	mu    sync.Mutex // guards the following
	until time.Time  // zero: no deadline is armed
	gone  bool
	stop  func() bool // nil: the client is not watched yet
	live  uint64      // generation; a callback of an earlier one does nothing
}

func newStreamWatch() *streamWatch {
	d := &streamWatch{waiter: breaker.NewWaiter()}
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
		d.cancel(fault.ClientGone)
	}
}

// deadline arms, moves or (zero) disarms the deadline of the next wait.
func (d *streamWatch) deadline(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = t
	switch {
	case d.gone:
	case t.IsZero():
		d.timer.Stop()
	default:
		d.timer.Reset(time.Until(t))
	}
}

func (d *streamWatch) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.gone:
		d.cancel(fault.ClientGone)
	case !d.until.IsZero() && !time.Now().Before(d.until):
		d.cancel(fault.QueueDeadline)
	}
}

func (d *streamWatch) cancel(cause error) {
	d.waiter.Cancel(cause)
	d.timer.Reset(recancel)
}

// close disarms everything.
func (d *streamWatch) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live++
	d.until, d.gone = time.Time{}, false
	d.timer.Stop()
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
}

package forward

import (
	"context"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
)

// deadline is one of the limits that a connection's timer watches.
type deadline uint8

const (
	dlHead      deadline = iota // reading a head
	dlKeepAlive                 // between requests
	dlWait                      // parked
	dlTotal
	dlFirst
	dlIdle
	deadlines
)

// control is how timers and the watch reach into a connection. Its timer is armed lazily: a request only stores its
// deadlines, and the timer, which is not touched while it fires early enough, looks at them when it fires. So a
// limit that is never reached costs one timer event per limit's length, not two timer operations per request.
//
// Lock order: conn.mu, then the lock of the queue that the waiter stands in.
type control struct {
	at         [deadlines]int64 // on the server's clock; 0 is disarmed
	timerAt    int64            // when the timer fires; 0 when it does not run
	up         *upConn          // in use by the present Forward
	cancelDial context.CancelFunc
	forwarding bool
	cause      fault.Cause // why the present Forward was interrupted
	waitOver   bool        // the wait deadline has passed
	stopped    bool        // the connection has ended
}

// arm sets a deadline.
func (c *conn) arm(d deadline, t time.Time) {
	c.mu.Lock()
	c.ctl.at[d] = max(1, int64(t.Sub(c.srv.epoch)))
	c.schedule(c.srv.now())
	c.mu.Unlock()
}

func (c *conn) disarm(d deadline) {
	c.mu.Lock()
	c.ctl.at[d] = 0
	c.mu.Unlock()
}

// schedule makes the timer fire at the earliest deadline, if it would not fire by then. mu is held.
func (c *conn) schedule(now int64) {
	first := int64(0)
	for _, at := range c.ctl.at {
		if at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	if first == 0 || c.ctl.stopped || c.ctl.timerAt != 0 && c.ctl.timerAt <= first {
		return
	}
	c.ctl.timerAt = first
	c.timer.Reset(time.Duration(max(0, first-now)))
}

// makeTimer makes the connection's timer when its first request begins: in the depth in which a request is parked, making
// one would be what grows the goroutine's stack beyond its first 2 KB.
//
//go:noinline
func (c *conn) makeTimer() {
	c.mu.Lock()
	c.timer = time.AfterFunc(time.Hour, c.onTimer)
	c.timer.Stop()
	c.mu.Unlock()
}

func (c *conn) stopTimer() {
	c.mu.Lock()
	c.ctl.stopped = true
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
}

// onTimer acts on the deadlines that are over.
func (c *conn) onTimer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctl.stopped {
		return
	}
	now := c.srv.now()
	c.ctl.timerAt = 0
	for d := range c.ctl.at {
		at := c.ctl.at[d]
		if at == 0 || at > now {
			continue
		}
		if moved := c.moved.Load(); deadline(d) == dlIdle && moved+int64(c.timeouts.Idle) > now {
			c.ctl.at[d] = moved + int64(c.timeouts.Idle)
			continue
		}
		c.ctl.at[d] = 0
		c.expired(deadline(d))
	}
	c.schedule(now)
}

// expired acts on one deadline. mu is held.
func (c *conn) expired(d deadline) {
	switch d {
	case dlHead:
		_ = c.client.SetReadDeadline(past())
	case dlKeepAlive:
		c.closeIdle()
	case dlWait:
		c.ctl.waitOver = true
		c.waiter.Cancel(fault.QueueDeadline)
	case dlTotal:
		if !c.timeouts.Streams || !c.begun.Load() {
			c.interruptLocked(fault.TimeoutTotal)
		}
	case dlFirst:
		if !c.begun.Load() {
			c.interruptLocked(fault.TimeoutFirstByte)
		}
	case dlIdle:
		c.interruptLocked(fault.TimeoutIdle)
	}
}

// interrupt ends the present Forward with cause, if there is one and nothing else has ended it.
func (c *conn) interrupt(cause fault.Cause) {
	c.mu.Lock()
	c.interruptLocked(cause)
	c.mu.Unlock()
}

func (c *conn) interruptLocked(cause fault.Cause) {
	if !c.ctl.forwarding || c.ctl.cause != fault.None {
		return
	}
	c.ctl.cause = cause
	if c.ctl.cancelDial != nil {
		c.ctl.cancelDial()
	}
	if c.ctl.up != nil {
		_ = c.ctl.up.SetDeadline(past())
	}
	_ = c.client.SetDeadline(past())
}

// hangup is called when the client has left: its socket was reset or it sent a FIN.
func (c *conn) hangup() {
	c.gone.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interruptLocked(fault.ClientGone)
	if c.waiter != nil {
		c.waiter.Cancel(fault.ClientGone)
	}
}

// cut ends the connection whatever it is doing.
func (c *conn) cut() {
	c.hangup()
	c.mu.Lock()
	up := c.ctl.up
	c.mu.Unlock()
	if up != nil {
		up.Close()
	}
	c.closeClient()
}

// Waiter implements [Exchange].
func (c *conn) Waiter() *breaker.Waiter {
	if c.waiter == nil {
		w := breaker.NewWaiter()
		w.Parking = c.parking
		c.mu.Lock()
		c.waiter = w
		c.mu.Unlock()
	}
	return c.waiter
}

// parking runs on the handler's goroutine when it is about to block in its queue. What came before the waiter stood
// in the queue could not cancel it, so it is cancelled here.
func (c *conn) parking() {
	c.startReader()
	c.mu.Lock()
	over := c.ctl.waitOver
	c.mu.Unlock()
	switch {
	case c.gone.Load():
		c.waiter.Cancel(fault.ClientGone)
	case over:
		c.waiter.Cancel(fault.QueueDeadline)
	}
}

// SetWaitDeadline implements [Exchange].
func (c *conn) SetWaitDeadline(t time.Time) {
	c.mu.Lock()
	c.ctl.waitOver = false
	c.ctl.at[dlWait] = 0
	c.mu.Unlock()
	if !t.IsZero() {
		c.Waiter()
		c.arm(dlWait, t)
	}
}

// Gone implements [Exchange].
func (c *conn) Gone() bool { return c.gone.Load() }

// beginForward arms the request's timeouts. It returns a cause when the request is over already.
func (c *conn) beginForward(now int64) fault.Cause {
	if c.gone.Load() {
		return fault.ClientGone
	}
	t := &c.timeouts
	c.moved.Store(now)
	c.client.moved = nil
	if t.Idle > 0 {
		c.client.moved = &c.moved
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctl.forwarding, c.ctl.cause = true, fault.None
	if c.gone.Load() {
		return fault.ClientGone
	}
	if *t == (Timeouts{}) {
		return fault.None
	}
	if t.Total > 0 {
		c.ctl.at[dlTotal] = now + max(1, int64(t.Total)-c.spent)
	}
	if t.FirstByte > 0 && !c.begun.Load() {
		c.ctl.at[dlFirst] = now + max(1, int64(t.FirstByte)-c.spent)
	}
	if t.Idle > 0 {
		c.ctl.at[dlIdle] = now + int64(t.Idle)
	}
	c.schedule(now)
	return fault.None
}

// endForward disarms them, and makes the client's connection usable again after an interruption.
func (c *conn) endForward(began int64) fault.Cause {
	c.mu.Lock()
	c.ctl.forwarding, c.ctl.up = false, nil
	c.ctl.at[dlTotal], c.ctl.at[dlFirst], c.ctl.at[dlIdle] = 0, 0, 0
	cause := c.ctl.cause
	c.mu.Unlock()
	if cause != fault.None {
		_ = c.client.SetDeadline(time.Time{})
	}
	if c.timeouts.Total > 0 || c.timeouts.FirstByte > 0 {
		c.spent += c.srv.now() - began
	}
	return cause
}

// attach makes u the connection that an interruption cuts.
func (c *conn) attach(u *upConn) fault.Cause {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctl.up, c.ctl.cancelDial = u, nil
	return c.ctl.cause
}

// leaveRequest ends what limits and watches a request, but not the connection.
func (c *conn) leaveRequest() {
	c.mu.Lock()
	c.ctl.forwarding = false
	c.ctl.at[dlTotal], c.ctl.at[dlFirst], c.ctl.at[dlIdle] = 0, 0, 0
	c.mu.Unlock()
}

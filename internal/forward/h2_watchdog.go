package forward

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// watchdog holds the time limits of one request that net/http forwards. It has one timer, armed for whichever limit
// comes first; moving bytes only notes the time, and the idle limit looks at that note when the timer fires. A nil
// watchdog limits nothing: HTTP/1 connections keep their own time.
type watchdog struct {
	moved  atomic.Int64 // nanoseconds after made at which a byte last moved
	made   time.Time
	mu     sync.Mutex // guards the following, and is held while expire runs
	limits Timeouts
	start  time.Time
	paused time.Time // zero while the clock runs
	began  bool
	over   bool
	timer  *time.Timer
	expire func(fault.Cause) // must not block
}

// newWatchdog returns a watchdog whose clock stands.
func newWatchdog(limits Timeouts, expire func(fault.Cause)) *watchdog {
	now := time.Now()
	return &watchdog{limits: limits, expire: expire, made: now, start: now, paused: now}
}

// resume lets the clock run on: time that a request spends parked between two tries does not count.
func (d *watchdog) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.start = d.start.Add(time.Since(d.paused))
	d.moved.Store(int64(time.Since(d.made)))
	d.paused = time.Time{}
	d.arm()
}

// pause stops the clock.
func (d *watchdog) pause() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paused = time.Now()
	if d.timer != nil {
		d.timer.Stop()
	}
}

// move notes that a byte moved.
func (d *watchdog) move() {
	if d != nil && d.limits.Idle > 0 {
		d.moved.Store(int64(time.Since(d.made)))
	}
}

// response says that the response has begun: FirstByte no longer applies. It reports false when a limit has struck
// already, and then nothing may be sent.
func (d *watchdog) response() bool {
	if d == nil {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return false
	}
	d.began = true
	return true
}

// stop ends the watch: once it has returned, expire is not called.
func (d *watchdog) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.timer != nil {
		d.timer.Stop()
	}
}

// next returns the limit that comes first and when it does; zero when there is none.
func (d *watchdog) next() (fault.Cause, time.Time) {
	cause, at := fault.None, time.Time{}
	sooner := func(c fault.Cause, t time.Time) {
		if at.IsZero() || t.Before(at) {
			cause, at = c, t
		}
	}
	if d.limits.Total > 0 && (!d.limits.Streams || !d.began) {
		sooner(fault.TimeoutTotal, d.start.Add(d.limits.Total))
	}
	if d.limits.FirstByte > 0 && !d.began {
		sooner(fault.TimeoutFirstByte, d.start.Add(d.limits.FirstByte))
	}
	if d.limits.Idle > 0 {
		sooner(fault.TimeoutIdle, d.made.Add(time.Duration(d.moved.Load())+d.limits.Idle))
	}
	return cause, at
}

func (d *watchdog) arm() {
	_, at := d.next()
	if at.IsZero() {
		return
	}
	if d.timer == nil {
		d.timer = time.AfterFunc(time.Until(at), d.fire)
		return
	}
	d.timer.Reset(time.Until(at))
}

func (d *watchdog) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || !d.paused.IsZero() {
		return
	}
	cause, at := d.next()
	if at.IsZero() {
		return
	}
	if time.Now().Before(at) {
		d.arm()
		return
	}
	d.over = true
	d.expire(cause)
}

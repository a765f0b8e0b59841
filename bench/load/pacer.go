//go:build linux

package load

import (
	"time"

	"github.com/rousehq/rouse/bench/internal/poll"
)

// pacer decides when requests leave.
type pacer interface {
	// send starts what is due at g.now on free connections.
	send(g *generator) error
	// expired clears the timer after its event.
	expired()
	// pending is how many requests were due and found no free connection.
	pending() int
	close()
}

func newPacer(cfg Config, p *poll.Poller) (pacer, error) {
	if cfg.Rate == 0 {
		return closedLoop{}, nil
	}
	timer, err := poll.NewTimer()
	if err != nil {
		return nil, err
	}
	o := &openLoop{timer: timer, schedule: schedule{interval: time.Second / time.Duration(cfg.Rate)}, fired: true}
	return o, p.Add(timer.FD, timerKey)
}

// closedLoop sends on every connection that is free.
type closedLoop struct{}

func (closedLoop) send(g *generator) error {
	for !g.ended && len(g.free) > 0 {
		i := g.free[len(g.free)-1]
		g.free = g.free[:len(g.free)-1]
		if err := g.start(i, g.now); err != nil {
			return err
		}
	}
	return nil
}

func (closedLoop) expired()     {}
func (closedLoop) pending() int { return 0 }
func (closedLoop) close()       {}

// openLoop sends at even distances, however slow the answers are.
type openLoop struct {
	timer    *poll.Timer
	schedule schedule
	fired    bool // the timer needs to be set
}

func (o *openLoop) send(g *generator) error {
	if !g.ended {
		o.schedule.advance(g.now)
	}
	for len(g.free) > 0 && o.schedule.due() > 0 {
		// First in, first out over connections: all of them carry a share, as in the service of a real crowd.
		i := g.free[0]
		g.free = g.free[1:]
		if err := g.start(i, o.schedule.next()); err != nil {
			return err
		}
	}
	if g.ended || !o.fired {
		return nil
	}
	o.fired = false
	return o.timer.Set(o.schedule.coming() - time.Since(g.began))
}

func (o *openLoop) expired() {
	o.timer.Clear()
	o.fired = true
}

func (o *openLoop) pending() int { return o.schedule.due() }
func (o *openLoop) close()       { o.timer.Close() }

// schedule numbers requests; request k is meant to leave at k times interval. Those that are due and have not left
// are the numbers from sent to made.
type schedule struct {
	interval   time.Duration
	made, sent int64
}

// advance makes due every request that was meant to leave by now.
func (s *schedule) advance(now time.Duration) {
	s.made = max(s.made, int64(now/s.interval)+1)
}

func (s *schedule) due() int { return int(s.made - s.sent) }

// next takes the oldest due request and returns when it was meant to leave.
func (s *schedule) next() time.Duration {
	s.sent++
	return time.Duration(s.sent-1) * s.interval
}

// coming is when the first request that is not due yet is meant to leave.
func (s *schedule) coming() time.Duration { return time.Duration(s.made) * s.interval }

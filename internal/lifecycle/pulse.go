package lifecycle

import (
	"context"
	"sync"
	"time"
)

// Pulse notices that this process stood still: stopped by a signal, frozen with its container, or starved. What such a
// process believes is old when it goes on, although none of its timers says so. It is safe for concurrent use.
type Pulse struct {
	limit time.Duration

	mu      sync.Mutex
	last    time.Time // guarded by mu; zero before Run
	resumed time.Time // guarded by mu
}

// NewPulse returns a pulse that takes a silence of more than limit for standing still.
func NewPulse(limit time.Duration) *Pulse { return &Pulse{limit: limit} }

// beats is how many beats there are in the limit: one that is late is no standstill yet.
const beats = 8

// Run beats until ctx ends, and returns nil.
func (p *Pulse) Run(ctx context.Context) error {
	p.mu.Lock()
	p.last = time.Now()
	p.mu.Unlock()
	tick := time.NewTicker(p.limit / beats)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			p.Resumed()
		}
	}
}

// Resumed returns when the process went on the last time that it had stood still, zero when it never has. Whoever asks
// first after a standstill notices it: nobody acts on what is old because Run had not had its turn yet.
func (p *Pulse) Resumed() time.Time {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		return time.Time{}
	}
	if now.Sub(p.last) > p.limit {
		p.resumed = now
	}
	p.last = now
	return p.resumed
}

package control

import (
	"context"
	"sync"
	"time"
)

// wheel spreads revisions evenly over the slots of a period and calls each once per turn. One goroutine turns it.
type wheel struct {
	step time.Duration

	mu    sync.Mutex
	slots [][]*revision // guarded by mu
}

func newWheel(period time.Duration, slots int) *wheel {
	return &wheel{step: period / time.Duration(slots), slots: make([][]*revision, slots)}
}

// add puts a revision into the emptiest slot.
func (w *wheel) add(r *revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	best := 0
	for i := range w.slots {
		if len(w.slots[i]) < len(w.slots[best]) {
			best = i
		}
	}
	w.slots[best] = append(w.slots[best], r)
	r.slot = best
}

// remove takes a revision off, if it is on.
func (w *wheel) remove(r *revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.slot < 0 {
		return
	}
	s := w.slots[r.slot]
	for i := range s {
		if s[i] == r {
			s[i] = s[len(s)-1]
			s[len(s)-1] = nil
			w.slots[r.slot] = s[:len(s)-1]
			break
		}
	}
	r.slot = -1
}

// turn calls do for every revision once per period, with the time at which it was due, until ctx ends. When do is so
// slow that a whole turn is behind, the missed turns are left out.
func (w *wheel) turn(ctx context.Context, do func(r *revision, due time.Time)) {
	due := time.Now().Add(w.step)
	timer := time.NewTimer(w.step)
	defer timer.Stop()
	var batch []*revision
	for i := 0; ; i = (i + 1) % len(w.slots) {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		w.mu.Lock()
		batch = append(batch[:0], w.slots[i]...)
		w.mu.Unlock()
		for _, r := range batch {
			do(r, due)
		}
		clear(batch)
		due = due.Add(w.step)
		now := time.Now()
		if behind := now.Sub(due); behind > w.step*time.Duration(len(w.slots)) {
			due = now
		}
		timer.Reset(max(0, due.Sub(now)))
	}
}

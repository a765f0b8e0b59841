package control

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// appointment is a decision about a revision before its next turn on the wheel.
type appointment struct {
	r  *revision
	at time.Time
}

// agenda keeps appointments in the order of their times. A revision that is decided about before, or gets an earlier
// one, leaves its old entry behind; that one is seen to be void when it comes up (revision.due). Entries live for less
// than a period, and a revision adds at most one per decision, report or change of its pods.
type agenda struct {
	mu      sync.Mutex
	entries appointments  // guarded by mu
	sooner  chan struct{} // has a token when the first entry may have changed
}

func newAgenda() *agenda { return &agenda{sooner: make(chan struct{}, 1)} }

// add enters an appointment.
func (g *agenda) add(a appointment) {
	g.mu.Lock()
	heap.Push(&g.entries, a)
	first := g.entries[0].at.Equal(a.at)
	g.mu.Unlock()
	if first {
		select {
		case g.sooner <- struct{}{}:
		default: // one is enough
		}
	}
}

// keep calls do for every appointment at its time, until ctx ends.
func (g *agenda) keep(ctx context.Context, clock func() time.Time, do func(appointment)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		a, wait, ok := g.next(clock())
		if ok {
			do(a)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-g.sooner:
		case <-timer.C:
		}
	}
}

// next takes the first appointment if it is due, and else tells in how long it is.
func (g *agenda) next(now time.Time) (a appointment, wait time.Duration, due bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.entries) == 0 {
		return appointment{}, time.Hour, false
	}
	if wait := g.entries[0].at.Sub(now); wait > 0 {
		return appointment{}, wait, false
	}
	return heap.Pop(&g.entries).(appointment), 0, true
}

// appointed enters the appointment that a revision has just made; zero is none. The caller may hold r.mu.
func (l *Loop) appointed(r *revision, at time.Time) {
	if !at.IsZero() {
		l.agenda.add(appointment{r, at})
	}
}

// keepAppointment decides, unless that was done or put off in the meantime.
func (l *Loop) keepAppointment(a appointment) {
	a.r.mu.Lock()
	void := !a.r.due.Equal(a.at)
	a.r.mu.Unlock()
	if void {
		return
	}
	l.counts.woken.Add(1)
	l.decide(a.r, l.now())
}

// appointments implements heap.Interface by time.
type appointments []appointment

func (h appointments) Len() int           { return len(h) }
func (h appointments) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h appointments) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *appointments) Push(a any) { *h = append(*h, a.(appointment)) }

// Pop implements heap.Interface.
func (h *appointments) Pop() any {
	old := *h
	n := len(old) - 1
	a := old[n]
	old[n] = appointment{}
	*h = old[:n]
	return a
}

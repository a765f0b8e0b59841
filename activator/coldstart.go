package activator

import (
	"slices"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
)

// ColdStart says where the time of a cold start went: from the first request that was parked while no pod was ready, to
// the first byte for the oldest one that still waited. Each phase begins where the one before it ends.
type ColdStart struct {
	Pod       time.Duration // until a pod was known to start; 0 when one was known already
	Ready     time.Duration // until a pod might be picked; 0 when its source made it known by calling it ready
	Dispatch  time.Duration // until the request was sent to the pod that took it: leases, refusals
	FirstByte time.Duration // until the response began
}

// Total is the whole cold start.
func (c *ColdStart) Total() time.Duration { return c.Pod + c.Ready + c.Dispatch + c.FirstByte }

// waking is a cold start while it lasts. It is the revision's, under its lock, while requests wait; then it is granted
// to the oldest of them together with its pod, and belongs to that request. So nothing is asked of all the others.
type waking struct {
	pod   *pod      // that was granted
	began time.Time // the first request was parked
	known time.Time // the source told of a pod, ready or not
	ready time.Time // a pod might be picked, and one could be ever since
}

// wake notes that a cold start begins with the request that is about to be parked: it meets no pod, and nobody waits
// before it. The caller holds the lock.
//
// It is not inlined for the reason that [handler.serve] gives.
//
//go:noinline
func (r *revision) wake() {
	if r.queue.Len() > 0 || r.ready() > 0 {
		return
	}
	r.waking = &waking{began: time.Now()}
	r.progress()
}

// follow takes over which pods the source tells of. The caller holds the lock.
func (r *revision) follow(s endpoint.Snapshot) {
	r.expected = slices.ContainsFunc(s.Endpoints, func(e endpoint.Endpoint) bool { return e.State != endpoint.Draining })
	r.progress()
}

// progress notes how far the cold start is, if there is one. The caller holds the lock.
func (r *revision) progress() {
	w := r.waking
	if w == nil {
		return
	}
	now := time.Now()
	if w.known.IsZero() && r.expected {
		w.known = now
	}
	switch {
	case r.ready() == 0:
		w.ready = time.Time{} // it went before it took anything
	case w.ready.IsZero():
		w.ready = now
	}
}

// grantOf is what the oldest waiter finds in its Grant: the pod, or the cold start that it ends. The caller holds the lock.
func (r *revision) grantOf(p *pod) any {
	w := r.waking
	if w == nil {
		return p
	}
	r.waking, w.pod = nil, p
	return w
}

// podOf is the pod of a grant.
func podOf(grant any) *pod {
	if w, ok := grant.(*waking); ok {
		return w.pod
	}
	return grant.(*pod)
}

// wokenBy returns the cold start that the request ends, nil for none. One that was refused by its pod keeps the one it
// has.
func (t turn) wokenBy(x forward.Exchange, before *waking) *waking {
	if before != nil || !t.parked || t.err != nil {
		return before
	}
	w, _ := x.Waiter().Grant.(*waking)
	return w
}

// phases is how the time went, when the pod has answered; else nil. Nil has none.
func (w *waking) phases(sent time.Time, o *Outcome) *ColdStart {
	if w == nil || o.Cause != fault.None && o.FirstByte == 0 {
		return nil
	}
	c := &ColdStart{Pod: w.known.Sub(w.began), Ready: w.ready.Sub(w.known), Dispatch: sent.Sub(w.ready), FirstByte: o.FirstByte}
	if c.FirstByte == 0 {
		c.FirstByte = o.Worked // the engine did not see when the response began
	}
	return c
}

package activator

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// A pod that refused a request is tried again after this long, doubling with each refusal in a row.
const (
	ejectFirst = 10 * time.Millisecond
	ejectMax   = time.Second
)

// Settings are the live values of one revision. A Settings is immutable.
type Settings struct {
	// ContainerConcurrency is a pod's limit of requests in flight, 0 for none.
	ContainerConcurrency int
	// QueueLimit bounds the parked requests of the revision.
	QueueLimit int
	// QueueDeadline is how long a request may be parked.
	QueueDeadline time.Duration
	// Timeouts count from dispatch, never while parked.
	Timeouts forward.Timeouts
}

// revision is the dispatcher of one revision: its pods, and the FIFO of requests that wait for one.
type revision struct {
	id       identity.Revision
	settings atomic.Pointer[Settings]
	total    *atomic.Int64 // parked requests of all revisions
	newPool  func(endpoint.Endpoint) *forward.Pool
	load     *metrics.SharedRequestStats
	report   reporting

	mu      sync.Mutex // guards all below; no call leaves the package under it but pool constructors
	queue   breaker.Queue
	pods    map[string]*pod // by UID: ready and draining ones, and removed ones while they have requests in flight
	ready   []*pod          // may be picked, unless ejected; pod.index is the place here
	turn    int             // where round robin resumes
	grants  map[string]int  // by pod UID; nil for no leases
	failure string          // why pods cannot start; empty while they can
	gone    bool            // removed: everything is refused
}

// pod is one endpoint and what this activator has in flight there. Guarded by the revision's lock.
type pod struct {
	rev      *revision
	uid      string // as in ep, for readers without the lock
	ep       endpoint.Endpoint
	pool     *forward.Pool
	index    int
	inFlight int
	limit    int  // of requests in flight: see refit
	lowered  bool // has more in flight than a lowered grant allows, and somebody wants to know when not any more
	ejected  bool
	refusals int
	removed  bool
	idle     []chan struct{} // closed when a pod that is not picked any more has nothing in flight
}

// refusal is why a request got no pod.
type refusal struct {
	cause  fault.Cause
	detail string
}

func (e *refusal) Error() string { return e.cause.Error() + ": " + e.detail }

// acquire takes a slot of a pod for the caller, who owes a release. When none is free it puts w in the revision's
// FIFO and returns neither pod nor error: the caller then waits ([breaker.Waiter.Wait]) and finds the pod in Grant.
// first is true for a request that was dispatched before: it goes to the head of the queue. parked is how many stand in
// the queue then.
func (r *revision) acquire(w *breaker.Waiter, totalLimit int, first bool) (p *pod, parked int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return nil, 0, &refusal{fault.NoRoute, "the revision " + r.id.String() + " was removed"}
	}
	if first || r.queue.Len() == 0 {
		if p := r.pick(); p != nil {
			p.inFlight++
			return p, 0, nil
		}
	}
	err = r.enqueue(w, totalLimit, first)
	return nil, r.queue.Len(), err
}

// enqueue puts w in the queue, unless a bound or a failure forbids it.
func (r *revision) enqueue(w *breaker.Waiter, totalLimit int, first bool) error {
	limit := r.settings.Load().QueueLimit
	switch {
	case r.failure != "" && len(r.ready) == 0:
		return &refusal{fault.WakeFailed, r.failure}
	case r.queue.Len() >= limit:
		return &refusal{fault.QueueFull, limitText("rouse.dev/queue-limit", limit)}
	}
	if r.total.Add(1) > int64(totalLimit) {
		r.total.Add(-1)
		return &refusal{fault.QueueFullTotal, limitText("--queue-total", totalLimit)}
	}
	if first {
		r.queue.PushFront(w, r)
	} else {
		r.queue.Push(w, r)
	}
	return nil
}

// Abandon implements breaker.Owner: a waiter left.
func (r *revision) Abandon(w *breaker.Waiter) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.queue.Remove(w) {
		return false
	}
	r.total.Add(-1)
	return true
}

// pump hands free slots to the oldest waiters. The caller holds the lock.
func (r *revision) pump() {
	for r.queue.Len() > 0 {
		p := r.pick()
		if p == nil {
			return
		}
		p.inFlight++
		w := r.queue.Pop()
		r.total.Add(-1)
		w.Grant = p
		w.Wake(nil)
	}
}

// refuseAll empties the queue. The caller holds the lock.
func (r *revision) refuseAll(err error) {
	for w := r.queue.Pop(); w != nil; w = r.queue.Pop() {
		r.total.Add(-1)
		w.Wake(err)
	}
}

// release gives the slot back. refused says that the pod certainly took nothing, by no connection or by its queue-proxy's
// word: it is left alone for a while, so that the next try goes elsewhere. freed says that this was the last request
// above a lowered grant.
func (p *pod) release(refused bool) (freed bool) {
	r := p.rev
	r.mu.Lock()
	defer r.mu.Unlock()
	p.inFlight--
	switch {
	case !refused:
		p.refusals = 0
	case !p.ejected && !p.removed:
		p.eject()
	}
	if freed = p.lowered && p.inFlight <= p.limit; freed {
		p.lowered = false
	}
	if p.inFlight == 0 {
		p.settled()
	}
	r.pump()
	return freed
}

// settled tells those who wait for it, and lets the connections go when the pod is gone. The caller holds the lock.
func (p *pod) settled() {
	if p.removed {
		p.pool.Close()
		if p.rev.pods[p.ep.Pod.UID] == p {
			delete(p.rev.pods, p.ep.Pod.UID)
		}
	}
	if p.removed || p.ep.State == endpoint.Draining {
		for _, c := range p.idle {
			close(c)
		}
		p.idle = nil
	}
}

// whenIdle returns a channel that is closed when the pod takes no new requests and has none in flight; nil when that
// is so already.
func (r *revision) whenIdle(uid string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[uid]
	if p == nil || p.removed || p.ep.State == endpoint.Draining && p.inFlight == 0 {
		return nil
	}
	c := make(chan struct{})
	p.idle = append(p.idle, c)
	return c
}

// eject keeps the pod from being picked until a timer brings it back. The caller holds the lock.
func (p *pod) eject() {
	after := min(ejectFirst<<min(p.refusals, 10), ejectMax)
	p.refusals++
	p.ejected = true
	time.AfterFunc(after, func() {
		p.rev.mu.Lock()
		defer p.rev.mu.Unlock()
		p.ejected = false
		p.rev.pump()
	})
}

// update takes over a change of the revision's endpoints.
func (r *revision) update(u endpoint.Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return
	}
	seen := make(map[string]bool, len(u.Snapshot.Endpoints))
	for _, ep := range u.Snapshot.Endpoints {
		if ep.State != endpoint.Starting {
			seen[ep.Pod.UID] = true
			r.upsert(ep)
		}
	}
	for uid, p := range r.pods {
		if !seen[uid] && !p.removed {
			p.drop()
		}
	}
	r.index(u.Snapshot)
	for _, p := range r.pods {
		if p.inFlight == 0 {
			p.settled()
		}
	}
	if len(r.ready) > 0 {
		r.failure = ""
	}
	r.pump()
}

func (r *revision) upsert(ep endpoint.Endpoint) {
	p := r.pods[ep.Pod.UID]
	if p != nil && (p.ep.Pod != ep.Pod || p.ep.Protocol != ep.Protocol) {
		p.drop()
		p = nil
	}
	if p == nil {
		p = &pod{rev: r, uid: ep.Pod.UID, pool: r.newPool(ep)}
		r.pods[ep.Pod.UID] = p
	}
	p.ep, p.removed = ep, false
	p.refit()
}

// drop takes the pod out of the dispatcher. While it has requests in flight it stays in the map: when the source brings
// it back, they count. The caller holds the lock.
func (p *pod) drop() {
	p.removed = true
	if p.inFlight == 0 {
		p.settled()
	}
}

// index rebuilds the list of pods that may be picked: those that were there keep their order, new ones follow.
func (r *revision) index(s endpoint.Snapshot) {
	kept := r.ready[:0]
	for _, p := range r.ready {
		if !p.removed && p.ep.State == endpoint.Ready {
			p.index = len(kept)
			kept = append(kept, p)
		}
	}
	clear(r.ready[len(kept):])
	for i := range s.Endpoints {
		p := r.pods[s.Endpoints[i].Pod.UID]
		if p != nil && !p.removed && p.ep.State == endpoint.Ready && !(p.index < len(kept) && kept[p.index] == p) {
			p.index = len(kept)
			kept = append(kept, p)
		}
	}
	r.ready = kept
}

// fail makes waiters and newcomers fail with the reason while no pod is ready; empty takes it back.
func (r *revision) fail(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = reason
	if reason != "" && len(r.ready) == 0 {
		r.refuseAll(&refusal{fault.WakeFailed, reason})
	}
}

// remove refuses everything from now on and gives up the pods.
func (r *revision) remove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	r.refuseAll(&refusal{fault.NoRoute, "the revision " + r.id.String() + " was removed"})
	for _, p := range r.pods {
		if !p.removed {
			p.drop()
		}
	}
	r.ready = nil
}

// counts returns how many requests are parked and in flight, and how many pods may be picked.
func (r *revision) counts() (parked, inFlight, ready int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pods {
		inFlight += p.inFlight
	}
	return r.queue.Len(), inFlight, len(r.ready)
}

// configure swaps the settings; a higher limit is handed out at once.
func (r *revision) configure(s Settings) {
	r.settings.Store(&s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refitAll()
}

package activator

import (
	"sync"
	"sync/atomic"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// revision is the dispatcher of one revision: its pods, and the FIFO of requests that wait for one.
type revision struct {
	id       identity.Revision
	settings atomic.Pointer[Settings]
	owner    *Activator
	load     *metrics.SharedRequestStats
	report   reporting

	updating sync.Mutex // held over an update of the endpoints, so that pools are made without mu; taken before mu

	mu        sync.Mutex // guards all below; no call leaves the package under it
	queue     breaker.Queue
	pods      map[string]*pod // by UID: known ones, and removed ones while they have requests in flight
	rotations [rotations]rotation
	grants    map[string]int // by pod UID; nil for no leases
	outliers  int            // ready pods that are ejected as outliers
	starting  int            // pods that are asked from time to time
	asking    int            // probes under way, or about to be
	unasked   []*probing     // due for a probe, when there are too many of asking
	waking    *waking        // nil unless requests wait of which the oldest met no pod
	expected  bool           // the source tells of a pod that is ready or starts
	failure   string         // why pods cannot start; empty while they can
	gone      bool           // removed: everything is refused
}

// refusal is why a request got no pod.
type refusal struct {
	cause  fault.Cause
	detail string
}

func (e *refusal) Error() string { return e.cause.Error() + ": " + e.detail }

func (r *revision) ready() int { return len(r.rotations[all].pods) }

// acquire takes a slot of a pod for the caller, who owes a release. When none is free it puts w in the revision's
// FIFO and returns neither pod nor error: the caller then waits ([breaker.Waiter.Wait]) and finds the pod in Grant.
// first is true for a request that was dispatched before: it goes to the head of the queue. parked is how many stand in
// the queue then.
func (r *revision) acquire(w *breaker.Waiter, session uint64, first bool) (p *pod, parked int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return nil, 0, &refusal{fault.NoRoute, "the revision " + r.id.String() + " was removed"}
	}
	if first || r.queue.Len() == 0 {
		if p := r.pick(session); p != nil {
			p.take()
			return p, 0, nil
		}
	}
	err = r.enqueue(w, session, first)
	return nil, r.queue.Len(), err
}

// enqueue puts w in the queue, unless a bound or a failure forbids it. The bounds are for newcomers: a request that was
// dispatched has waited for its turn, so that those who came meanwhile must not cost it its place. The queue is over its
// bound by what was in flight at most.
func (r *revision) enqueue(w *breaker.Waiter, session uint64, first bool) error {
	limit, total := r.settings.Load().QueueLimit, r.owner.cfg.QueueTotal
	switch {
	case r.failure != "" && r.ready() == 0:
		return &refusal{fault.WakeFailed, r.failure}
	case !first && r.queue.Len() >= limit:
		return &refusal{fault.QueueFull, limitText("rouse.dev/queue-limit", limit)}
	}
	if parked := r.owner.parked.Add(1); !first && parked > int64(total) {
		r.owner.parked.Add(-1)
		return &refusal{fault.QueueFullTotal, limitText("--queue-total", total)}
	}
	r.wake()
	w.Tag = session
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
	r.owner.parked.Add(-1)
	if r.queue.Len() == 0 {
		r.waking = nil
	}
	return true
}

// pump hands free slots to the oldest waiters. The caller holds the lock.
func (r *revision) pump() {
	for r.queue.Len() > 0 {
		p := r.pick(r.queue.Head().Tag)
		if p == nil {
			return
		}
		p.take()
		w := r.queue.Pop()
		r.owner.parked.Add(-1)
		w.Grant = r.grantOf(p)
		w.Wake(nil)
	}
}

// refuseAll empties the queue. The caller holds the lock.
func (r *revision) refuseAll(err error) {
	r.waking = nil
	for w := r.queue.Pop(); w != nil; w = r.queue.Pop() {
		r.owner.parked.Add(-1)
		w.Wake(err)
	}
}

// release gives the slot back, and judges the pod by how the request ended. It returns what others are to be told.
func (p *pod) release(res forward.Result) (n news) {
	r := p.rev
	r.mu.Lock()
	defer r.mu.Unlock()
	p.give()
	n.ejected = p.judge(res)
	if n.freed = p.lowered && p.inFlight <= p.granted; n.freed {
		p.lowered = false
	}
	if p.inFlight == 0 {
		p.settled()
	}
	r.pump()
	return n
}

// news is what a release brought about, to be told when no lock is held.
type news struct {
	freed   bool     // the last request above a lowered grant has ended
	ejected Ejection // of the pod; NotEjected for none
}

// fail makes waiters and newcomers fail with the reason while no pod is ready; empty takes it back.
func (r *revision) fail(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = reason
	if reason != "" && r.ready() == 0 {
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
		p.drop()
	}
	r.index(endpoint.Snapshot{})
}

// counts returns how many requests are parked and in flight, and how many pods may be picked.
func (r *revision) counts() (parked, inFlight, ready int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pods {
		inFlight += p.inFlight
	}
	return r.queue.Len(), inFlight, r.ready()
}

// waiting returns how many requests are parked.
func (r *revision) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queue.Len()
}

// configure swaps the settings; what a higher limit sets free is handed out at once.
func (r *revision) configure(s Settings) {
	r.settings.Store(&s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reindex()
	for _, p := range r.pods {
		p.look()
		p.refit()
	}
	r.pump()
}

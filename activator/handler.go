package activator

import (
	"strconv"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// Headers of Knative's data plane.
const (
	headerNamespace = "Knative-Serving-Namespace"
	headerRevision  = "Knative-Serving-Revision"
	headerProxy     = "K-Proxy-Request"
	proxyValue      = "activator"
)

// Handler serves requests. Only a trusted one, on a listener that no public client reaches, honours the revision
// headers; every other routes by host.
func (a *Activator) Handler(trusted bool) forward.Handler { return &handler{a, trusted, nil} }

type handler struct {
	*Activator
	trusted bool
	port    *Port // where its requests come in; nil when they are routed
}

// ServeExchange implements forward.Handler.
func (h *handler) ServeExchange(x forward.Exchange) {
	r, answer := h.route(x)
	h.serve(x, r, answer)
}

// serve answers a request of a revision, nil when there is none.
//
// While a request is parked this function's frame and acquire's are on its stack, and all that is needed before and
// after is in functions that are not inlined: the stack, which is a third of what a parked request costs, stays within
// its first 2 KB. `rouse bench parked` shows it.
func (h *handler) serve(x forward.Exchange, r *revision, answer *Answer) {
	session, ok := uint64(0), false
	for moved := false; ; moved = true {
		if session, ok = h.begin(x, r, answer, session, moved); !ok {
			return
		}
		if r = h.finish(x, r, session, h.acquire(x, r, session, false)); r == nil {
			return
		}
	}
}

// begin counts the request and prepares it for its pod; ok is false when it has been answered. moved says that it was
// counted for another revision until now, in the session before.
//
//go:noinline
func (h *handler) begin(x forward.Exchange, r *revision, answer *Answer, before uint64, moved bool) (session uint64, ok bool) {
	if h.standIn(x, answer, r) {
		return 0, false
	}
	if r == nil {
		h.unrouted(x)
		return 0, false
	}
	if moved {
		h.began(r, time.Now())
	} else {
		h.began(r, x.Received())
	}
	x.Remove(headerNamespace)
	x.Remove(headerRevision)
	x.Set(headerProxy, proxyValue)
	s := r.settings.Load()
	x.SetTimeouts(s.Timeouts)
	return s.Affinity.session(x, before), true
}

// finish sees the request through, from its first turn on, and counts it out. One that no pod has seen when its revision
// has a successor is not answered: that one is returned.
//
//go:noinline
func (h *handler) finish(x forward.Exchange, r *revision, session uint64, t turn) (successor *revision) {
	o, successor, now := h.counted(x, r, session, t)
	if successor == nil && h.deps.Observer != nil {
		o.Arrived, o.Took = x.Received(), now.Sub(x.Received())
		h.deps.Observer.Done(r.id, o)
	}
	return successor
}

// counted is dispatch, after which the request is counted out, whatever happens.
func (h *handler) counted(x forward.Exchange, r *revision, session uint64, t turn) (o Outcome, successor *revision, now time.Time) {
	defer func() {
		now = time.Now()
		r.load.Out(now, false)
	}()
	o, successor = h.dispatch(x, r, session, t)
	return o, successor, now
}

func (h *handler) route(x forward.Exchange) (*revision, *Answer) {
	if h.trusted {
		ns, name := x.Header(headerNamespace), x.Header(headerRevision)
		if ns != nil && name != nil {
			return h.named(ns, name), nil
		}
	}
	to, ok := h.deps.Router.Route(x)
	if !ok {
		return nil, nil
	}
	return h.revs.get(to.Revision.Name, to.Revision), to.Answer
}

// named finds a revision without making strings of its name.
func (h *handler) named(namespace, name []byte) *revision {
	if m := h.revs.shardOf(name).Load(); m != nil {
		return (*m)[identity.Key{Namespace: string(namespace), Name: string(name)}]
	}
	return nil
}

// turn is what a request got when its turn came: a pod, or the reason why there is none.
type turn struct {
	pod    *pod
	parked bool // it had to wait
	err    error
}

// dispatch gives the request to its pod, and to another as long as it is certain that none saw it.
func (h *handler) dispatch(x forward.Exchange, r *revision, session uint64, t turn) (o Outcome, successor *revision) {
	var woken *waking
	for {
		o.Parked = o.Parked || t.parked
		woken = t.wokenBy(x, woken)
		if t.err != nil {
			if successor = h.successor(x, r, t.err); successor == nil {
				o.Result = h.refuse(x, r, t.err)
			}
			return o, successor
		}
		o.Tries++
		sent := time.Now()
		o.Result = h.send(x, t.pod)
		o.Worked = time.Since(sent)
		if t.parked && !o.Retryable {
			h.answered(r, o.Worked)
		}
		if !o.Retryable {
			o.Cold = woken.phases(sent, &o)
			return o, nil
		}
		if o.Tries == h.cfg.Tries {
			x.Fail(o.Cause, "after "+strconv.Itoa(o.Tries)+" tries", time.Second)
			return o, nil
		}
		t = h.acquire(x, r, session, true)
	}
}

// send forwards a request to a pod and gives its slot back, whatever happens.
func (h *handler) send(x forward.Exchange, p *pod) (res forward.Result) {
	res.Cause = fault.Internal
	defer func() { h.tell(p, p.release(res)) }()
	return x.Forward(p.pool)
}

// acquire gets a pod, parking the request when none is free.
func (h *handler) acquire(x forward.Exchange, r *revision, session uint64, first bool) turn {
	w := x.Waiter()
	p, queued, err := r.acquire(w, session, first)
	if p != nil || err != nil {
		return turn{pod: p, err: err}
	}
	cold := h.park(x, r, w, queued)
	return h.unpark(x, r, w, cold, w.Wait())
}

// park is what happens before a request waits in the queue. It reports whether no pod is ready.
//
//go:noinline
func (h *handler) park(x forward.Exchange, r *revision, w *breaker.Waiter, queued int) (cold bool) {
	r.report.queued.Add(1)
	h.grew(r, queued)
	cold = r.cold()
	x.SetWaitDeadline(x.Received().Add(r.settings.Load().QueueDeadline))
	if h.port != nil {
		h.port.recheck(w, r)
	}
	return cold
}

// unpark is what happens when the wait is over.
//
//go:noinline
func (h *handler) unpark(x forward.Exchange, r *revision, w *breaker.Waiter, cold bool, err error) turn {
	x.SetWaitDeadline(time.Time{})
	h.left(r)
	if err != nil {
		return turn{parked: true, err: err}
	}
	parked := time.Since(x.Received())
	h.announce(x, cold, parked)
	if h.deps.Observer != nil {
		h.deps.Observer.Dispatched(r.id, cold, parked)
	}
	return turn{pod: podOf(w.Grant), parked: true}
}

// refuse answers a request that got no pod.
func (h *handler) refuse(x forward.Exchange, r *revision, err error) forward.Result {
	cause, detail := refusalOf(err)
	answer, retryAfter := cause, time.Second
	if cause == fault.QueueDeadline {
		s := r.settings.Load()
		if s.QueueTimeout {
			answer, detail, retryAfter = fault.TimeoutTotal, "activator request timeout: no pod became free", 0
		} else {
			detail = "rouse.dev/queue-deadline is " + s.QueueDeadline.String()
		}
	}
	x.Fail(answer, detail, retryAfter)
	return forward.Result{Cause: cause, Status: fault.Of(answer).Status, Err: err}
}

func limitText(knob string, n int) string { return knob + " is " + strconv.Itoa(n) }

// unrouted answers a request that no revision serves.
func (h *handler) unrouted(x forward.Exchange) {
	if h.deps.Synced != nil && !h.deps.Synced() {
		x.Fail(fault.NotSynced, "", time.Second)
		return
	}
	x.Fail(fault.NoRoute, string(x.Host()), 0)
}

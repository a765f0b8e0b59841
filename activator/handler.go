package activator

import (
	"strconv"
	"time"

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
func (a *Activator) Handler(trusted bool) forward.Handler { return &handler{a, trusted} }

// HandlerOf serves the requests of one revision, whatever host they ask for: those of a listener that leads to it alone.
func (a *Activator) HandlerOf(id identity.Revision) forward.Handler {
	h := &handler{a, false}
	return forward.HandlerFunc(func(x forward.Exchange) { h.serve(x, a.revision(id), nil) })
}

type handler struct {
	*Activator
	trusted bool
}

// ServeExchange implements forward.Handler.
func (h *handler) ServeExchange(x forward.Exchange) {
	r, answer := h.route(x)
	h.serve(x, r, answer)
}

// serve answers a request of a revision, nil when there is none.
func (h *handler) serve(x forward.Exchange, r *revision, answer *Answer) {
	if h.standIn(x, answer, r) {
		return
	}
	if r == nil {
		x.Fail(fault.NoRoute, string(x.Host()), 0)
		return
	}
	h.began(r, x.Received())
	o := h.dispatch(x, r)
	now := time.Now()
	r.load.Out(now, false)
	if h.deps.Observer != nil {
		o.Arrived, o.Took = x.Received(), now.Sub(x.Received())
		h.deps.Observer.Done(r.id, o)
	}
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

// dispatch gives the request to a pod, and to another as long as it is certain that none saw it.
func (h *handler) dispatch(x forward.Exchange, r *revision) (o Outcome) {
	x.Remove(headerNamespace)
	x.Remove(headerRevision)
	x.Set(headerProxy, proxyValue)
	s := r.settings.Load()
	x.SetTimeouts(s.Timeouts)
	session := s.Affinity.session(x)
	for {
		p, err := h.acquire(x, r, session, o.Tries > 0)
		if err != nil {
			o.Result = h.refuse(x, r, err)
			return o
		}
		o.Tries++
		sent := time.Now()
		o.Result = x.Forward(p.pool)
		o.Worked = time.Since(sent)
		h.tell(p, p.release(o.Result))
		if !o.Retryable {
			return o
		}
		if o.Tries == h.cfg.Tries {
			x.Fail(o.Cause, "after "+strconv.Itoa(o.Tries)+" tries", time.Second)
			return o
		}
	}
}

// acquire gets a pod, parking the request when none is free.
func (h *handler) acquire(x forward.Exchange, r *revision, session uint64, first bool) (*pod, error) {
	w := x.Waiter()
	p, queued, err := r.acquire(w, session, first)
	if p != nil || err != nil {
		return p, err
	}
	h.grew(r, queued)
	cold := r.cold()
	x.SetWaitDeadline(x.Received().Add(r.settings.Load().QueueDeadline))
	err = w.Wait()
	x.SetWaitDeadline(time.Time{})
	if err != nil {
		return nil, err
	}
	parked := time.Since(x.Received())
	h.announce(x, cold, parked)
	if h.deps.Observer != nil {
		h.deps.Observer.Dispatched(r.id, cold, parked)
	}
	return w.Grant.(*pod), nil
}

// refuse answers a request that got no pod.
func (h *handler) refuse(x forward.Exchange, r *revision, err error) forward.Result {
	cause, detail := refusalOf(err)
	if cause == fault.QueueDeadline {
		detail = "rouse.dev/queue-deadline is " + r.settings.Load().QueueDeadline.String()
	}
	row := fault.Of(cause)
	x.Fail(cause, detail, time.Second)
	return forward.Result{Cause: cause, Status: row.Status, Err: err}
}

func limitText(knob string, n int) string { return knob + " is " + strconv.Itoa(n) }

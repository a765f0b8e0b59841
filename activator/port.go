package activator

import (
	"sync/atomic"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// Port serves the requests of a listener that leads to one revision, whatever host they ask for. Which one that is may
// change at any time: each request goes where the port leads when it comes. It is safe for concurrent use.
type Port struct {
	handler
	to atomic.Pointer[identity.Revision]
}

// errMoved ends the wait of requests that are to go where their port leads by now.
var errMoved = &refusal{fault.NoRoute, "the port leads nowhere any more"}

// Port returns the handler of a listener that leads to a revision.
func (a *Activator) Port(id identity.Revision) *Port {
	p := &Port{handler: handler{Activator: a}}
	p.port = p
	p.to.Store(&id)
	return p
}

// Lead makes the port lead to another revision, which was put before. Requests that are parked for the one before go
// there, in no particular order; what a pod of it has in flight finishes. A request is never kept for the one before: one
// that is parked while the port changes looks again ([Port.recheck]).
func (p *Port) Lead(id identity.Revision) {
	before := p.to.Swap(&id)
	if *before == id {
		return
	}
	if r := p.Activator.revision(*before); r != nil {
		r.move()
	}
}

// ServeExchange implements forward.Handler.
func (p *Port) ServeExchange(x forward.Exchange) { p.serve(x, p.leads(), nil) }

// leads returns where the port leads, nil when that is not there. Like a route, a port leads to a name: when a workload
// was recreated, its successor has it at once, before anybody has said so of the port.
func (p *Port) leads() *revision {
	id := p.to.Load()
	return p.revs.get(id.Name, id.Key())
}

// recheck sees to it that a request which was parked for r while the port changed goes on, as those do that were parked
// before.
func (p *Port) recheck(w *breaker.Waiter, r *revision) {
	if p.leads() != r && r.Abandon(w) {
		w.Wake(errMoved)
	}
}

// move wakes every request that is parked, so that it looks where to go. Those that find the same revision again are
// parked behind those that come meanwhile.
func (r *revision) move() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuseAll(errMoved)
}

// successor returns where a request goes that got no pod of r since that is gone, or since its port leads elsewhere. It is
// nil when the request is to be refused.
func (h *handler) successor(x forward.Exchange, r *revision, err error) *revision {
	refused, ok := err.(*refusal) //nolint:errorlint // made here, never wrapped
	if !ok || refused.cause != fault.NoRoute {
		return nil
	}
	next := r
	switch {
	case h.port != nil:
		next = h.port.leads()
	case refused != errMoved:
		next = h.rerouted(x, r)
	}
	if next == r && refused != errMoved {
		return nil
	}
	return next
}

// rerouted returns where a routed request goes whose revision is gone: to who has its name now, so that it stays where
// traffic is split; else, as if it came now, where its route leads by then.
func (h *handler) rerouted(x forward.Exchange, r *revision) *revision {
	if next := h.revs.get(r.id.Name, r.id.Key()); next != nil && next != r {
		return next
	}
	next, _ := h.route(x)
	return next
}

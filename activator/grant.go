package activator

import (
	"slices"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// Grant says how many requests this activator may have in flight in each pod, by UID: its leases, when several
// activators share a pod's limit. A pod that is absent from grants gets none; nil ends leasing, and each pod may be
// filled up to its own limit. A raised grant hands slots to waiters at once; one that is lowered beneath what is in
// flight takes effect as requests end, of which Deps.Freed tells. Grants for pods that are not known yet wait for
// them. The revision must have been put. grants must not be changed afterwards.
func (a *Activator) Grant(id identity.Revision, grants map[string]int) {
	if r := a.revision(id); r != nil {
		r.grant(grants)
	}
}

// Use returns how many requests are in flight in each pod of the revision, by UID: also in pods that take nothing new
// or were removed, while they have any.
func (a *Activator) Use(id identity.Revision) map[string]int {
	r := a.revision(id)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	use := make(map[string]int, len(r.pods))
	for uid, p := range r.pods {
		use[uid] = p.inFlight
	}
	return use
}

// Blocked returns, in order, the pods of the revision that get no request now whatever was granted: those that start and
// have not answered yet, those that are left alone after a refusal or as outliers, and one that is back from that and has
// the one request that it is tried with.
func (a *Activator) Blocked(id identity.Revision) []string {
	r := a.revision(id)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var blocked []string
	for uid, p := range r.pods {
		if p.blocked() {
			blocked = append(blocked, uid)
		}
	}
	slices.Sort(blocked)
	return blocked
}

// tell passes on what a release brought about. No lock is held.
func (a *Activator) tell(p *pod, n news) {
	if n.freed && a.deps.Freed != nil {
		a.deps.Freed(p.rev.id, p.uid)
	}
	if n.ejected != NotEjected && a.deps.Pods != nil {
		a.deps.Pods.Ejected(p.rev.id, p.uid, n.ejected)
	}
}

// blocked reports that the pod gets no request now for another reason than its limit, and may get some again. The caller
// holds the lock.
func (p *pod) blocked() bool {
	h := &p.health
	tried := h.trial && p.inFlight > 0
	return !p.removed && p.ep.State != endpoint.Draining && (!p.eligible() || h.refused || h.outlier || tried)
}

func (r *revision) grant(grants map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grants = grants
	for _, p := range r.pods {
		p.refit()
		p.lowered = p.inFlight > p.granted
	}
	r.hasten()
	r.pump()
}

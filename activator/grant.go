package activator

import "github.com/rousehq/rouse/internal/identity"

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

// tell passes on what a release brought about. No lock is held.
func (a *Activator) tell(p *pod, n news) {
	if n.freed && a.deps.Freed != nil {
		a.deps.Freed(p.rev.id, p.uid)
	}
	if n.ejected != NotEjected && a.deps.Pods != nil {
		a.deps.Pods.Ejected(p.rev.id, p.uid, n.ejected)
	}
}

func (r *revision) grant(grants map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grants = grants
	for _, p := range r.pods {
		p.refit()
		p.lowered = p.inFlight > p.granted
	}
	r.pump()
}

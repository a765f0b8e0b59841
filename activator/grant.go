package activator

import (
	"math"

	"github.com/rousehq/rouse/internal/identity"
)

// unlimited is the limit of a pod that has none.
const unlimited = math.MaxInt

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

// freed tells who wants to know that a pod's requests fit a lowered grant. No lock is held.
func (a *Activator) freed(p *pod) {
	if a.deps.Freed != nil {
		a.deps.Freed(p.rev.id, p.uid)
	}
}

func (r *revision) grant(grants map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grants = grants
	for _, p := range r.pods {
		p.refit()
		p.lowered = grants != nil && p.inFlight > p.limit
	}
	r.pump()
}

// refitAll brings every pod's limit up to date and hands out what became free. The caller holds the lock.
func (r *revision) refitAll() {
	for _, p := range r.pods {
		p.refit()
	}
	r.pump()
}

// refit works out the pod's limit: the revision's, and within it what was granted. The caller holds the lock.
func (p *pod) refit() {
	p.limit = unlimited
	if n := p.rev.settings.Load().ContainerConcurrency; n > 0 {
		p.limit = n
	}
	if p.rev.grants != nil {
		p.limit = max(0, min(p.limit, p.rev.grants[p.uid]))
	}
}

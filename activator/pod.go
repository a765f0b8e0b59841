package activator

import (
	"math"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
)

// unlimited is the limit of a pod that has none.
const unlimited = math.MaxInt

// pod is one endpoint and what this activator has in flight there. Guarded by the revision's lock, except what never
// changes.
type pod struct {
	rev  *revision
	uid  string        // as in ep; never changes
	pool *forward.Pool // never changes
	ep   endpoint.Endpoint

	place    [rotations]int // in the revision's rotations, -1 for none
	inFlight int
	granted  int  // by the revision's grants, unlimited without
	limit    int  // of requests in flight: see refit
	lowered  bool // has more in flight than a lowered grant allows, and somebody wants to know when not any more
	removed  bool
	idle     []chan struct{} // closed when a pod that is not picked any more has nothing in flight

	probing *probing // nil when nobody asks the pod
	proven  bool     // answered our probe, before its source says that it is ready
	health  health
}

// health is what a pod's requests say about it.
type health struct {
	refused  bool // left alone after a refusal, for a moment
	refusals int  // in a row
	outlier  bool // ejected
	trial    bool // back from being ejected, and has not served a request yet: one at a time
	failures int  // in a row
	ejected  int  // times, see Outlier.First
	until    time.Time
	lasts    time.Duration // the last ejection
	back     *time.Timer
}

// eligible reports that the pod belongs into the rotations.
func (p *pod) eligible() bool {
	return !p.removed && (p.ep.State == endpoint.Ready || p.ep.State == endpoint.Starting && p.proven)
}

// available reports that the pod may be given a request.
func (p *pod) available() bool {
	return p.inFlight < p.limit && !p.health.refused && !p.health.outlier
}

// refresh brings the rotations up to date after a change that available depends on. The caller holds the lock.
func (p *pod) refresh() {
	free := p.available()
	for i, at := range p.place {
		if at >= 0 {
			p.rev.rotations[i].free.set(at, free)
		}
	}
}

// take counts a request in, give one out. The caller holds the lock.
func (p *pod) take() { p.count(1) }
func (p *pod) give() { p.count(-1) }

func (p *pod) count(d int) {
	p.inFlight += d
	for i, at := range p.place {
		if at >= 0 {
			p.rev.rotations[i].busy += d
		}
	}
	p.refresh()
}

// refit works out the pod's limit: the revision's, and within it what was granted. The caller holds the lock.
func (p *pod) refit() {
	p.limit, p.granted = unlimited, unlimited
	if n := p.rev.settings.Load().ContainerConcurrency; n > 0 {
		p.limit = n
	}
	if p.rev.grants != nil {
		p.granted = max(0, p.rev.grants[p.uid])
	}
	p.limit = min(p.limit, p.granted)
	if p.health.trial {
		p.limit = min(p.limit, 1)
	}
	p.refresh()
}

// settled tells those who wait for it, and lets the connections go when the pod is gone. The caller holds the lock, and
// nothing is in flight.
func (p *pod) settled() {
	if p.removed {
		p.pool.Close()
		if p.rev.pods[p.uid] == p {
			delete(p.rev.pods, p.uid)
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
	if p == nil || p.inFlight == 0 && (p.removed || p.ep.State == endpoint.Draining) {
		return nil
	}
	c := make(chan struct{})
	p.idle = append(p.idle, c)
	return c
}

// update takes over a change of the revision's endpoints. Updates come in order.
func (r *revision) update(u endpoint.Update) {
	r.updating.Lock()
	defer r.updating.Unlock()
	fresh := map[string]*pod{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for missing := r.missing(u.Snapshot, fresh); len(missing) > 0; missing = r.missing(u.Snapshot, fresh) {
		r.mu.Unlock() // it is other code that makes pools: a revision whose pools take long delays no report
		r.make(missing, fresh)
		r.mu.Lock()
	}
	if r.gone {
		for _, p := range fresh {
			p.pool.Close()
		}
		return
	}
	for i := range u.Snapshot.Endpoints {
		if ep := u.Snapshot.Endpoints[i]; r.wants(ep) {
			r.upsert(ep, fresh[ep.Pod.UID])
		}
	}
	for _, p := range r.pods {
		if !r.listed(u.Snapshot, p.uid) {
			p.drop()
		}
	}
	r.index(u.Snapshot)
	r.follow(u.Snapshot)
	if r.ready() > 0 {
		r.failure = ""
	}
	r.pump()
}

// wants reports that the endpoint is one to keep connections to: not one that starts, unless it is probed.
func (r *revision) wants(ep endpoint.Endpoint) bool {
	return ep.State != endpoint.Starting || r.settings.Load().Probe.By != NoProbe
}

// listed reports that the snapshot, which is ordered by UID, has the pod.
func (r *revision) listed(s endpoint.Snapshot, uid string) bool {
	lo, hi := 0, len(s.Endpoints)
	for lo < hi {
		mid := (lo + hi) / 2
		if s.Endpoints[mid].Pod.UID < uid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(s.Endpoints) && s.Endpoints[lo].Pod.UID == uid && r.wants(s.Endpoints[lo])
}

// missing returns the endpoints of the snapshot for which there is no pod, known or fresh. The caller holds the lock.
func (r *revision) missing(s endpoint.Snapshot, fresh map[string]*pod) (eps []endpoint.Endpoint) {
	for i := range s.Endpoints {
		ep := s.Endpoints[i]
		if r.gone || !r.wants(ep) || fresh[ep.Pod.UID] != nil {
			continue
		}
		if p := r.pods[ep.Pod.UID]; p == nil || p.moved(ep) {
			eps = append(eps, ep)
		}
	}
	return eps
}

func (r *revision) make(eps []endpoint.Endpoint, into map[string]*pod) {
	for _, ep := range eps {
		p := &pod{rev: r, uid: ep.Pod.UID, pool: r.owner.deps.NewPoolOf(r.id, ep)}
		for i := range p.place {
			p.place[i] = -1
		}
		into[p.uid] = p
	}
}

// moved reports that the connections to the pod are of no use any more.
func (p *pod) moved(ep endpoint.Endpoint) bool {
	return p.ep.Pod != ep.Pod || p.ep.Protocol != ep.Protocol
}

// upsert takes over what the source says of a pod. fresh is nil when the one that is known will do.
func (r *revision) upsert(ep endpoint.Endpoint, fresh *pod) {
	p := r.pods[ep.Pod.UID]
	if fresh != nil {
		if p != nil {
			p.drop()
		}
		if p = fresh; r.pods == nil {
			r.pods = make(map[string]*pod)
		}
		r.pods[p.uid] = p
	}
	p.ep, p.removed = ep, false
	p.proven = p.proven && ep.State == endpoint.Starting
	p.look()
	p.refit()
	if p.inFlight == 0 {
		p.settled()
	}
}

// drop takes the pod out of the dispatcher. While it has requests in flight it stays in the map: when the source brings
// it back, they count. The caller holds the lock and indexes afterwards.
func (p *pod) drop() {
	if p.removed {
		return
	}
	p.removed, p.proven = true, false
	p.look()
	p.forgive()
	if p.inFlight == 0 {
		p.settled()
	}
}

// index rebuilds the rotations: pods that were there keep their order, new ones follow. The caller holds the lock.
func (r *revision) index(s endpoint.Snapshot) {
	list := r.rotations[all].pods
	kept := list[:0]
	for _, p := range list {
		if p.eligible() && r.pods[p.uid] == p {
			kept = append(kept, p)
		} else {
			p.place[all] = -1
		}
	}
	clear(list[len(kept):])
	for i := range s.Endpoints {
		if p := r.pods[s.Endpoints[i].Pod.UID]; p != nil && p.place[all] < 0 && p.eligible() {
			kept = append(kept, p)
			p.place[all] = len(kept) - 1
		}
	}
	r.rotations[all].pods = kept
	r.reindex()
}

// reindex works out all that follows from the list of pods and from the settings. The caller holds the lock.
func (r *revision) reindex() {
	s := r.settings.Load()
	zone := r.owner.cfg.Zone
	a, n := &r.rotations[all], &r.rotations[near]
	for _, p := range n.pods {
		p.place[near] = -1
	}
	clear(n.pods)
	n.pods = n.pods[:0]
	r.outliers = 0
	for _, p := range a.pods {
		if s.Zone.On && zone != "" && p.ep.Zone == zone {
			n.pods = append(n.pods, p)
		}
		if p.health.outlier {
			r.outliers++
		}
	}
	for i := range r.rotations {
		r.rotations[i].rebuild(i)
	}
	r.allowOutliers()
}

// rebuild works out places, free slots, hashes and load from the list.
func (o *rotation) rebuild(which int) {
	o.free.resize(len(o.pods))
	o.hashes = o.hashes[:0]
	o.busy = 0
	for i, p := range o.pods {
		p.place[which] = i
		o.free.set(i, p.available())
		o.hashes = append(o.hashes, hashOf(p.uid))
		o.busy += p.inFlight
	}
}

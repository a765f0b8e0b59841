package assign

import (
	"maps"
	"slices"
	"time"
)

// await arms the timer for the owner that has been silent for longest.
func (m *mirror) await() {
	m.alone.Stop()
	var first time.Time
	for _, sh := range m.shards {
		if !sh.silent.IsZero() && sh.from == nil {
			first = sooner(first, sh.silent)
		}
	}
	if !first.IsZero() {
		m.alone.Reset(time.Until(first.Add(m.c.cfg.Silence)))
	}
}

// borrow gives the revisions of owners that have been silent for long a way to their pods. Slots were with whoever needed
// them when control went, and nobody moves them now: an activator without one would let its requests wait beside pods that
// may be idle.
func (m *mirror) borrow(now time.Time) {
	for n, sh := range m.shards {
		if sh.from != nil || sh.silent.IsZero() || now.Sub(sh.silent) < m.c.cfg.Silence {
			continue
		}
		sh.silent, sh.mute = time.Time{}, true
		lent := 0
		for _, r := range m.revs {
			if r.Shard == n && m.lend(r) {
				lent++
			}
		}
		m.lent(lent)
	}
	m.await()
}

func (m *mirror) lent(revisions int) {
	if revisions > 0 {
		m.warn("control is silent, and there are revisions without a slot here: their pods' queue-proxies keep the limit", "revisions", revisions, "for", m.c.cfg.Silence.String())
	}
}

// lendLate is for slots that came to serve nobody after control had been silent for long: their pod has died.
func (m *mirror) lendLate(sh *shard, r *mirrored, parked int) {
	if sh != nil && sh.mute && parked > 0 && m.lend(r) {
		m.lent(1)
	}
}

// lend lets the receiver have one request in flight in each pod of a revision that has a queue-proxy, if it has no slot in
// any pod that it can send to. The queue-proxies keep the limit: what is too much for one moment waits there.
func (m *mirror) lend(r *mirrored) bool {
	if !r.leased || r.grants == nil || r.borrowed {
		return false
	}
	more, ways, blocked := maps.Clone(r.grants), 0, m.blocked(r)
	for i := range r.endpoints.Endpoints {
		e := &r.endpoints.Endpoints[i]
		if !r.Settings.takes(e.State) {
			continue
		}
		_, dead := slices.BinarySearch(blocked, e.Pod.UID)
		switch held := r.grants[e.Pod.UID] > 0; {
		case held && !dead:
			return false
		case !held && e.Sidecar:
			more[e.Pod.UID] = 1
			ways++
		}
	}
	if ways == 0 {
		return false
	}
	r.borrowed = true
	m.c.to.Grant(r.ID, more)
	return true
}

// giveBack ends what was lent of an owner's revisions before the owner hears what is in flight.
func (m *mirror) giveBack(shard int) {
	for _, r := range m.revs {
		if r.borrowed && r.Shard == shard {
			r.borrowed = false
			m.c.to.Grant(r.ID, r.grants)
		}
	}
}

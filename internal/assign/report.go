package assign

import (
	"maps"
	"slices"
	"time"

	"github.com/rousehq/rouse/internal/identity"
)

// serveWants does what other goroutines asked for.
func (m *mirror) serveWants() {
	m.c.mu.Lock()
	w := m.c.wants
	m.c.wants.active, m.c.wants.freed = map[identity.Revision]struct{}{}, map[identity.Revision]struct{}{}
	m.c.wants.ports = map[uint16]wirePortState{}
	streams := make([]*link, 0, len(m.c.streams))
	for l := range m.c.streams {
		streams = append(streams, l)
	}
	m.c.mu.Unlock()
	for id := range w.active {
		if _, looked := m.active[id]; looked {
			m.active[id] = time.Now() // the next tick looks; without this the ticks would end in between two reports
		} else {
			m.look(id, true)
		}
	}
	for id := range w.freed {
		if r := m.revs[id]; r != nil {
			m.acknowledge(m.shards[r.Shard], r, false)
		}
	}
	m.tell(streams, w.ports, w.state)
	if w.state == stateGoodbye && w.ended != nil && m.saidGoodbye(streams) {
		m.c.mu.Lock()
		if m.c.wants.ended == w.ended {
			close(w.ended)
			m.c.wants.ended = nil
		}
		m.c.mu.Unlock()
	}
}

// tell says the state of ports and of this activator to every stream: all of it to a new one, what has changed to others.
func (m *mirror) tell(streams []*link, ports map[uint16]wirePortState, state string) {
	for port, p := range ports {
		closed := !p.Open && p.Reason == ""
		switch before, known := m.ports[port]; {
		case known && before == p, !known && closed:
			delete(ports, port)
		case closed:
			delete(m.ports, port)
		default:
			m.ports[port] = p
		}
	}
	for _, l := range streams {
		say, changed := ports, state != m.state
		if !m.greet[l] {
			m.greet[l] = true
			say, changed = m.ports, state != ""
		}
		if len(say) == 0 && !changed {
			continue
		}
		l.put(func(o *outbox) {
			maps.Copy(o.ports, say)
			if changed {
				o.state = state
			}
		})
	}
	m.state = state
}

// acknowledge tells the owner of a revision what this activator may have in flight there: always when control wants to
// know, else when it has become less.
func (m *mirror) acknowledge(sh *shard, r *mirrored, always bool) {
	if !r.leased || sh == nil || sh.from == nil {
		return
	}
	a := wireAck{ID: idOf(r.ID), Epoch: sh.epoch, Seq: r.seq, Unlimited: r.grants == nil}
	if r.grants != nil {
		_, use := m.c.to.Use(r.ID)
		a.Bounds = maps.Clone(r.grants)
		for uid, n := range use {
			if n > a.Bounds[uid] {
				a.Bounds[uid] = n
			}
		}
	}
	if !always && maps.Equal(a.Bounds, r.told) {
		return
	}
	r.told = a.Bounds
	sh.from.put(func(o *outbox) { o.acks[r.ID] = a })
}

// grant takes over a newer grant than the last, and says so.
func (m *mirror) grant(sh *shard, w *wireGrant) {
	r := m.revs[w.ID.id()]
	if r == nil || w.Seq <= r.seq {
		return
	}
	r.seq, r.grants, r.leased = w.Seq, w.Pods, true
	switch {
	case w.Unlimited:
		r.grants = nil
	case r.grants == nil:
		r.grants = map[string]int{}
	}
	m.c.to.Grant(r.ID, r.grants)
	m.acknowledge(sh, r, true)
	m.look(r.ID, true)
}

// look tells the load of a revision when it has changed, and stops looking when there was none for long. wake begins to
// look.
func (m *mirror) look(id identity.Revision, wake bool) {
	r := m.revs[id]
	if r == nil {
		delete(m.active, id)
		return
	}
	now := time.Now()
	parked, use := m.c.to.Use(id)
	blocked := m.blocked(r)
	maps.DeleteFunc(use, func(_ string, n int) bool { return n == 0 })
	switch {
	case parked > 0 || len(use) > 0 || len(r.draining) > 0:
		m.active[id] = now
	case wake:
		m.active[id] = now
	case now.Sub(m.active[id]) > linger:
		delete(m.active, id)
	}
	sh := m.shards[r.Shard]
	m.lendLate(sh, r, parked)
	m.idle(sh, r, use)
	if r.grants != nil && !maps.Equal(r.told, r.grants) { // control knows of more than was granted: it may have become less
		m.acknowledge(sh, r, false)
	}
	if sh == nil || sh.from == nil || parked == r.parked && maps.Equal(use, r.use) && slices.Equal(blocked, r.blocked) {
		return
	}
	r.parked, r.use, r.blocked = parked, use, blocked
	sh.from.put(func(o *outbox) { o.loads[id] = wireLoad{idOf(id), parked, use, blocked} })
}

// blocked are the pods in which slots of a revision serve nobody now.
func (m *mirror) blocked(r *mirrored) []string {
	if r.grants == nil {
		return nil
	}
	return m.c.to.Blocked(r.ID)
}

// idle tells which draining pods have nothing in flight any more.
func (m *mirror) idle(sh *shard, r *mirrored, use map[string]int) {
	if len(r.draining) == 0 || sh == nil || sh.from == nil {
		return
	}
	var idle []string
	for uid := range r.draining {
		if use[uid] == 0 {
			idle = append(idle, uid)
			delete(r.draining, uid)
		}
	}
	if len(idle) > 0 {
		sh.from.put(func(o *outbox) { o.idle[r.ID] = append(o.idle[r.ID], idle...) })
	}
}

func (m *mirror) saidGoodbye(streams []*link) bool {
	for _, l := range streams {
		if !l.saidGoodbye() {
			return false
		}
	}
	return true
}

package slots

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Step decides what should move, and returns the grants to send now and when to step again even if nothing happens; the
// zero time for never. Each grant must be sent, or its activator's connection broken.
func (l *Ledger) Step(now time.Time) (grants []Grant, next time.Time) {
	for name, h := range l.holders {
		if !h.connected && !now.Before(h.expires) {
			delete(l.holders, name)
		}
	}
	w := &wake{now: now}
	l.tidy(now)
	if l.limit > 0 {
		l.trim()
		l.divide(w)
	}
	grants = l.emit(w)
	for _, h := range l.holders {
		if !h.connected {
			w.at(h.expires)
		}
	}
	return grants, w.next
}

// wake collects when the next step is due.
type wake struct {
	now, next time.Time
}

// at asks for a step at a time; one that is past is as soon as possible.
func (w *wake) at(t time.Time) {
	if !t.After(w.now) {
		t = w.now.Add(time.Millisecond)
	}
	if w.next.IsZero() || t.Before(w.next) {
		w.next = t
	}
}

// tidy forgets targets in pods that are not ready, and pods that nobody can have anything in.
func (l *Ledger) tidy(now time.Time) {
	for uid, p := range l.pods {
		if p.ready {
			continue
		}
		held := now.Before(p.claim)
		for _, h := range l.holders {
			delete(h.target, uid)
			held = held || h.bound(uid) > 0
		}
		if !held || l.limit == 0 {
			delete(l.pods, uid)
		}
	}
}

// trim takes back what exceeds the limit: after it became lower, or when two claim the same.
func (l *Ledger) trim() {
	all := l.sorted()
	for _, p := range l.ready {
		for sum := l.assigned(p); sum > l.limit; sum-- {
			var most *holder
			for _, h := range all {
				if h.target[p.uid] > 0 && (most == nil || h.target[p.uid] > most.target[p.uid]) {
					most = h
				}
			}
			most.target[p.uid]--
		}
	}
}

func (l *Ledger) assigned(p *pod) int {
	n := 0
	for _, h := range l.holders {
		n += h.target[p.uid]
	}
	return n
}

// sorted returns the holders in order of name, so that decisions do not depend on the order of a map.
func (l *Ledger) sorted() []*holder {
	return slices.SortedFunc(maps.Values(l.holders), func(a, b *holder) int { return cmp.Compare(a.name, b.name) })
}

// members are the activators that get shares.
func (l *Ledger) members() []*holder {
	return slices.DeleteFunc(l.sorted(), func(h *holder) bool { return !h.connected || h.leaving })
}

// emit makes a grant for every activator whose slots should be others than it was told, as far as slots are free.
func (l *Ledger) emit(w *wake) (grants []Grant) {
	order := slices.DeleteFunc(l.sorted(), func(h *holder) bool { return !h.connected || h.waiting })
	slices.SortStableFunc(order, func(a, b *holder) int { return before(a.hungry, b.hungry) })
	for _, h := range order {
		if h.acked.unlimited && l.limit > 0 && l.claimed(w) {
			continue // it goes on without leases until there is something to give it
		}
		want := l.affordable(w, h)
		if !h.resend && want.unlimited == h.granted.unlimited && maps.Equal(want.pods, h.granted.pods) {
			continue
		}
		if !want.unlimited {
			for uid, n := range want.pods {
				if n > h.bound(uid) {
					h.raised, l.moved = w.now, w.now
				}
			}
		}
		h.seq++
		h.granted, h.pending = want, want
		h.waiting, h.resend = true, false
		grants = append(grants, Grant{h.name, h.seq, want.unlimited, maps.Clone(want.pods)})
		w.at(w.now.Add(l.cfg.Turn)) // for those who wait until this one has had his turn
	}
	return grants
}

// claimed says whether there is a ready pod of which nothing can be given out yet.
func (l *Ledger) claimed(w *wake) bool {
	for _, p := range l.ready {
		if w.now.Before(p.claim) {
			w.at(p.claim)
			return true
		}
	}
	return false
}

// before orders times, zero ones last.
func before(a, b time.Time) int {
	if a.IsZero() != b.IsZero() {
		return map[bool]int{true: 1, false: -1}[a.IsZero()]
	}
	return a.Compare(b)
}

// affordable is the holder's target as far as nobody else can have those slots in use.
func (l *Ledger) affordable(w *wake, h *holder) bounds {
	if l.limit == 0 {
		return bounds{unlimited: true}
	}
	want := bounds{pods: map[string]int{}}
	for uid, n := range h.target {
		p := l.pods[uid]
		own := h.bound(uid)
		if n > own {
			free := l.unheld(p)
			if h.blocked(uid) {
				free = max(0, free-l.promised(p))
			}
			n = min(n, own+free)
			if w.now.Before(p.claim) {
				n = own
				w.at(p.claim)
			}
		}
		if n = min(n, l.limit); n > 0 {
			want.pods[uid] = n
		}
	}
	return want
}

// promised is how many slots of a pod those should have, and do not have, who can send to it: before others.
func (l *Ledger) promised(p *pod) int {
	n := 0
	for _, h := range l.holders {
		if !h.blocked(p.uid) {
			n += max(0, h.target[p.uid]-h.bound(p.uid))
		}
	}
	return n
}

// unheld is how many slots of a pod nobody can have in use.
func (l *Ledger) unheld(p *pod) int {
	n := l.limit
	for _, h := range l.holders {
		n -= min(h.bound(p.uid), l.limit)
	}
	return max(0, n)
}

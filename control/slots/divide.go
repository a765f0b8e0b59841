package slots

import (
	"cmp"
	"slices"
	"time"
)

// divide changes targets: what nobody has is given out, then slots move to where they are needed.
func (l *Ledger) divide(w *wake) {
	members := l.members()
	l.relieve()
	l.assign(w, members)
	l.share(members)
	hungry := l.starving(w.now)
	for _, h := range hungry {
		l.feed(w, h)
	}
	if len(hungry) == 0 {
		l.settle(w, members)
	}
	for _, h := range l.holders { // who has what it needs is not hungry any more
		if wanting(h) == 0 || h.load.Parked == 0 {
			h.hungry = time.Time{}
		}
	}
}

// whole says that each activator can have pods of its own.
func (l *Ledger) whole(members []*holder) bool { return len(l.ready) >= len(members) }

// relieve takes from those who leave what they do not use, first where they can send nothing.
func (l *Ledger) relieve() {
	for _, h := range l.holders {
		if !h.leaving || !h.connected {
			continue
		}
		extra := h.spare() - h.load.Parked
		for _, blocked := range []bool{true, false} {
			for _, p := range l.ready {
				if extra > 0 && h.blocked(p.uid) == blocked {
					n := min(extra, h.free(p.uid)+max(0, h.target[p.uid]-h.bound(p.uid)))
					h.target[p.uid] -= n
					extra -= n
				}
			}
		}
	}
}

// share gives those who have just joined their part of what the others have.
func (l *Ledger) share(members []*holder) {
	unit := 1
	if l.whole(members) {
		unit = l.limit
	}
	for _, h := range members {
		if !h.fresh || len(l.ready) == 0 {
			continue
		}
		h.fresh = false
		for {
			rich := slices.MaxFunc(members, func(a, b *holder) int { return cmp.Compare(a.total(), b.total()) })
			if rich.total() < h.total()+2*unit {
				break
			}
			if l.move(rich, h, unit, anySlot) == 0 {
				break
			}
		}
	}
}

// assign gives out what nobody has.
func (l *Ledger) assign(w *wake, members []*holder) {
	whole := l.whole(members)
	for _, p := range l.ready {
		free := l.limit - l.assigned(p)
		if free > 0 && w.now.Before(p.claim) {
			w.at(p.claim)
			continue
		}
		for free > 0 {
			h := l.neediest(members)
			if h == nil {
				break
			}
			n := 1
			if whole && !h.leaving {
				n = free
			}
			h.target[p.uid] += n
			free -= n
		}
	}
}

// neediest is who should get a slot that is free: those in need before others, then those with the least.
func (l *Ledger) neediest(members []*holder) *holder {
	var best *holder
	consider := func(h *holder) {
		if best == nil || cmp.Or(-compareBool(need(h) > 0, need(best) > 0), cmp.Compare(h.total(), best.total())) < 0 {
			best = h
		}
	}
	for _, h := range members {
		consider(h)
	}
	for _, h := range l.sorted() {
		if h.connected && h.leaving && need(h) > 0 {
			consider(h)
		}
	}
	return best
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// need is how much more the holder could use than it should have. What is still in flight in slots that it should not
// have needs none.
func need(h *holder) int {
	return max(0, h.load.Parked-h.spare())
}

// lacking is how much more the holder could use than it should have in pods that it can send to.
func lacking(h *holder) int {
	n := h.load.Parked
	for uid, k := range h.target {
		if !h.blocked(uid) {
			n -= max(0, k-h.load.Use[uid])
		}
	}
	return max(0, n)
}

// wanting is how much more the holder could use than it has in pods that it can send to.
func wanting(h *holder) int {
	n := h.load.Parked
	for uid := range h.target {
		if !h.blocked(uid) {
			n -= h.free(uid)
		}
	}
	return max(0, n)
}

// starving returns who needs more than it has: those with the least first, then those who got
// something the longest ago.
func (l *Ledger) starving(now time.Time) (hungry []*holder) {
	for _, h := range l.sorted() {
		if !h.connected || wanting(h) == 0 || h.load.Parked == 0 {
			continue
		}
		if h.hungry.IsZero() {
			h.hungry = now
		}
		hungry = append(hungry, h)
	}
	slices.SortStableFunc(hungry, func(a, b *holder) int {
		return cmp.Or(cmp.Compare(a.usable(), b.usable()), a.raised.Compare(b.raised), a.hungry.Compare(b.hungry))
	})
	return hungry
}

// feed moves slots to one that needs them: those that it can use now, and what these do not cover in pods that it may use
// soon, so that it has them as soon as such a pod answers.
func (l *Ledger) feed(w *wake, h *holder) {
	donors := l.donors(w, h)
	for _, k := range []lot{usable, lost} {
		for _, d := range donors {
			if n := min(lacking(h), l.slack(w, d, h, k)); n > 0 {
				l.move(d, h, n, k)
			}
		}
	}
	l.swap(w, h, donors)
	for _, d := range donors {
		if even := (d.usable() - h.usable()) / 2; lacking(h) > 0 && even > 0 && l.turned(w, d) {
			l.move(d, h, min(lacking(h), even), usable)
		}
	}
	if h.usable() == 0 && lacking(h) > 0 {
		l.rotate(w, h, donors)
	}
	l.hope(w, h, donors)
}

// hope is feed in pods that the holder cannot send to now.
func (l *Ledger) hope(w *wake, h *holder, donors []*holder) {
	for _, k := range []lot{hoped, ahead} {
		for _, d := range donors {
			if n := min(need(h), l.slack(w, d, h, k)); n > 0 {
				l.move(d, h, n, k)
			}
		}
	}
	for _, d := range donors {
		more := (d.total() - d.usable()) - (h.total() - h.usable())
		if even := more / 2; need(h) > 0 && even > 0 && l.turned(w, d) {
			l.move(d, h, min(need(h), even, l.idleIn(d, h, hoped)), hoped)
		}
	}
}

// donors are the others that have something to give, the idlest first.
func (l *Ledger) donors(w *wake, h *holder) []*holder {
	all := slices.DeleteFunc(l.sorted(), func(d *holder) bool { return d == h || !d.connected || d.total() == 0 })
	slack, total := map[*holder]int{}, map[*holder]int{}
	for _, d := range all {
		slack[d], total[d] = l.slack(w, d, h, usable), d.total()
	}
	slices.SortStableFunc(all, func(a, b *holder) int {
		return cmp.Or(compareBool(b.demand() == 0, a.demand() == 0), cmp.Compare(slack[b], slack[a]), cmp.Compare(total[b], total[a]))
	})
	return all
}

// slack is how many slots of a lot the holder has not needed for a turn.
func (l *Ledger) slack(w *wake, h, to *holder, k lot) int {
	if k.empty(h, to) {
		return 0
	}
	h.calm(w, l.cfg.Turn)
	open, closed, free, stuck := 0, 0, 0, 0
	for uid := range h.target {
		n := h.free(uid)
		switch {
		case n == 0:
		case !h.blocked(uid):
			open += n
		default:
			closed += n
		}
		switch {
		case n == 0 || !k.has(h, to, uid):
		case k == lost && l.stuck(w, h, to, uid):
			stuck += n
		default:
			free += n
		}
	}
	over := h.inFlight + open - h.peak
	switch k {
	case anySlot:
		over += closed
	case hoped, lost: // what the others do not cover it hopes for here
		over = closed + min(0, over)
	}
	return stuck + max(0, min(over-stuck, free))
}

// calm forgets the most that the holder had to do when it is long ago.
func (h *holder) calm(w *wake, turn time.Duration) {
	if h.peak <= h.demand() {
		return
	}
	if over := h.peakAt.Add(turn); over.After(w.now) {
		w.at(over)
	} else {
		h.peak = h.demand()
	}
}

// turned says whether the holder has got all that it should have, and has had it for a turn.
func (l *Ledger) turned(w *wake, h *holder) bool {
	if h.has() < h.total() {
		return false
	}
	over := h.raised.Add(l.cfg.Turn)
	if over.After(w.now) {
		w.at(over)
		return false
	}
	return true
}

// rotate takes a slot from whoever has had his for longest. One that has just given back its own waits for a turn
// first: else two would swap while a third looks on.
func (l *Ledger) rotate(w *wake, h *holder, donors []*holder) {
	if slices.ContainsFunc(l.ready, func(p *pod) bool { return h.bound(p.uid) > 0 && !h.blocked(p.uid) }) {
		return // not given back yet
	}
	if again := h.held.Add(l.cfg.Turn); again.After(w.now) {
		w.at(again)
		return
	}
	var oldest *holder
	for _, d := range donors {
		if l.offers(d, h, usable) && l.turned(w, d) && (oldest == nil || d.raised.Before(oldest.raised)) {
			oldest = d
		}
	}
	if oldest != nil {
		l.move(oldest, h, 1, usable)
	}
}

// swap turns a promise that hangs on a request in flight into one of a slot that is free, in the same pod or another: what
// the holder waits for stays where it is, and the free slot of a third one comes instead.
func (l *Ledger) swap(w *wake, h *holder, donors []*holder) {
	for _, p := range l.ready {
		for h.target[p.uid] > h.bound(p.uid) && l.unheld(p) == 0 && wanting(h) > 0 {
			late := l.late(p, h)
			if late == nil {
				break
			}
			d, from := l.idle(w, h, donors)
			if d == nil {
				return
			}
			h.target[p.uid]--
			late.target[p.uid]++
			d.target[from]--
			h.target[from]++
		}
	}
}

// idle returns one that has a slot to give that the holder can use, and the slot's pod; nil when there is none.
func (l *Ledger) idle(w *wake, h *holder, donors []*holder) (*holder, string) {
	for _, k := range []lot{usable, lost} {
		for _, d := range donors {
			if l.slack(w, d, h, k) > 0 {
				return d, l.best(d, h, k)
			}
		}
	}
	return nil, ""
}

// late is who has not given back what it should in a pod, because it is in use: what is free comes by itself.
func (l *Ledger) late(p *pod, except *holder) *holder {
	for _, d := range l.sorted() {
		if d != except && d.connected && d.bound(p.uid) > d.target[p.uid] && d.load.Use[p.uid] > d.target[p.uid] {
			return d
		}
	}
	return nil
}

// best returns the pod of whose slots the donor should give one: one with a slot free, where the receiver has some
// already, and where the donor has the fewest. Empty when no pod has a free slot.
func (l *Ledger) best(from, to *holder, k lot) string {
	l.searches++
	best := ""
	for _, p := range l.ready {
		uid := p.uid
		if from.free(uid) == 0 || !k.has(from, to, uid) {
			continue
		}
		if best == "" || l.prefer(from, to, uid, best) {
			best = uid
		}
	}
	return best
}

func (l *Ledger) prefer(from, to *holder, a, b string) bool {
	return cmp.Or(compareBool(to.target[a] > 0, to.target[b] > 0), cmp.Compare(from.target[b], from.target[a])) > 0
}

// move gives up to n slots of a lot to another, free ones first, and returns how many it gave. What makes a pod the best
// one to give from does so all the more after the first slot: each pod is looked for once, not once per slot.
func (l *Ledger) move(from, to *holder, n int, k lot) (given int) {
	for given < n {
		uid := l.best(from, to, k)
		some := from.free(uid)
		if uid == "" {
			if uid = l.busiest(from, to, k); uid == "" {
				break
			}
			some = from.target[uid]
		}
		some = min(some, n-given)
		from.target[uid] -= some
		to.target[uid] += some
		given += some
	}
	return given
}

// busiest is a pod in which the holder has slots, all of them in use: the one with the fewest.
func (l *Ledger) busiest(h, to *holder, k lot) string {
	best := ""
	for _, p := range l.ready {
		if n := h.target[p.uid]; n > 0 && k.has(h, to, p.uid) && (best == "" || n < h.target[best]) {
			best = p.uid
		}
	}
	return best
}

// settle gives one without a slot a spare one when nothing has moved for long.
func (l *Ledger) settle(w *wake, members []*holder) {
	if l.limit*len(l.ready) < len(members) {
		return
	}
	for _, h := range members {
		if h.total() > 0 {
			continue
		}
		if quiet := l.moved.Add(l.cfg.Settle); quiet.After(w.now) {
			w.at(quiet)
			return
		}
		for _, d := range l.donors(w, h) {
			if d.total() > 1 && l.slack(w, d, h, anySlot) > 0 {
				l.move(d, h, 1, anySlot)
				return
			}
		}
	}
}

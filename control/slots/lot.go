package slots

import (
	"maps"
	"time"
)

// lot says which of a holder's slots are meant when some are to go to another, by who can send to their pods.
type lot uint8

const (
	anySlot lot = iota
	usable      // both can
	lost        // the receiver can, the holder cannot
	hoped       // neither can: the pod starts, or has died
	ahead       // the holder can, the receiver cannot yet
)

// has says whether slots in a pod are of the lot.
func (k lot) has(from, to *holder, uid string) bool {
	switch k {
	case usable:
		return !from.blocked(uid) && !to.blocked(uid)
	case lost:
		return from.blocked(uid) && !to.blocked(uid)
	case hoped:
		return from.blocked(uid) && to.blocked(uid)
	case ahead:
		return !from.blocked(uid) && to.blocked(uid)
	}
	return true
}

// empty says that there can be no such slots, without a look at the pods.
func (k lot) empty(from, to *holder) bool {
	return (k == lost || k == hoped) && len(from.load.Blocked) == 0 || (k == hoped || k == ahead) && len(to.load.Blocked) == 0
}

// blocked says whether the holder can send nothing to a pod.
func (h *holder) blocked(uid string) bool { return h.load.Blocked[uid] }

// block takes over which pods are blocked for a holder. What it says when it has nothing to do may be old by the time
// that it has: nothing but slots that it does not need moves for that.
func (l *Ledger) block(now time.Time, h *holder, blocked map[string]bool) {
	if len(blocked) == 0 && len(h.load.Blocked) == 0 {
		return
	}
	if h.turns == nil {
		h.turns = map[string]time.Time{}
	}
	for uid := range blocked {
		if !h.blocked(uid) {
			h.turns[uid] = now
		}
	}
	for uid := range h.load.Blocked {
		if !blocked[uid] {
			h.turns[uid] = now
		}
	}
	maps.DeleteFunc(h.turns, func(uid string, _ time.Time) bool { return l.pods[uid] == nil && !blocked[uid] })
}

// stuck says whether a pod has been blocked for one holder and open for another for a turn: two that look at a pod that
// starts do not see it at the same moment.
func (l *Ledger) stuck(w *wake, h, to *holder, uid string) bool {
	since := h.turns[uid]
	if t := to.turns[uid]; t.After(since) {
		since = t
	}
	over := since.Add(l.cfg.Turn)
	if over.After(w.now) {
		w.at(over)
		return false
	}
	return true
}

// usable is total without the pods that are blocked.
func (h *holder) usable() int {
	n := 0
	for uid, k := range h.target {
		if !h.blocked(uid) {
			n += k
		}
	}
	return n
}

// idleIn is how many of the holder's slots of a lot are free.
func (l *Ledger) idleIn(h, to *holder, k lot) int {
	n := 0
	for uid := range h.target {
		if k.has(h, to, uid) {
			n += h.free(uid)
		}
	}
	return n
}

// offers says whether the holder has slots of a lot, free or not.
func (l *Ledger) offers(h, to *holder, k lot) bool {
	for uid, n := range h.target {
		if n > 0 && k.has(h, to, uid) {
			return true
		}
	}
	return false
}

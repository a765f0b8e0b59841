package slots

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Config of a [Ledger].
type Config struct {
	// TTL is how long the leases of a disconnected activator are kept for it, and how long pods that were there before
	// the ledger are left to those who claim them.
	TTL time.Duration
	// Turn is how long a slot counts as in use after it was, and how long it stays with whoever needs it while others
	// have none. Too short, and slots move for every pause; too long, and those without wait.
	Turn time.Duration
	// Settle is how long nothing must have moved before an activator without a slot is given a spare one.
	Settle time.Duration
}

// Grant is what an activator may have in flight per pod from now on.
type Grant struct {
	Activator string
	// Seq grows with each grant to the same activator, over owners too.
	Seq uint64
	// Unlimited says that there is no limit to share; Pods is empty then.
	Unlimited bool
	// Pods are the slots by pod UID; in a pod that is not named it has none.
	Pods map[string]int
}

// Ack is an activator's answer to a grant, repeated whenever its bounds become lower.
type Ack struct {
	// Seq is the newest grant that it follows, 0 when it never had one.
	Seq uint64
	// Unlimited says that it follows no limit.
	Unlimited bool
	// Bounds are the most that it can have in flight per pod until the next grant.
	Bounds map[string]int
}

// Load is what an activator has to do.
type Load struct {
	Parked int
	// Use is what is in flight by pod.
	Use map[string]int
	// Blocked are the pods that it sends nothing to now, whatever slots it has there: they start, or it leaves them alone.
	Blocked map[string]bool
}

// unbounded stands for what has no limit; sums of a few of them do not overflow.
const unbounded = math.MaxInt32

// Ledger is the account of one revision. Make one with New.
type Ledger struct {
	cfg     Config
	limit   int
	first   bool // no pods were told yet
	pods    map[string]*pod
	ready   []*pod // in the order in which they came
	holders map[string]*holder
	moved   time.Time // when a slot last moved

	searches int // for a pod to give slots from: a measure of the work, for tests
}

// pod is one that is ready, or that somebody may still have something in flight in.
type pod struct {
	uid   string
	ready bool
	// claim is until when only those who say that they hold something get anything.
	claim time.Time
}

// bounds is what somebody can have in flight by pod.
type bounds struct {
	unlimited bool
	pods      map[string]int
}

func (b *bounds) at(uid string) int {
	if b.unlimited {
		return unbounded
	}
	return b.pods[uid]
}

// holder is one activator.
type holder struct {
	name      string
	connected bool
	leaving   bool
	fresh     bool      // joined, and was not given its share yet
	expires   time.Time // of a disconnected one

	seq     uint64
	waiting bool   // an acknowledgement of seq is owed
	granted bounds // by seq
	resend  bool   // what it follows is not known to be granted
	acked   bounds // as it said last
	pending bounds // sent, not acknowledged

	target map[string]int // what it should have

	load     Load
	turns    map[string]time.Time // when a pod was blocked first, or was no more
	inFlight int
	peak     int // of parked and in flight, lately
	peakAt   time.Time
	hungry   time.Time // since when it has needed more; zero when it does not
	raised   time.Time // when it last got a slot
	held     time.Time // when it last acknowledged to have less than before
}

// bound is the most that the holder can have in flight in a pod.
func (h *holder) bound(uid string) int { return max(h.acked.at(uid), h.pending.at(uid)) }

func (h *holder) demand() int { return h.load.Parked + h.inFlight }

// total is what the holder should have in all ready pods.
func (h *holder) total() int {
	n := 0
	for _, k := range h.target {
		n += k
	}
	return n
}

// size is what the holder can have in all pods together.
func (h *holder) size() int {
	if h.acked.unlimited || h.pending.unlimited {
		return unbounded
	}
	n := 0
	for uid, k := range h.acked.pods {
		n += max(k, h.pending.pods[uid])
	}
	for uid, k := range h.pending.pods {
		if _, both := h.acked.pods[uid]; !both {
			n += k
		}
	}
	return n
}

// has is what of it the holder has.
func (h *holder) has() int {
	n := 0
	for uid, k := range h.target {
		n += min(k, h.bound(uid))
	}
	return n
}

// spare is how many slots the holder should have beyond what is in flight, in pods that it can use and in others.
func (h *holder) spare() int {
	n := 0
	for uid, k := range h.target {
		n += max(0, k-h.load.Use[uid])
	}
	return n
}

// free is how many of the holder's slots in a pod are not in use.
func (h *holder) free(uid string) int {
	return max(0, min(h.target[uid], h.bound(uid))-h.load.Use[uid])
}

// New returns the account of a revision without a limit, pods and activators.
func New(cfg Config) *Ledger {
	return &Ledger{cfg: cfg, first: true, pods: map[string]*pod{}, holders: map[string]*holder{}}
}

// Limit sets how many requests a pod takes at once; 0 is unlimited.
func (l *Ledger) Limit(n int) { l.limit = n }

// Pods says which pods are ready. The pods of the first call were there before the ledger, and others may hold leases in
// them that it does not know of.
func (l *Ledger) Pods(now time.Time, ready []string) {
	old := l.ready
	l.ready = nil
	for _, p := range old {
		p.ready = slices.Contains(ready, p.uid)
		if p.ready {
			l.ready = append(l.ready, p)
		}
	}
	for _, uid := range ready {
		p := l.pods[uid]
		if p == nil {
			p = &pod{uid: uid}
			if l.first {
				p.claim = now.Add(l.cfg.TTL)
			}
			l.pods[uid] = p
		}
		if !p.ready {
			p.ready = true
			l.ready = append(l.ready, p)
		}
	}
	l.first = false
}

// Join takes an activator in, or back after its connection broke, with the first acknowledgement of its new connection.
func (l *Ledger) Join(now time.Time, name string, a Ack) {
	h := l.holders[name]
	if h == nil {
		h = &holder{name: name, target: map[string]int{}, fresh: true}
		l.holders[name] = h
	}
	h.connected, h.expires = true, time.Time{}
	switch {
	case a.Seq >= h.seq: // it has seen everything that was sent
		h.seq = a.Seq
		h.acked, h.pending = a.bounds(), bounds{}
	default: // what was sent since may still arrive, as far as we know
		h.acked = widest(a.bounds(), widest(h.acked, h.pending))
		h.pending = bounds{}
	}
	h.waiting, h.resend = false, true
	l.adopt(now, h)
}

// adopt makes what an unknown holder claims its target.
func (l *Ledger) adopt(now time.Time, h *holder) {
	if !h.fresh || h.acked.unlimited {
		return
	}
	for uid, n := range h.acked.pods {
		if n > 0 {
			if l.pods[uid] == nil {
				l.pods[uid] = &pod{uid: uid, claim: now.Add(l.cfg.TTL)}
			}
			h.target[uid] = n
			h.fresh = false
		}
	}
}

// Ack takes an acknowledgement. Ones of older grants are ignored, so that they may come late or twice.
func (l *Ledger) Ack(now time.Time, name string, a Ack) {
	h := l.holders[name]
	if h == nil || a.Seq != h.seq {
		return
	}
	before := h.size()
	switch {
	case h.waiting:
		h.waiting = false
		h.acked, h.pending = a.bounds(), bounds{}
	case !a.Unlimited: // of the same grant: bounds only fall
		h.acked = narrowest(h.acked, a.bounds())
	}
	if h.size() < before {
		h.held = now
	}
}

// Load takes what an activator has to do.
func (l *Ledger) Load(now time.Time, name string, load Load) {
	h := l.holders[name]
	if h == nil {
		return
	}
	h.inFlight = 0
	for _, n := range load.Use {
		h.inFlight += n
	}
	l.block(now, h, load.Blocked)
	h.load = load
	if d := h.demand(); d >= h.peak || now.Sub(h.peakAt) >= l.cfg.Turn {
		h.peak, h.peakAt = d, now
	}
}

// Leaving says that an activator will end: it gets no more than it needs.
func (l *Ledger) Leaving(name string) {
	if h := l.holders[name]; h != nil {
		h.leaving = true
	}
}

// Goodbye says that an activator has nothing in flight and has ended: its leases are free.
func (l *Ledger) Goodbye(name string) { delete(l.holders, name) }

// Disconnect says that an activator's connection broke; it has a TTL to come back.
func (l *Ledger) Disconnect(now time.Time, name string) {
	if h := l.holders[name]; h != nil && h.connected {
		h.connected, h.expires = false, now.Add(l.cfg.TTL)
	}
}

// Size is how many pods there are for how many activators: what a step costs grows with it.
func (l *Ledger) Size() int { return len(l.pods) * len(l.holders) }

// Bounds returns the most that each activator can have in flight in a pod, for tests and for people.
func (l *Ledger) Bounds(uid string) map[string]int {
	out := map[string]int{}
	for name, h := range l.holders {
		if n := h.bound(uid); n > 0 {
			out[name] = n
		}
	}
	return out
}

// Settled says whether every activator is connected, and has acknowledged exactly what it should have: nothing is on its
// way. For tests and for people.
func (l *Ledger) Settled() bool {
	for _, h := range l.holders {
		if !h.connected || h.waiting || h.resend {
			return false
		}
		for uid := range l.pods {
			if h.acked.at(uid) != h.target[uid] {
				return false
			}
		}
	}
	return true
}

func (a Ack) bounds() bounds { return bounds{a.Unlimited, maps.Clone(a.Bounds)} }

func widest(a, b bounds) bounds {
	out := bounds{unlimited: a.unlimited || b.unlimited, pods: maps.Clone(a.pods)}
	if out.pods == nil {
		out.pods = map[string]int{}
	}
	for uid, n := range b.pods {
		out.pods[uid] = max(out.pods[uid], n)
	}
	return out
}

func narrowest(a, b bounds) bounds {
	if a.unlimited {
		return b
	}
	out := bounds{pods: map[string]int{}}
	for uid, n := range a.pods {
		out.pods[uid] = min(n, b.pods[uid])
	}
	return out
}

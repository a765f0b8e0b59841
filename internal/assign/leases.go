package assign

import (
	"context"
	"time"

	"github.com/rousehq/rouse/control/slots"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// settleTurns is for how many turns nothing must have moved before an idle activator is given a spare slot.
const settleTurns = 20

// A decision about very many pods takes milliseconds, under the server's lock, and each report of load asks for one. The
// next one about the same revision is so many times later as the last one took, so that the others have the rest of the
// time. It is never later by more than its size explains: a small revision's decision takes long when the machine was busy
// with something else, and nothing is gained by waiting then.
const (
	stepShare = 4
	pauseEach = 5 * time.Microsecond // for each pod and activator
	maxPause  = 100 * time.Millisecond
)

// leases is the account of a revision's slots, nil until it has a limit.
type leases struct {
	*slots.Ledger
	rest time.Time // no decision before
}

// pauseAfter is how long no decision follows one that took so long, about an account of that size.
func pauseAfter(took time.Duration, size int) time.Duration {
	return min(stepShare*took, time.Duration(size)*pauseEach, maxPause)
}

// limit brings the account of a revision in line with its settings. The caller holds the lock.
func (s *Server) limit(e *entry) {
	n := e.Settings.ContainerConcurrency
	if e.leases.Ledger == nil {
		if n == 0 {
			return
		}
		s.relearn(e)
		return
	}
	e.leases.Limit(n)
	s.repod(e)
}

// relearn opens a new account: others may hold leases of a former owner, and will say so. The caller holds the lock.
func (s *Server) relearn(e *entry) {
	if e.leases.Ledger == nil && e.Settings.ContainerConcurrency == 0 {
		return
	}
	e.leases.Ledger = slots.New(slots.Config{TTL: s.cfg.LeaseTTL, Turn: s.cfg.Turn, Settle: settleTurns * s.cfg.Turn})
	e.leases.Limit(e.Settings.ContainerConcurrency)
	s.repod(e)
}

// repod tells the account which pods there are. The caller holds the lock.
func (s *Server) repod(e *entry) {
	if e.leases.Ledger == nil {
		return
	}
	var ready []string
	for i := range e.endpoints.Endpoints {
		if p := &e.endpoints.Endpoints[i]; e.Settings.takes(p.State) {
			ready = append(ready, p.Pod.UID)
		}
	}
	e.leases.Pods(time.Now(), ready)
	s.step(e)
}

// takes says whether a pod may be used: one that activators may ask themselves before its source calls it ready.
func (s *Settings) takes(state endpoint.State) bool {
	return state == endpoint.Ready || state == endpoint.Starting && s.Dispatching.Probe.By != ""
}

// step has the account looked at soon: many changes at once are one decision. The caller holds the lock.
func (s *Server) step(e *entry) {
	s.due[e] = e.leases.rest
	select {
	case s.alarm <- struct{}{}:
	default:
	}
}

// Run moves slots between activators until ctx ends, and returns nil.
func (s *Server) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.alarm:
		case <-timer.C:
		}
		if next := s.decide(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// decide steps every account that is due and returns when the next one is.
func (s *Server) decide(now time.Time) (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e, at := range s.due {
		if at.After(now) {
			next = sooner(next, at)
			continue
		}
		delete(s.due, e)
		if again := s.decideOn(e, now); !again.IsZero() {
			s.due[e] = again
			next = sooner(next, again)
		}
	}
	return next
}

// decideOn steps one account and returns when to do so again, zero for never. The caller holds the lock.
func (s *Server) decideOn(e *entry, now time.Time) time.Time {
	began := time.Now()
	grants, again := e.leases.Step(now)
	for _, g := range grants {
		s.grant(e, g)
	}
	ended := time.Now()
	e.leases.rest = ended.Add(pauseAfter(ended.Sub(began), e.leases.Size()))
	if !again.IsZero() && again.Before(e.leases.rest) {
		again = e.leases.rest
	}
	return again
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// grant makes a grant unsent at the stream of its activator. One whose stream has ended meanwhile does not get it; the
// account hears of that.
func (s *Server) grant(e *entry, g slots.Grant) {
	if a := s.activators[g.Activator]; a != nil && a.stream != nil {
		a.stream.grant(e, g)
	}
}

// acknowledged takes what an activator says of its leases. The first word on a stream, and of each new owner, takes it
// in. The caller holds the lock.
func (st *session) acknowledged(w *wireAck) {
	e := st.s.revs[w.ID.id()]
	if e == nil || e.leases.Ledger == nil {
		return
	}
	ack := slots.Ack{Seq: w.Seq, Unlimited: w.Unlimited, Bounds: sane(w.Bounds)}
	k := st.known[e.ID]
	switch {
	case k == nil || w.Epoch != k.epoch: // it has not seen that we are the owner
		return
	case k.joined:
		e.leases.Ack(time.Now(), st.act.Instance, ack)
	default:
		k.joined = true
		e.leases.Join(time.Now(), st.act.Instance, ack)
		if st.act.Draining {
			e.leases.Leaving(st.act.Instance)
		}
	}
	st.s.step(e)
}

// maxCount is more than any activator has of anything; sums of many stay far from overflow.
const maxCount = 1 << 24

// sane leaves out what is no count of requests: the accounts add them up.
func sane(counts map[string]int) map[string]int {
	for uid, n := range counts {
		if n <= 0 {
			delete(counts, uid)
		} else {
			counts[uid] = min(n, maxCount)
		}
	}
	return counts
}

// loaded takes an activator's load. The caller holds the lock.
func (st *session) loaded(w *wireLoad) {
	e := st.s.revs[w.ID.id()]
	if e == nil {
		return
	}
	w.Parked, w.Use = min(max(w.Parked, 0), maxCount), sane(w.Use)
	if k := st.known[e.ID]; k != nil {
		k.load = *w
	}
	if e.leases.Ledger != nil {
		e.leases.Load(time.Now(), st.act.Instance, slots.Load{Parked: w.Parked, Use: w.Use, Blocked: setOf(w.Blocked)})
		st.s.step(e)
	}
}

func setOf(uids []string) map[string]bool {
	if len(uids) == 0 {
		return nil
	}
	set := make(map[string]bool, len(uids))
	for _, uid := range uids {
		set[uid] = true
	}
	return set
}

// every calls f for each account. The caller holds the lock.
func (s *Server) every(f func(*slots.Ledger)) {
	for _, e := range s.revs {
		if e.leases.Ledger != nil {
			f(e.leases.Ledger)
			s.step(e)
		}
	}
}

// Settled says whether the slots of a revision are where they should be, and none is on its way: for people and tests.
func (s *Server) Settled(id identity.Revision) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.revs[id]
	return e != nil && e.leases.Ledger != nil && e.leases.Settled()
}

// Leases returns how many requests each activator may have in flight in a pod of the revision at most, by instance: for
// people and tests.
func (s *Server) Leases(id identity.Revision, podUID string) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.revs[id]
	if e == nil || e.leases.Ledger == nil {
		return nil
	}
	return e.leases.Bounds(podUID)
}

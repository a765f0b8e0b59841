package assign

import (
	"context"

	"github.com/rousehq/rouse/internal/identity"
)

// AwaitIdle blocks until no activator has anything in flight in a pod whose endpoint was published as draining, or ctx is
// done. An activator that is away counts as busy until its leases run out.
func (s *Server) AwaitIdle(ctx context.Context, id identity.Revision, podUID string) {
	for {
		s.mu.Lock()
		idle, stirred := s.idle(id, podUID), s.stirred
		s.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-stirred:
		case <-ctx.Done():
			return
		}
	}
}

// idle reports whether every activator has said so. The caller holds the lock.
func (s *Server) idle(id identity.Revision, podUID string) bool {
	if s.revs[id] == nil {
		return true
	}
	for _, a := range s.activators {
		if a.stream == nil {
			return false
		}
		if k := a.stream.known[id]; k == nil || !k.idle[podUID] {
			return false
		}
	}
	return true
}

// stir has those who wait look again. The caller holds the lock.
func (s *Server) stir() {
	close(s.stirred)
	s.stirred = make(chan struct{})
}

// idled takes an activator's word. The caller holds the server's lock.
func (st *session) idled(w *wireIdle) {
	k := st.known[w.ID.id()]
	if k == nil {
		return
	}
	if k.idle == nil {
		k.idle = map[string]bool{}
	}
	for _, uid := range w.Pods {
		k.idle[uid] = true
	}
	st.s.stir()
}

// Load returns what all activators together have parked and in flight for a revision, as they said last.
func (s *Server) Load(id identity.Revision) (parked, inFlight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		k := st.known[id]
		if k == nil {
			continue
		}
		parked += k.load.Parked
		for _, n := range k.load.Use {
			inFlight += n
		}
	}
	return parked, inFlight
}

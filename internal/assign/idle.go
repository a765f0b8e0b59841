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
		if k := st.known[id]; k != nil {
			parked += k.load.Parked
			inFlight += k.load.inFlight()
		}
	}
	return parked, inFlight
}

// Unheard returns what activators have parked and in flight for a revision, as they said last: those for whose name heard
// says no. It is called under the server's lock. connected is false while there is no activator. Only the owner of the
// revision's shard is told.
func (s *Server) Unheard(id identity.Revision, heard func(activator string) bool) (requests int, connected bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.activators {
		if a.stream == nil {
			continue
		}
		connected = true
		k := a.stream.known[id]
		if k != nil && !heard(a.Name) {
			requests += k.load.Parked + k.load.inFlight()
		}
	}
	return requests, connected
}

package assign

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// ServerConfig says how a [Server] serves. The zero value of a field means its default.
type ServerConfig struct {
	// Shards is how many shards all control instances have together. Default 1.
	Shards int
	// Authorize judges a bearer token, which is empty when none was sent. Nil accepts everybody. It must be quick.
	Authorize func(ctx context.Context, token string) bool
	// MaxActivators bounds the streams at a time; more get 503. Default 1000.
	MaxActivators int
	// LeaseTTL is how long the leases of an activator whose stream broke are kept for it: long enough to reconnect. Also
	// how long a new owner waits for holders of leases in pods that were there before it. Default 3 s.
	LeaseTTL time.Duration
	// Turn is how long an activator that needs its slots keeps them at least while others have none. Default 50 ms.
	Turn time.Duration
	// Idle is how long a stream may be without a frame and without a ping. Default 10 s.
	Idle time.Duration
	// Changed, when not nil, is called after Activators would answer differently. It must return soon, may be called by
	// several goroutines at once, and may call the server.
	Changed func()
	// Log gets a line per stream that comes and goes; nil for none.
	Log *slog.Logger
}

// Default returns the configuration with every zero field replaced by its default.
func (c ServerConfig) Default() ServerConfig {
	c.Shards = cmp.Or(c.Shards, 1)
	c.MaxActivators = cmp.Or(c.MaxActivators, 1000)
	c.LeaseTTL = cmp.Or(c.LeaseTTL, 3*time.Second)
	c.Turn = cmp.Or(c.Turn, 50*time.Millisecond)
	c.Idle = cmp.Or(c.Idle, 10*time.Second)
	return c
}

// Validate names every field that is out of range.
func (c ServerConfig) Validate() error {
	var errs []error
	for _, f := range []struct {
		name string
		n    int64
	}{
		{"Shards", int64(c.Shards)}, {"MaxActivators", int64(c.MaxActivators)}, {"LeaseTTL", int64(c.LeaseTTL)},
		{"Turn", int64(c.Turn)}, {"Idle", int64(c.Idle)},
	} {
		if f.n <= 0 {
			errs = append(errs, errors.New("assign: "+f.name+" must be positive"))
		}
	}
	return errors.Join(errs...)
}

// Server is control's side: it holds what activators should know and tells them. Make one with [NewServer], fill it,
// and then declare what it owns with [Server.Own]: before that activators are told nothing. It is an http.Handler for the
// assignment listener.
type Server struct {
	cfg ServerConfig

	mu         sync.Mutex // guards all below; only non-blocking work is done under it
	revs       map[identity.Revision]*entry
	routes     map[string]*Routes
	owned      map[int]uint64        // epoch by shard
	activators map[string]*activator // by instance
	due        map[*entry]time.Time  // ledgers that want to be looked at
	alarm      chan struct{}         // capacity 1: due has something earlier
	streams    map[*session]struct{} // every connection
	stirred    chan struct{}         // closed and made anew when AwaitIdle should look again
	closed     bool
	wg         sync.WaitGroup // streams; Add is called with mu held and closed false
}

// entry is one revision.
type entry struct {
	Revision
	endpoints endpoint.Snapshot
	failure   string
	leases    leases
}

// activator is one that is connected, or was until lately.
type activator struct {
	ActivatorState
	stream *session                // nil while there is none
	cut    context.CancelCauseFunc // ends it
	expiry *time.Timer             // forgets one that does not come back
}

// NewServer checks cfg and returns a server that knows nothing and owns nothing.
func NewServer(cfg ServerConfig) (*Server, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Server{
		cfg: cfg, revs: map[identity.Revision]*entry{}, routes: map[string]*Routes{}, owned: map[int]uint64{},
		activators: map[string]*activator{}, due: map[*entry]time.Time{}, alarm: make(chan struct{}, 1),
		streams: map[*session]struct{}{}, stirred: make(chan struct{}),
	}, nil
}

// PutRevision adds a revision, or changes one that is there.
func (s *Server) PutRevision(r Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.revs[r.ID]
	if e == nil {
		e = &entry{endpoints: endpoint.Snapshot{Revision: r.ID}}
		s.revs[r.ID] = e
	}
	e.Revision = r
	s.limit(e)
	s.mark(e, partConfig)
}

// SetPorts changes the listening ports of a revision that was put.
func (s *Server) SetPorts(id identity.Revision, ports ...uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.revs[id]; e != nil && !slices.Equal(e.Ports, ports) {
		e.Ports = slices.Clone(ports)
		s.mark(e, partConfig)
	}
}

// RemoveRevision removes a revision everywhere: parked requests are refused, those in flight finish.
func (s *Server) RemoveRevision(id identity.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.revs[id]
	if e == nil {
		return
	}
	delete(s.revs, id)
	delete(s.due, e)
	for stream := range s.streams {
		stream.remove(e)
	}
}

// Endpoints takes over a change of a revision's endpoints. The revision must have been put; updates of one revision must
// come in order. Activators are not told of pods that are held: an older one would ask them. It fits
// [endpoint.Book.Subscribe].
func (s *Server) Endpoints(u endpoint.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.revs[u.Snapshot.Revision]
	if e == nil {
		return
	}
	now := u.Snapshot
	now.Endpoints = slices.DeleteFunc(slices.Clone(now.Endpoints), func(p endpoint.Endpoint) bool { return p.Held })
	if e.endpoints.Revision == now.Revision && slices.Equal(e.endpoints.Endpoints, now.Endpoints) {
		return
	}
	e.endpoints = now
	s.mark(e, partEndpoints)
	s.repod(e)
}

// Fail says that a revision's pods cannot start, and why; an empty reason takes it back.
func (s *Server) Fail(id identity.Revision, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.revs[id]; e != nil && e.failure != reason {
		e.failure = reason
		s.mark(e, partFailure)
	}
}

// SetRoutes adds routes and answers under a name, or replaces what has that name. The caller has made sure, with
// [route.Build], that all of them together make a table: an activator keeps its last good table otherwise.
func (s *Server) SetRoutes(r Routes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes[r.Name] = &r
	for stream := range s.streams {
		stream.reroute(r.Shard, r.Name)
	}
}

// RemoveRoutes removes the routes and answers of a name.
func (s *Server) RemoveRoutes(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.routes[name]
	if r == nil {
		return
	}
	delete(s.routes, name)
	for stream := range s.streams {
		stream.reroute(r.Shard, name)
	}
}

// Own declares that this instance owns a shard from now on, and that everything of it has been put: activators are told,
// and drop what older owners of the shard have told them and this one does not. epoch must be higher than that of any
// owner before, over restarts too: the number of the lease's transitions, or the time.
func (s *Server) Own(shard int, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned[shard] = epoch
	for _, e := range s.revs {
		if e.Shard == shard {
			s.relearn(e)
		}
	}
	for stream := range s.streams {
		stream.begin(shard)
	}
}

// Disown declares that another instance owns the shard, or soon will: activators are told, and nothing more is said about
// it.
func (s *Server) Disown(shard int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch, owned := s.owned[shard]
	if !owned {
		return
	}
	delete(s.owned, shard)
	for stream := range s.streams {
		stream.disown(shard, epoch)
	}
}

// Activators returns every activator that is connected or holds leases, in order of name.
func (s *Server) Activators() []ActivatorState {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]ActivatorState, 0, len(s.activators))
	for _, a := range s.activators {
		state := a.ActivatorState
		state.Ports = make(map[uint16]string, len(a.Ports))
		for port, reason := range a.Ports {
			state.Ports[port] = reason
		}
		all = append(all, state)
	}
	slices.SortFunc(all, func(a, b ActivatorState) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Instance, b.Instance))
	})
	return all
}

// mark makes a part of a revision unsent everywhere. The caller holds the lock.
func (s *Server) mark(e *entry, p part) {
	for stream := range s.streams {
		stream.mark(e, p)
	}
}

// ServeHTTP accepts a stream and serves it until it ends. Kubelet probes are answered with 200.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.UserAgent(), "kube-probe/") || r.Header.Get("K-Kubelet-Probe") != "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	if s.cfg.Authorize != nil {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !s.cfg.Authorize(r.Context(), token) {
			http.Error(w, "the assignment stream needs a valid bearer token", http.StatusUnauthorized)
			return
		}
	}
	if !s.enter() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many activators, or shutting down", http.StatusServiceUnavailable)
		return
	}
	defer s.wg.Done()
	s.stream(w, r)
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.streams) >= s.cfg.MaxActivators {
		return false
	}
	s.wg.Add(1)
	return true
}

func (s *Server) changed() {
	if s.cfg.Changed != nil {
		s.cfg.Changed()
	}
}

package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of a [Config].
const (
	defaultMaxHead     = 64 << 10
	defaultMaxTarget   = 16 << 10
	defaultHeadTimeout = 60 * time.Second
	defaultReplay      = 16 << 10
)

// Server serves client connections. Whoever made it shuts it down.
type Server struct {
	cfg     Config
	handler Handler
	bufs    *buffers
	epoch   time.Time
	watch   *watch
	h2      h2Server

	draining atomic.Bool
	closing  atomic.Bool // Shutdown was called

	mu         sync.Mutex
	conns      map[*conn]struct{}        // guarded by mu
	listeners  map[net.Listener]struct{} // guarded by mu
	stopping   bool                      // guarded by mu
	lastAccept time.Time                 // guarded by mu; of those that have ended
	lastCame   int64                     // guarded by mu; likewise, see conn.came
	wg         sync.WaitGroup            // one per connection goroutine
}

// NewServer returns a server that answers with h. It fails when a limit in cfg is negative.
func NewServer(cfg Config, h Handler) (*Server, error) {
	if h == nil {
		return nil, errors.New("forward: handler is nil")
	}
	if cfg.MaxHeadBytes < 0 || cfg.MaxTargetBytes < 0 || cfg.ReplayBytes < 0 {
		return nil, errors.New("forward: MaxHeadBytes, MaxTargetBytes and ReplayBytes cannot be negative")
	}
	if cfg.HeadTimeout < 0 || cfg.IdleTimeout < 0 {
		return nil, errors.New("forward: HeadTimeout and IdleTimeout cannot be negative")
	}
	orDefault(&cfg.MaxHeadBytes, defaultMaxHead)
	orDefault(&cfg.MaxTargetBytes, defaultMaxTarget)
	orDefault(&cfg.ReplayBytes, defaultReplay)
	if cfg.HeadTimeout == 0 {
		cfg.HeadTimeout = defaultHeadTimeout
	}
	s := &Server{
		cfg: cfg, handler: h, bufs: &buffers{}, epoch: time.Now(),
		conns: make(map[*conn]struct{}), listeners: make(map[net.Listener]struct{}),
	}
	s.watch = newWatch()
	return s, nil
}

func orDefault(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// now is the time since the server was made, in nanoseconds.
func (s *Server) now() int64 { return int64(time.Since(s.epoch)) }

// since is t as the nanoseconds since the server was made, at least 1.
func (s *Server) since(t time.Time) int64 { return max(1, int64(t.Sub(s.epoch))) }

// Serve accepts connections until ctx ends, and then closes ln and returns nil; connections go on. It returns an
// error when the listener fails for good. Several listeners may be served at once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if !s.addListener(ln) {
		ln.Close()
		return nil
	}
	defer s.removeListener(ln)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	pause := time.Duration(0)
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.start(c)
		case ctx.Err() != nil || s.isStopping():
			return nil
		case !temporary(err):
			ln.Close()
			return err
		default: // out of descriptors: some will be closed
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if !sleep(ctx, pause) {
				return nil
			}
		}
	}
}

// panicked tells of a bug: where in a request's handling it is, the operator's logger says.
func panicked(v any) {
	slog.Default().Error("a request's handler panicked: its connection ends, others go on; please report this", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.listeners[ln] = struct{}{}
	}
	return !s.stopping
}

func (s *Server) removeListener(ln net.Listener) {
	s.mu.Lock()
	delete(s.listeners, ln)
	s.mu.Unlock()
	ln.Close()
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// start gives an accepted connection its goroutine.
func (s *Server) start(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	go c.run()
}

// Drain makes every response from now on the last one of its connection: HTTP/1 responses carry Connection: close,
// HTTP/2 connections get GOAWAY. Listeners go on accepting, and idle connections are not cut early.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.drainH2()
}

// Resume takes Drain back: connections that have not been told to end go on. The caller sees to it that it does not meet
// a Shutdown.
func (s *Server) Resume() {
	s.draining.Store(false)
	s.h2.draining.Store(false)
}

// Shutdown closes listeners and idle connections and waits for active requests and tunnels. When ctx ends it cuts
// what is left and returns ctx.Err(). After it no goroutine of the server is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.closing.Store(true)
	s.mu.Lock()
	s.stopping = true
	for ln := range s.listeners {
		ln.Close()
	}
	s.mu.Unlock()
	for _, c := range s.open() {
		c.closeIdle()
	}
	err := s.shutdownH2(ctx)
	if werr := s.wait(ctx); werr != nil {
		err = werr
	}
	s.watch.close()
	return err
}

// open returns the connections of this moment.
func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// wait waits for the connection goroutines, and cuts them when ctx ends.
func (s *Server) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range s.open() {
		c.cut()
	}
	<-done
	return ctx.Err()
}

// Stats returns the server's figures at this moment. It looks at every connection: call it per scrape, not per
// request.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	st := ServerStats{Open: len(s.conns), LastAccept: s.lastAccept}
	came := s.lastCame
	for c := range s.conns {
		st.LastAccept = c.latest(st.LastAccept)
		switch phase(c.phase.Load()) {
		case phaseActive:
			st.Active++
		case phaseTunnel:
			st.Tunnels++
		}
		came = max(came, c.came.Load()) // after the phase: a request that ends meanwhile is in the one or in the other
	}
	s.mu.Unlock()
	s.statsH2(&st)
	if came = max(came, s.h2.came.Load()); came > 0 {
		st.LastRequest = s.epoch.Add(time.Duration(came))
	}
	return st
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.lastAccept = c.latest(s.lastAccept)
	s.lastCame = max(s.lastCame, c.came.Load())
	s.mu.Unlock()
	s.wg.Done()
}

// latest is t, or when the connection was accepted if that was later and it is no probe's.
func (c *conn) latest(t time.Time) time.Time {
	if c.probe.Load() || t.After(c.accepted) {
		return t
	}
	return c.accepted
}

// handshake completes TLS within the head timeout and reports the protocol that was chosen.
func handshake(c *tls.Conn, limit time.Duration) (h2 bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return false, err
	}
	return c.ConnectionState().NegotiatedProtocol == "h2", nil
}

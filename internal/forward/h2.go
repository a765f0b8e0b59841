package forward

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/rousehq/rouse/internal/fault"
)

// maxStreams is how many streams an HTTP/2 client may have open on one connection.
const maxStreams = 250

// uploadWindow is how many bytes of a request's body are taken before the body is read: what a parked upload costs, and what
// an upload moves in a round trip. 64 KiB, which HTTP/2 begins with, would halve both; below that net/http ends connections
// on which clients did not wait for its settings. A connection has room for all its streams: if parked uploads used up what one
// that is served needs, its pod's slot would be held until their deadline, and nobody would get on.
const uploadWindow = 128 << 10

// h2Server is the HTTP/2 half of a [Server]: net/http serves the connections that the core hands over. The zero
// value is ready.
type h2Server struct {
	draining atomic.Bool
	active   atomic.Int64 // streams
	came     atomic.Int64 // when the newest stream that has ended came, but for probes: as conn.came

	exchanges sync.Pool // of *h2Exchange

	mu     sync.Mutex // guards the following
	ended  *sync.Cond // on mu: conns shrank, a stream ended or a generation stopped; set with the first connection
	conns  map[net.Conn]struct{}
	gen    *h2Generation // nil until the first connection, and after a drain
	gens   int           // generations whose Serve has not returned
	closed bool
}

// h2Generation is one http.Server and the listener that it is fed through. Draining ends a generation, which makes
// its connections say GOAWAY; connections that come later get a new one, and say it with their first response.
type h2Generation struct {
	srv  *http.Server
	feed *feed
}

// serveH2 takes over a client connection that speaks HTTP/2: in clear text with the bytes that were read so far, or
// a *tls.Conn whose handshake chose h2 (prefix empty). It owns c from now on, and returns at once. prefix is the
// callee's to keep.
func (s *Server) serveH2(c net.Conn, prefix []byte) {
	if len(prefix) > 0 {
		c = &prefixConn{Conn: c, prefix: prefix}
	}
	h := &s.h2
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		c.Close()
		return
	}
	if h.ended == nil {
		h.ended, h.conns = sync.NewCond(&h.mu), make(map[net.Conn]struct{})
	}
	h.conns[c] = struct{}{}
	if h.gen == nil {
		h.gen = s.newGeneration()
		h.gens++
		go s.runGeneration(h.gen)
	}
	gen := h.gen
	h.mu.Unlock()
	if !gen.feed.give(c) {
		s.connStateH2(gen, c, http.StateClosed)
	}
}

func (s *Server) newGeneration() *h2Generation {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	gen := &h2Generation{feed: newFeed()}
	gen.srv = &http.Server{
		Handler:           http.HandlerFunc(s.serveStream),
		Protocols:         protocols,
		ReadHeaderTimeout: s.cfg.HeadTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    s.cfg.MaxHeadBytes,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ConnState:         func(c net.Conn, state http.ConnState) { s.connStateH2(gen, c, state) },
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			SendPingTimeout:               pingAfter,
			MaxReadFrameSize:              uploadWindow / 2, // a frame must fit a stream's window
			MaxReceiveBufferPerStream:     uploadWindow,
			MaxReceiveBufferPerConnection: maxStreams * uploadWindow,
		},
	}
	return gen
}

func (s *Server) runGeneration(gen *h2Generation) {
	_ = gen.srv.Serve(gen.feed) // ends by Shutdown or Close only
	gen.feed.stop()
	s.h2.mu.Lock()
	s.h2.gens--
	s.h2.ended.Broadcast()
	s.h2.mu.Unlock()
}

// connStateH2 forgets connections that have ended, and ends those that came to life while Shutdown was asking the
// others to go.
func (s *Server) connStateH2(gen *h2Generation, c net.Conn, state http.ConnState) {
	s.h2.mu.Lock()
	late := s.h2.closed && state == http.StateActive
	if state == http.StateClosed {
		delete(s.h2.conns, c)
		s.h2.ended.Broadcast()
	}
	s.h2.mu.Unlock()
	if late {
		gen.goAway()
	}
}

// goAway makes the generation's connections say GOAWAY, and ends its Serve. It waits for no stream.
func (gen *h2Generation) goAway() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = gen.srv.Shutdown(over)
}

// serveStream serves one HTTP/2 request.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request) {
	s.h2.active.Add(1)
	defer s.streamEnded()
	x := openStream(s, w, r)
	defer x.close()
	defer func() { // net/http would recover it, and say nothing
		if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // it is this value that is thrown
			panicked(v)
			panic(http.ErrAbortHandler)
		} else if v != nil {
			panic(v)
		}
	}()
	switch {
	case r.Method == http.MethodConnect:
		x.Fail(fault.BadRequest, "CONNECT is not served", 0)
	case !downgradable(r):
		x.Fail(fault.BadRequest, "", 0)
	case len(r.RequestURI) > s.cfg.MaxTargetBytes:
		x.Fail(fault.TargetTooLong, "", 0)
	default:
		s.handler.ServeExchange(x)
	}
	if !x.answered {
		x.Fail(fault.Internal, "", 0)
	}
	if x.aborted {
		panic(http.ErrAbortHandler)
	}
}

// downgradable reports that what HTTP/2 carries in fields of its own can stand in an HTTP/1 request line and Host.
// net/http checks the other headers as it writes them.
func downgradable(r *http.Request) bool {
	target := []byte(r.RequestURI)
	return isToken([]byte(r.Method)) && validTarget([]byte(r.Method), target) && authority(target) == nil &&
		validHost([]byte(r.Host))
}

// cameAt notes when a stream that ends came.
func (h *h2Server) cameAt(n int64) {
	for old := h.came.Load(); n > old && !h.came.CompareAndSwap(old, n); old = h.came.Load() {
	}
}

func (s *Server) streamEnded() {
	s.h2.mu.Lock()
	s.h2.active.Add(-1)
	s.h2.ended.Broadcast()
	s.h2.mu.Unlock()
}

// drainH2 makes each HTTP/2 connection, present and future, say GOAWAY.
func (s *Server) drainH2() {
	h := &s.h2
	h.mu.Lock()
	h.draining.Store(true)
	gen := h.gen
	h.gen = nil
	h.mu.Unlock()
	if gen != nil {
		gen.goAway()
	}
}

// shutdownH2 closes idle HTTP/2 connections and waits for the streams and goroutines of the others; when ctx ends it
// cuts them, waits for their goroutines and returns ctx.Err().
func (s *Server) shutdownH2(ctx context.Context) error {
	h := &s.h2
	h.mu.Lock()
	h.closed = true
	none := h.ended == nil
	h.mu.Unlock()
	s.drainH2()
	if none {
		return nil
	}
	stop := context.AfterFunc(ctx, s.cutH2)
	defer stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	cut := false
	for len(h.conns)+h.gens > 0 || h.active.Load() > 0 {
		cut = cut || ctx.Err() != nil
		h.ended.Wait()
	}
	if cut || ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}

// cutH2 closes every connection, which ends the streams' contexts.
func (s *Server) cutH2() {
	s.h2.mu.Lock()
	defer s.h2.mu.Unlock()
	for c := range s.h2.conns {
		c.Close()
	}
	s.h2.ended.Broadcast()
}

// statsH2 adds the HTTP/2 connections, streams and tunnels to st.
func (s *Server) statsH2(st *ServerStats) {
	s.h2.mu.Lock()
	st.Open += len(s.h2.conns)
	s.h2.mu.Unlock()
	st.Active += int(s.h2.active.Load())
}

// feed is a listener whose connections are given to it.
type feed struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newFeed() *feed { return &feed{conns: make(chan net.Conn), done: make(chan struct{})} }

// give hands c to Accept, or closes it and reports false when the listener is closed. It does not block for longer
// than Serve's loop takes to come round.
func (f *feed) give(c net.Conn) bool {
	select {
	case f.conns <- c:
		return true
	case <-f.done:
		c.Close()
		return false
	}
}

// Accept implements [net.Listener].
func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

func (f *feed) stop() { f.once.Do(func() { close(f.done) }) }

// Close implements [net.Listener].
func (f *feed) Close() error {
	f.stop()
	return nil
}

// Addr implements [net.Listener].
func (f *feed) Addr() net.Addr { return &net.TCPAddr{} }

// prefixConn gives back what was read from a connection before it was handed over.
type prefixConn struct {
	net.Conn
	prefix []byte
}

func (c *prefixConn) Read(p []byte) (int, error) {
	if len(c.prefix) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.prefix)
	c.prefix = c.prefix[n:]
	return n, nil
}

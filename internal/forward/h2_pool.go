package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

// continueTimeout is how long a pod may leave a request with "Expect: 100-continue" unanswered before the body is
// sent nevertheless. Clients themselves commonly wait for one second.
const continueTimeout = 5 * time.Second

// pingAfter is how long an HTTP/2 connection may be silent before it is asked whether it is alive: a peer whose node
// died closes nothing.
const pingAfter = 30 * time.Second

// streamWindow is how many bytes of a pod's answer on HTTP/2 may be under way unread. It bounds the memory of a slow stream,
// and 128 KiB still carry 250 MB/s at a round trip of half a millisecond.
const streamWindow = 128 << 10

// h2Pool is the net/http half of a [Pool]: it owns the connections that net/http speaks on. The zero value is ready.
type h2Pool struct {
	once      sync.Once
	transport *http.Transport // makes the connections; it is asked for nothing else
	maxIdle   int             // unused HTTP/1 connections
	maxAge    time.Duration   // of an unused HTTP/1 connection
	buffers   sync.Pool       // of *[copyBufferBytes]byte

	mu      sync.Mutex  // guards the following
	shared  []*httpConn // HTTP/2 connections, newest last
	idle    []*httpConn // unused HTTP/1 connections, newest last
	dialing *dialing    // nil when nobody opens a connection that others wait for
	alone   bool        // the newest connection was HTTP/1: each request opens its own
	closed  bool

	upgradeOnce sync.Once
	upgrade     *Pool
}

// copyBufferBytes is the size of the buffers that net/http's bodies are copied with.
const copyBufferBytes = 32 << 10

func (h *h2Pool) buffer() *[copyBufferBytes]byte {
	if b, ok := h.buffers.Get().(*[copyBufferBytes]byte); ok {
		return b
	}
	return new([copyBufferBytes]byte)
}

// newTransport returns what makes net/http's connections out of those that [Pool.open] has dialled. Its own round trips
// are not used: they send a request a second time after errors that leave open whether the pod has seen the first.
func (p *Pool) newTransport() *http.Transport {
	dialled := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return ctx.Value(dialledKey{}).(net.Conn), nil
	}
	t := &http.Transport{
		DialContext:           dialled,
		DialTLSContext:        dialled,
		DisableCompression:    true,
		IdleConnTimeout:       p.cfg.IdleTimeout,
		ExpectContinueTimeout: continueTimeout,
		ReadBufferSize:        copyBufferBytes / 4,
		Protocols:             new(http.Protocols),
		HTTP2:                 &http.HTTP2Config{MaxReceiveBufferPerStream: streamWindow, SendPingTimeout: pingAfter},
	}
	switch p.cfg.Protocol {
	case endpoint.H2C:
		t.Protocols.SetUnencryptedHTTP2(true)
	case endpoint.TLS:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
	default:
		t.Protocols.SetHTTP1(true)
	}
	return t
}

// closeH2 closes the pool's net/http connections.
func (p *Pool) closeH2() {
	p.h2.close()
	if !p.h1() {
		p.upgrades().Close()
	}
}

// upgrades returns the pool for requests that ask to leave HTTP: they need an HTTP/1.1 connection of their own, which
// the pod of a pool that multiplexes is asked for at the same address.
func (p *Pool) upgrades() *Pool {
	p.h2.upgradeOnce.Do(func() {
		cfg := p.cfg
		cfg.Protocol = endpoint.H1
		if p.cfg.Protocol == endpoint.TLS {
			cfg.Dial = p.dialTLS
		}
		p.h2.upgrade = NewPool(cfg)
	})
	return p.h2.upgrade
}

// dialTLS opens an encrypted HTTP/1.1 connection.
func (p *Pool) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := p.cfg.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return p.encrypt(ctx, c, "http/1.1")
}

// encrypt makes c an encrypted connection that speaks one of protocols. It closes c on errors.
func (p *Pool) encrypt(ctx context.Context, c net.Conn, protocols ...string) (*tls.Conn, error) {
	cfg := &tls.Config{}
	if p.cfg.TLS != nil {
		cfg = p.cfg.TLS.Clone()
	}
	cfg.NextProtos = protocols
	if cfg.ServerName == "" {
		cfg.ServerName = p.cfg.Addr.Addr().String()
	}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

func (p *Pool) scheme() string {
	if p.cfg.Protocol == endpoint.TLS {
		return "https"
	}
	return "http"
}

// countingConn counts what was written, so that a request can be known not to have gone out, and notes how much of it
// the pod had received when its end came.
type countingConn struct {
	net.Conn
	raw     syscall.RawConn // nil when there is no usable descriptor
	written atomic.Int64
	acked   atomic.Int64 // 1 more than the bytes that the pod had acknowledged at its end; 0: no end came, or unknown
	closed  func()

	heard   atomic.Bool // something was read
	settled atomic.Bool // what was read first was also looked at: on HTTP/2 the pod's settings
	mu      sync.Mutex  // guards then
	then    func()      // called once when settled
}

// whenSettled has f called once when the connection has settled: a burst must not share an HTTP/2 connection before the pod
// has said how many streams it takes. What does not wait is called at once.
func (c *countingConn) whenSettled(wait bool, f func()) {
	c.mu.Lock()
	c.then = f
	c.mu.Unlock()
	if !wait || c.settled.Load() {
		c.settle()
	}
}

func (c *countingConn) settle() {
	c.settled.Store(true)
	c.mu.Lock()
	f := c.then
	c.then = nil
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// stale reports that an idle connection was closed by the pod, or has bytes that nobody asked for. net/http reads
// from it all the time, so this looks past the lock that reads take.
func (c *countingConn) stale() bool {
	if c.raw == nil {
		return false
	}
	var s sock
	err := c.raw.Control(func(fd uintptr) { s.tryPeek(fd) })
	return s.peeked || err != nil
}

func (c *countingConn) Read(p []byte) (int, error) {
	if c.heard.Load() && !c.settled.Load() {
		c.settle()
	}
	n, err := c.Conn.Read(p)
	c.heard.Store(true)
	if errors.Is(err, io.EOF) && c.raw != nil {
		s := sock{Conn: c.Conn, raw: c.raw}
		if acked, ok := s.acked(); ok {
			c.acked.Store(acked + 1)
		}
	}
	return n, err
}

// unseen reports that the pod closed this connection before it had received anything beyond the first n bytes: see
// [upConn.unseen].
func (c *countingConn) unseen(n int64) bool {
	acked := c.acked.Load()
	return acked > 0 && acked-1 <= n
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// Close implements [net.Conn]. net/http may hold locks of its own, so closed must call nothing of it.
func (c *countingConn) Close() error {
	c.settle()
	c.closed()
	return c.Conn.Close()
}

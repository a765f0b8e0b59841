package forward

import (
	"context"
	"crypto/tls"
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

// streamWindow is how many bytes of one HTTP/2 stream may be under way unread, in either direction. It bounds the
// memory of a slow stream, and 128 KiB still carry 250 MB/s at a round trip of half a millisecond.
const streamWindow = 128 << 10

// h2Pool is the net/http half of a [Pool]. The zero value is ready.
type h2Pool struct {
	once      sync.Once
	transport *http.Transport
	closed    atomic.Bool
	buffers   sync.Pool // of *[copyBufferBytes]byte

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

// transportH2 returns the pool's net/http transport.
func (p *Pool) transportH2() *http.Transport {
	p.h2.once.Do(func() { p.h2.transport = p.newTransport() })
	return p.h2.transport
}

func (p *Pool) newTransport() *http.Transport {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			u, err := p.dial(ctx, nil)
			if err != nil {
				return nil, err
			}
			return &countingConn{Conn: u.Conn, raw: u.raw}, nil
		},
		TLSClientConfig:       p.cfg.TLS,
		DisableCompression:    true,
		MaxIdleConns:          p.cfg.MaxIdle,
		MaxIdleConnsPerHost:   p.cfg.MaxIdle,
		IdleConnTimeout:       p.cfg.IdleTimeout,
		TLSHandshakeTimeout:   p.cfg.ConnectTimeout * 5,
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

// closeH2 closes the pool's net/http connections: idle ones now, others when their last stream has ended.
func (p *Pool) closeH2() {
	p.h2.closed.Store(true)
	p.transportH2().CloseIdleConnections()
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
	cfg := &tls.Config{}
	if p.cfg.TLS != nil {
		cfg = p.cfg.TLS.Clone()
	}
	cfg.NextProtos = []string{"http/1.1"}
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

// releaseH2 is called when a request has ended, so that a closed pool keeps no connection.
func (p *Pool) releaseH2() {
	if p.h2.closed.Load() {
		p.h2.transport.CloseIdleConnections()
	}
}

func (p *Pool) scheme() string {
	if p.cfg.Protocol == endpoint.TLS {
		return "https"
	}
	return "http"
}

// multiplexes reports whether the pod's connections are, or may be, HTTP/2.
func (p *Pool) multiplexes() bool { return p.cfg.Protocol != endpoint.H1 }

// repeats reports whether net/http would send the request a second time, though the pod may have seen the first.
func (p *Pool) repeats(o *outbound) bool {
	if p.cfg.Protocol == endpoint.H2C {
		return false
	}
	switch o.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, key := o.header["Idempotency-Key"]
	_, xkey := o.header["X-Idempotency-Key"]
	return key || xkey
}

// countingConn counts what was written, so that a request can be known not to have gone out.
type countingConn struct {
	net.Conn
	raw     syscall.RawConn // nil when there is no usable descriptor
	written atomic.Int64
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

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

func counting(c net.Conn) *countingConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	counted, _ := c.(*countingConn)
	return counted
}

func isHTTP2(c net.Conn, configured endpoint.Protocol) bool {
	if t, ok := c.(*tls.Conn); ok {
		return t.ConnectionState().NegotiatedProtocol == "h2"
	}
	return configured == endpoint.H2C
}

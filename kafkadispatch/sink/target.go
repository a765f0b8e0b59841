// Package sink sends events to an HTTP address: connections, deadlines and the rules of trying again.
//
// A [Target] keeps its connections on a stack, so that few stay warm when there is little to do; an [Exchange] holds on to
// its connection until Release. Each exchange runs on the caller's goroutine, and has one deadline over everything from
// the dial to the last byte of the answer, which may come up to an eighth, and a tenth of a second, late. A
// connection that the sink closed while it was idle is replaced once, silently, if not one byte of an answer came.
//
// It does not decide about retries ([Policy] says what they would be), bound how many exchanges run at once, or
// follow redirects. Request heads are written by hand and answers are read by fasthttp: BenchmarkExchange stands
// beside a fasthttp.HostClient that sends the same bytes.
//
// A Target is safe for concurrent use; an [Exchange] belongs to one goroutine.
package sink

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// MaxAnswer is how many bytes of an answer's body are read; a longer answer is an error.
const MaxAnswer = 4 << 20

// Config of a Target.
type Config struct {
	// URL is where to POST: http or https.
	URL string
	// TLS is used for https; nil means the system's roots.
	TLS *tls.Config
	// HTTP2 speaks HTTP/2 to the sink: by ALPN for https, with prior knowledge for http.
	HTTP2 bool
	// Timeout of one exchange; 0 means 600 s, Knative's default.
	Timeout time.Duration
	// Header lines are sent with each request, such as Kn-Namespace.
	Header [][2]string
	// Token returns a bearer token for each request; nil sends none.
	Token func(context.Context) (string, error)
	// Dial opens connections; nil dials TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// ErrToken says that no token could be had: nothing was sent, and trying again soon is of no use.
var ErrToken = errors.New("no token for the sink")

// ErrClosed says that the Target was closed.
var ErrClosed = errors.New("sink is closed")

// Target is one HTTP address. Make it with New and end it with Close.
type Target struct {
	cfg  Config
	addr string
	tls  *tls.Config
	head []byte // request line and the constant header lines
	h2   *http.Transport

	mu     sync.Mutex
	idle   []*conn            // guarded by mu
	all    map[*conn]struct{} // guarded by mu
	closed bool               // guarded by mu
}

// conn is one HTTP/1.1 connection.
type conn struct {
	net.Conn
	sock     *socket // nil when the connection is no plain TCP one
	br       *bufio.Reader
	used     bool
	last     time.Time
	deadline time.Time
}

func (c *conn) write(b []byte) error {
	if c.sock != nil {
		return c.sock.write(b)
	}
	_, err := c.Write(b)
	return err
}

// New checks the configuration. It opens no connection.
func New(cfg Config) (*Target, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("sink %q: must be an absolute http or https URL", cfg.URL)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 600 * time.Second
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	t := &Target{cfg: cfg, addr: u.Host, all: map[*conn]struct{}{}}
	if u.Port() == "" {
		t.addr = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	if u.Scheme == "https" {
		t.tls = cfg.TLS.Clone()
		if t.tls == nil {
			t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if t.tls.ServerName == "" {
			t.tls.ServerName = u.Hostname()
		}
	}
	t.head = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: rouse\r\n", u.RequestURI(), u.Host)
	for _, h := range cfg.Header {
		t.head = fmt.Appendf(t.head, "%s: %s\r\n", h[0], h[1])
	}
	if cfg.HTTP2 {
		t.h2 = t.http2()
	}
	return t, nil
}

// URL is the address as configured.
func (t *Target) URL() string { return t.cfg.URL }

// Close ends every connection, in use or not; exchanges that are under way fail. It is safe to call twice.
func (t *Target) Close() {
	t.mu.Lock()
	t.closed = true
	conns := make([]*conn, 0, len(t.all))
	for c := range t.all {
		conns = append(conns, c)
	}
	t.idle = nil
	t.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	if t.h2 != nil {
		t.h2.CloseIdleConnections()
	}
}

// CloseIdle ends connections that were not used since before.
func (t *Target) CloseIdle(before time.Time) {
	t.mu.Lock()
	n := 0
	for n < len(t.idle) && t.idle[n].last.Before(before) {
		n++ // the stack's bottom is the longest unused
	}
	old := append([]*conn(nil), t.idle[:n]...)
	t.idle = append(t.idle[:0], t.idle[n:]...)
	for _, c := range old {
		delete(t.all, c)
	}
	t.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

// get takes an idle connection, or opens one.
func (t *Target) get(deadline time.Time) (*conn, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	if n := len(t.idle); n > 0 {
		c := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		return c, nil
	}
	t.mu.Unlock()
	return t.dial(deadline)
}

func (t *Target) dial(deadline time.Time) (*conn, error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	nc, err := t.cfg.Dial(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	if t.tls != nil {
		tc := tls.Client(nc, t.tls)
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		nc = tc
	}
	c := &conn{Conn: nc, sock: newSocket(nc)}
	if c.sock != nil {
		c.br = bufio.NewReaderSize(c.sock, 4096)
	} else {
		c.br = bufio.NewReaderSize(nc, 4096)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		nc.Close()
		return nil, ErrClosed
	}
	t.all[c] = struct{}{}
	return c, nil
}

func (t *Target) put(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.idle = append(t.idle, c)
	}
}

func (t *Target) drop(c *conn) {
	c.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, c)
}

// Timeout is how long one exchange may take.
func (t *Target) Timeout() time.Duration { return t.cfg.Timeout }

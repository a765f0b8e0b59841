package forward

import (
	"context"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

// httpConn is a connection to a pod that net/http speaks on: HTTP/2, which requests share, or HTTP/1.1, which one has
// at a time. Who has taken it makes one round trip, and puts it back when the response is over.
type httpConn struct {
	*http.ClientConn
	wire *countingConn
	h2   bool
	uses int         // requests that have taken it; guarded by the pool's h2.mu
	old  *time.Timer // HTTP/1: closes it when it was idle for too long; net/http does so itself on HTTP/2
}

// dialing is a connection that one request opens and others wait for.
type dialing struct {
	done chan struct{}
	err  error // read after done; nil also when whoever dialled left
}

// dialledKey is the context's key for the connection that [http.Transport.NewClientConn] is to speak on: it gives its
// dialer nothing else to tell one call from another.
type dialledKey struct{}

// takeHTTP returns a connection with room for one request, and whether it served others before. One that is there is
// preferred, then one that another request opens if it can be shared.
func (p *Pool) takeHTTP(ctx context.Context) (c *httpConn, reused bool, err error) {
	for {
		if c := p.h2.reserve(); c != nil {
			return c, true, nil
		}
		d, first := p.h2.mayDial(p.cfg.Protocol)
		if first {
			c, err := p.open(ctx)
			if err != nil {
				p.h2.tell(d, err, ctx.Err() != nil)
				return nil, false, err
			}
			late := time.AfterFunc(p.cfg.ConnectTimeout, c.wire.settle)
			c.wire.whenSettled(c.h2, func() {
				late.Stop()
				p.h2.opened(c, d)
			})
			return c, false, nil
		}
		select {
		case <-d.done:
			if d.err != nil {
				return nil, false, d.err
			}
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

// reserve takes a connection that is there, nil when none has room.
func (h *h2Pool) reserve() *httpConn {
	for i := 0; ; i++ {
		c := h.candidate(i)
		if c == nil {
			return nil
		}
		if !c.h2 && (!c.old.Stop() || c.wire.stale()) {
			c.Close()
		}
		if c.Reserve() == nil {
			return c
		}
		if c.Err() != nil {
			h.forget(c)
			i--
		}
		h.put(c)
	}
}

// candidate counts a use of the newest unused HTTP/1 connection, or of the i-th newest shared one.
func (h *h2Pool) candidate(i int) (c *httpConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch n := len(h.idle); {
	case n > 0:
		c = h.idle[n-1]
		h.idle = slices.Delete(h.idle, n-1, n)
	case i < len(h.shared):
		c = h.shared[len(h.shared)-1-i]
	default:
		return nil
	}
	c.uses++
	return c
}

// mayDial returns the connection to wait for, or one to open oneself (first). As long as requests can share a
// connection only one is opened at a time.
func (h *h2Pool) mayDial(proto endpoint.Protocol) (d *dialing, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if proto == endpoint.H1 || h.alone {
		return nil, true
	}
	if h.dialing == nil {
		h.dialing = &dialing{done: make(chan struct{})}
		return h.dialing, true
	}
	return h.dialing, false
}

// opened shares a new connection, if that can be.
func (h *h2Pool) opened(c *httpConn, d *dialing) {
	h.mu.Lock()
	h.alone = !c.h2
	if c.h2 {
		h.shared = append(h.shared, c)
	}
	h.mu.Unlock()
	h.tell(d, nil, false)
}

// tell ends the wait of those that wait for d, which is nil when nobody can. They share an error, unless it is that of a
// request which left.
func (h *h2Pool) tell(d *dialing, err error, left bool) {
	if d == nil {
		return
	}
	if !left {
		d.err = err
	}
	h.mu.Lock()
	h.dialing = nil
	h.mu.Unlock()
	close(d.done)
}

// open dials a connection and takes it for one request.
func (p *Pool) open(ctx context.Context) (*httpConn, error) {
	p.h2.once.Do(func() {
		p.h2.transport, p.h2.maxIdle, p.h2.maxAge = p.newTransport(), p.cfg.MaxIdle, p.cfg.IdleTimeout
	})
	u, err := p.dial(ctx, nil)
	if err != nil {
		return nil, err
	}
	c := &httpConn{wire: &countingConn{Conn: u.Conn, raw: u.raw}, h2: p.cfg.Protocol == endpoint.H2C, uses: 1}
	c.wire.closed = func() { p.h2.forget(c) }
	conn := net.Conn(c.wire)
	if p.cfg.Protocol == endpoint.TLS {
		limited, cancel := context.WithTimeout(ctx, 5*p.cfg.ConnectTimeout)
		defer cancel()
		t, err := p.encrypt(limited, conn, "h2", "http/1.1")
		if err != nil {
			return nil, err
		}
		conn, c.h2 = t, t.ConnectionState().NegotiatedProtocol == "h2"
		c.wire.heard.Store(false)
	}
	if !c.h2 {
		c.old = time.AfterFunc(p.cfg.IdleTimeout, func() { c.Close() })
		c.old.Stop()
	}
	c.ClientConn, err = p.h2.transport.NewClientConn(context.WithValue(ctx, dialledKey{}, conn), p.scheme(), p.addr)
	if err == nil {
		err = c.Reserve()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// put ends a use of c, and closes it when it is of no further use.
func (h *h2Pool) put(c *httpConn) {
	c.wire.settle()                    // at the latest: nobody waits for what this request did not get
	ready := c.h2 || c.Available() > 0 // HTTP/1 is so only if the response came to its end
	if !h.keep(c, ready) {
		c.Close()
	}
}

func (h *h2Pool) keep(c *httpConn, ready bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.uses--
	switch {
	case h.closed && c.uses == 0:
		h.drop(c)
		return false
	case c.h2:
		return true
	case !ready || len(h.idle) >= h.maxIdle:
		return false
	}
	h.idle = append(h.idle, c)
	c.old.Reset(h.maxAge)
	return true
}

// forget drops a connection that closes.
func (h *h2Pool) forget(c *httpConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(c)
}

// drop is called with the lock held.
func (h *h2Pool) drop(c *httpConn) {
	is := func(o *httpConn) bool { return o == c }
	h.shared, h.idle = slices.DeleteFunc(h.shared, is), slices.DeleteFunc(h.idle, is)
}

// close closes unused connections now, and others when their last request has ended.
func (h *h2Pool) close() {
	h.mu.Lock()
	h.closed = true
	unused := h.idle
	h.idle = nil
	h.shared = slices.DeleteFunc(h.shared, func(c *httpConn) bool {
		if c.uses == 0 {
			unused = append(unused, c)
		}
		return c.uses == 0
	})
	h.mu.Unlock()
	for _, c := range unused {
		c.Close()
	}
}

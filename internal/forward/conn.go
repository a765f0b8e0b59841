package forward

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
)

// phase says what a connection is doing, for Shutdown and Stats.
type phase int32

const (
	phaseIdle   phase = iota // between requests
	phaseActive              // from the first byte of a request to the end of its response
	phaseTunnel              // upgraded
	phaseClosed              // Shutdown closed it while idle
)

// conn is one HTTP/1 client connection, and the [Exchange] of the request it is serving. One goroutine runs it;
// other goroutines only touch what mu guards, the atomics, and the deadlines of the connections.
type conn struct {
	srv    *Server
	client sock
	remote netip.AddrPort
	tls    bool
	phase  atomic.Int32
	gone   atomic.Bool

	accepted time.Time
	probe    atomic.Bool // nothing but a probe: see MarkProbe
	// came is when the newest request that has ended came, in nanoseconds since the server's epoch; 0 for none.
	came atomic.Int64

	in   *buffer // head and what followed it; nil while idle
	have int     // bytes in it
	req  head
	resp head
	// respDec follows a chunked response.
	respDec dechunker

	request
	waiter *breaker.Waiter

	mu     sync.Mutex
	ctl    control // guarded by mu
	timer  *time.Timer
	moved  atomic.Int64
	begun  atomic.Bool // the present request's response has begun
	sender bodyCopy

	readAhead chan struct{} // closed when the goroutine that reads ahead has ended; nil when there is none
	watched   bool          // the server's watch sees this connection
	watchID   int32
	watchFD   int32
}

// request is what is reset for each request.
type request struct {
	received   time.Time
	body       body
	edits      edits
	timeouts   Timeouts
	host       []byte // effective host, when the target names one
	spent      int64  // nanoseconds in earlier Forwards of this request
	answered   bool   // a response head was written
	aborted    bool   // given up without an answer
	keep       bool   // the connection can serve a next request
	probing    bool   // the handler called MarkProbe
	continued  bool   // 100 Continue was passed on
	untilClose bool   // the response's body ends with the connection
	status     int
	down       int64 // body bytes that went to the client
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, accepted: time.Now()}
	if s.cfg.TLS != nil {
		nc = tls.Server(nc, s.cfg.TLS)
		c.tls = true
	}
	c.client.init(nc, s.bufs)
	c.client.clock = s.now
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		c.remote = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return c
}

// run serves the connection until it ends.
func (c *conn) run() {
	defer c.over()
	c.makeTimer()
	if t, ok := c.client.Conn.(*tls.Conn); ok {
		h2, err := handshake(t, c.srv.cfg.HeadTimeout)
		if err != nil {
			t.Close()
			return
		}
		if h2 {
			c.srv.serveH2(t, nil)
			return
		}
	}
	c.srv.watch.add(c)
	handedOver := c.serve()
	c.srv.watch.remove(c)
	c.stopTimer()
	c.stopReader()
	c.dropInput()
	c.dropKept()
	if !handedOver {
		c.client.Close()
	}
}

// over is the end of run. A panic in a handler, or below it, is the end of its own connection and of no other request, as in
// net/http.
func (c *conn) over() {
	if v := recover(); v != nil {
		panicked(v)
		c.abandon()
	}
	c.srv.forget(c)
}

// abandon gives up a connection in whatever state its request is.
func (c *conn) abandon() {
	c.srv.watch.remove(c)
	c.stopTimer()
	c.mu.Lock()
	up := c.ctl.up
	c.ctl.forwarding, c.ctl.up, c.ctl.cancelDial = false, nil, nil
	c.mu.Unlock()
	c.stopBodyCopy()
	c.stopReader()
	if up != nil {
		up.Close()
	}
	c.client.Close()
}

// closeClient closes without saying goodbye, which could block.
func (c *conn) closeClient() {
	if t, ok := c.client.Conn.(*tls.Conn); ok {
		t.NetConn().Close()
		return
	}
	c.client.Close()
}

// serve reads and answers requests. It returns true when the connection now belongs to somebody else.
func (c *conn) serve() (handedOver bool) {
	for {
		cause, ok := c.readHead()
		switch {
		case !ok:
			return false
		case cause == causeH2:
			c.srv.watch.remove(c)
			c.stopTimer()
			prefix := append([]byte(nil), c.in.b[:c.have]...)
			c.srv.serveH2(c.client.Conn, prefix)
			return true
		case cause != fault.None:
			c.refuse(cause)
			return false
		}
		c.handle()
		if !c.keep {
			return false
		}
		c.next()
	}
}

// firstRead bounds how much of a body is taken together with the head.
const firstRead = 16 << 10

// causeH2 is readHead's way to say that the client speaks HTTP/2.
const causeH2 = fault.Cause(255)

const preface = "PRI * HTTP/2.0\r\n"

// readHead reads the next request's head. ok is false when the connection is to be closed without an answer.
func (c *conn) readHead() (cause fault.Cause, ok bool) {
	c.req.reset()
	if c.have == 0 {
		if !c.awaitRequest() {
			return 0, false
		}
	} else if !c.phase.CompareAndSwap(int32(phaseIdle), int32(phaseActive)) {
		return 0, false
	}
	c.received = time.Now()
	slow := false
	for {
		if c.skipEmptyLines(); c.have > 0 {
			done, cause := c.req.scanRequest(c.in.b[:c.have], c.srv.cfg.MaxHeadBytes, c.srv.cfg.MaxTargetBytes)
			if cause != fault.None && c.isPreface() {
				return causeH2, true
			}
			if done || cause != fault.None {
				if slow { // from here on the request counts, not from its first byte on: that is the client's time
					c.disarm(dlHead)
					c.received = time.Now()
				}
				return cause, true
			}
		}
		if !slow {
			slow = true
			c.arm(dlHead, c.received.Add(c.srv.cfg.HeadTimeout))
		}
		if err := c.readMore(); err != nil {
			return 0, false
		}
	}
}

func (c *conn) isPreface() bool {
	b := c.in.b[:c.have]
	return len(b) >= len(preface) && string(b[:len(preface)]) == preface
}

// awaitRequest waits without a buffer for the first bytes of a request.
func (c *conn) awaitRequest() bool {
	c.dropInput()
	if d := c.srv.cfg.IdleTimeout; d > 0 {
		c.arm(dlKeepAlive, time.Now().Add(d))
		defer c.disarm(dlKeepAlive)
	}
	c.stopReader()
	b, n, err := c.client.readFirst(firstRead)
	if err != nil {
		return false
	}
	if !c.phase.CompareAndSwap(int32(phaseIdle), int32(phaseActive)) {
		c.srv.bufs.putBig(b)
		return false
	}
	c.in = c.srv.bufs.getKept(n)
	c.have = copy(c.in.b, b.b[:n])
	c.srv.bufs.putBig(b)
	return true
}

// skipEmptyLines drops line ends before a request line (RFC 9112, 2.2).
func (c *conn) skipEmptyLines() {
	b := c.in.b[:c.have]
	n := 0
	for c.req.line == 0 && len(b) >= n+2 && b[n] == '\r' && b[n+1] == '\n' {
		n += 2
	}
	if n > 0 {
		c.have = copy(b, b[n:])
		c.req.reset()
	}
}

// readMore appends to the input.
func (c *conn) readMore() error {
	if c.have == len(c.in.b) {
		b := c.srv.bufs.getKept(2 * c.have)
		copy(b.b, c.in.b[:c.have])
		c.srv.bufs.putKept(c.in)
		c.in = b
	}
	n, err := c.client.read(c.in.b[c.have:])
	c.have += n
	return err
}

func (c *conn) dropInput() {
	if c.in != nil {
		c.srv.bufs.putKept(c.in)
		c.in, c.have = nil, 0
	}
}

// next makes the input begin with the next request, if it has any of it.
func (c *conn) next() {
	c.dropKept()
	c.have = copy(c.in.b, c.in.b[c.body.next:c.have])
	if s := &c.sender; s.over != nil {
		c.srv.bufs.putKept(c.in)
		c.in, c.have, s.over = s.over, s.overLen, nil
	}
	c.phase.Store(int32(phaseIdle))
	if c.srv.closing.Load() {
		c.closeIdle() // Shutdown may have looked when this request was still active
	}
}

// handle serves one request whose head is complete.
func (c *conn) handle() {
	if !c.prepare() {
		c.refuse(fault.BadRequest)
		return
	}
	c.srv.handler.ServeExchange(c)
	c.endRequest()
}

// prepare resets what belongs to one request. It is a function of its own because handle's frame stays on the stack
// while the request is parked: what is small here keeps a waiting goroutine on its first 2 KB.
//
//go:noinline
func (c *conn) prepare() bool {
	c.request = request{received: c.received, edits: c.edits}
	c.edits.reset()
	c.keep = c.req.major1 && !c.req.close || !c.req.major1 && c.req.keepAlive && !c.req.close
	if a := authority(c.target()); a != nil {
		c.host = a
	}
	c.begun.Store(false)
	return c.startBody()
}

func (c *conn) endRequest() {
	if !c.probing {
		c.came.Store(c.srv.since(c.received))
	}
	if !c.answered && !c.aborted {
		c.Fail(fault.Internal, "the handler gave no answer", 0)
	}
	if !c.body.complete {
		c.keep = false
	}
	if !c.keep && c.answered && !c.body.complete {
		c.linger()
	}
}

// closeIdle closes the connection if it is between requests.
func (c *conn) closeIdle() {
	if c.phase.CompareAndSwap(int32(phaseIdle), int32(phaseClosed)) {
		c.closeClient()
	}
}

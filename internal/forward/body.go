package forward

import (
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// body follows a request's body. What arrived with the head is taken at once: most bodies are complete then, and
// are sent with the head in one write. The rest is taken by [conn.sendBody] as it is sent.
type body struct {
	chunked  bool
	complete bool  // everything was taken from the client
	left     int64 // of a Content-Length: bytes to be taken
	dec      dechunker
	from, to int // what was taken with the head, in the input buffer
	next     int // where the next request begins in the input buffer
	// kept is everything that was taken, once more than came with the head was; nil when that became too much.
	kept    *buffer
	keptLen int
	lost    bool // more was taken than is kept: the request cannot be sent again
}

// bodyCopy is the goroutine that sends a body which is still arriving, while the connection's own goroutine
// receives the response.
type bodyCopy struct {
	run     func()        // sendBody, bound once
	done    chan struct{} // capacity 1: sent when the goroutine ends
	running bool
	up      *upConn
	failed  bool        // the pod took no more
	ended   atomic.Bool // the body was sent completely
	over    *buffer     // pipelined bytes that came behind a chunked body
	overLen int
}

// startBody takes what came with the head. It returns false when the body is malformed.
func (c *conn) startBody() bool {
	b := &c.body
	b.from = int(c.req.size)
	have := c.in.b[b.from:c.have]
	switch {
	case c.req.chunked:
		b.chunked = true
		kept, used, done, err := b.dec.feed(have)
		if err != nil {
			return false
		}
		b.to, b.next, b.complete = b.from+kept, b.from+used, done
	default:
		n := min(max(0, c.req.length), int64(len(have)))
		b.left = max(0, c.req.length) - n
		b.to = b.from + int(n)
		b.next, b.complete = b.to, b.left == 0
	}
	return true
}

// taken returns everything that was taken from the client and is kept.
func (c *conn) taken() []byte {
	if c.body.kept != nil {
		return c.body.kept.b[:c.body.keptLen]
	}
	return c.in.b[c.body.from:c.body.to]
}

// takenBytes counts the body's data.
func (c *conn) takenBytes() int64 {
	if c.body.chunked {
		return c.body.dec.data
	}
	return max(0, c.req.length) - c.body.left
}

// startBodyCopy starts sending the rest of the body to u.
func (c *conn) startBodyCopy(u *upConn) {
	s := &c.sender
	if s.run == nil {
		s.run, s.done = c.sendBody, make(chan struct{}, 1)
	}
	s.up, s.running, s.failed = u, true, false
	s.ended.Store(false)
	go s.run()
}

// sendBody runs on its own goroutine until the body has ended, one side failed, or a deadline was set to stop it.
func (c *conn) sendBody() {
	s := &c.sender
	for !c.body.complete {
		if !c.sendSome() {
			s.done <- struct{}{}
			return
		}
	}
	s.ended.Store(true)
	s.done <- struct{}{}
}

// sendSome passes on what the client sends next.
func (c *conn) sendSome() bool {
	limit := bigSize
	if !c.body.chunked {
		limit = int(min(c.body.left, bigSize))
	}
	big, n, err := c.client.readFresh(0, limit)
	if err != nil {
		if !isTimeout(err) {
			c.interrupt(fault.ClientGone)
		}
		return false
	}
	defer c.srv.bufs.putBig(big)
	out, ok := c.take(big.b[:n])
	if !ok {
		c.interrupt(fault.BadRequest)
		return false
	}
	c.keepBytes(out)
	if err := c.sender.up.write(out); err != nil {
		c.sender.failed = true
		return false
	}
	return true
}

// take follows the framing of b and returns what to pass on.
func (c *conn) take(b []byte) (out []byte, ok bool) {
	if !c.body.chunked {
		n := int(min(int64(len(b)), c.body.left))
		c.body.left -= int64(n)
		c.body.complete = c.body.left == 0
		c.saveOver(b[n:])
		return b[:n], true
	}
	kept, used, done, err := c.body.dec.feed(b)
	c.body.complete = done
	c.saveOver(b[used:])
	return b[:kept], err == nil
}

// saveOver keeps the beginning of the next request.
func (c *conn) saveOver(b []byte) {
	if len(b) > 0 {
		c.sender.over = c.srv.bufs.getKept(len(b))
		c.sender.overLen = copy(c.sender.over.b, b)
	}
}

// keepBytes keeps a copy of what was taken as long as it is small.
func (c *conn) keepBytes(b []byte) {
	body := &c.body
	if body.lost {
		return
	}
	old := c.taken()
	if len(old)+len(b) > c.srv.cfg.ReplayBytes {
		body.lost = true
		c.dropKept()
		return
	}
	if body.kept == nil || len(body.kept.b) < len(old)+len(b) {
		k := c.srv.bufs.getKept(len(old) + len(b))
		copy(k.b, old)
		n := len(old)
		c.dropKept()
		body.kept, body.keptLen = k, n
	}
	body.keptLen += copy(body.kept.b[body.keptLen:], b)
}

func (c *conn) dropKept() {
	if c.body.kept != nil {
		c.srv.bufs.putKept(c.body.kept)
		c.body.kept, c.body.keptLen = nil, 0
	}
}

// stopBodyCopy waits for the goroutine, after telling it to stop if the body has not ended. It reports whether the
// pod was sent the complete body.
func (c *conn) stopBodyCopy() (sent bool) {
	s := &c.sender
	if !s.running {
		return c.body.complete
	}
	forced := !s.ended.Load()
	if forced {
		_ = c.client.SetReadDeadline(past())
		_ = s.up.SetWriteDeadline(past())
	}
	<-s.done
	s.running = false
	if forced {
		_ = c.client.SetReadDeadline(time.Time{})
		_ = s.up.SetWriteDeadline(time.Time{})
	}
	s.up = nil
	return c.body.complete && !s.failed
}

// startReader watches a client without descriptor by reading a byte ahead, while nothing else reads from it.
func (c *conn) startReader() {
	if c.client.raw != nil || c.tlsWatched() || c.readAhead != nil || c.client.stashed || c.sender.running || !c.body.complete {
		return
	}
	done := make(chan struct{})
	c.readAhead = done
	go func() {
		defer close(done)
		n, err := c.client.Conn.Read(c.client.stash[:])
		switch {
		case n == 1:
			c.client.stashed = true
		case err != nil && !isTimeout(err):
			c.hangup()
		}
	}()
}

// stopReader ends it, before anything else reads.
func (c *conn) stopReader() {
	if c.readAhead == nil {
		return
	}
	_ = c.client.SetReadDeadline(past())
	<-c.readAhead
	c.readAhead = nil
	_ = c.client.SetReadDeadline(time.Time{})
}

func (c *conn) tlsWatched() bool { return c.tls && c.watched }

// lingerTime and lingerBytes bound how long a connection whose request was not read to its end stays open, so that
// the client sees the answer before a reset (RFC 9112, 9.6).
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// linger closes the write side and reads on for a while.
func (c *conn) linger() {
	half, ok := c.client.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.stopReader()
	c.arm(dlHead, time.Now().Add(lingerTime))
	for read := 0; read < lingerBytes; {
		big, n, err := c.client.readFresh(0, bigSize)
		if err != nil {
			return
		}
		c.srv.bufs.putBig(big)
		read += n
	}
}

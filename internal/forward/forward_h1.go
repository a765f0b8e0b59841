package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// Forward implements [Exchange].
func (c *conn) Forward(to *Pool) Result {
	if c.answered || c.aborted || c.edits.bad {
		return c.failed(fault.Internal, errMisuse)
	}
	if !to.h1() {
		return c.forwardH2(to)
	}
	began := c.srv.now()
	r := Result{}
	if cause := c.beginForward(began); cause != fault.None {
		_ = c.endForward(began)
		return c.failed(cause, cause)
	}
	for {
		u, err := c.connect(to)
		if err != nil {
			r = Result{Cause: connectCause(err), Err: err}
			break
		}
		reused := u.served > 0
		if c.roundTrip(u, began, &r) || !reused {
			break
		}
	}
	if cause := c.endForward(began); cause != fault.None && r.Cause != fault.None {
		r.Cause = cause
	}
	return c.settle(r)
}

var (
	errMisuse    = errors.New("forward: exchange was answered already, or one of its edits is not valid")
	errHead      = errors.New("forward: response head is not valid or too large")
	errBody      = errors.New("forward: response body is malformed")
	errNotAdmit  = errors.New("forward: pod refused before its application saw the request")
	errSwitching = errors.New("forward: pod switched protocols without being asked")
)

// failed answers with cause.
func (c *conn) failed(cause fault.Cause, err error) Result {
	return c.settle(Result{Cause: cause, Err: err})
}

// settle decides whether a result can be retried, and answers it when it cannot.
func (c *conn) settle(r Result) Result {
	if c.body.chunked || c.req.length > 0 {
		r.RequestBytes = c.takenBytes()
	}
	r.ResponseBytes = c.down
	switch {
	case r.Cause == fault.None:
	case c.answered:
		c.abort()
		c.resetOnClose()
	case fault.Of(r.Cause).Retryable && !c.body.lost:
		r.Retryable = true
		r.Status = 0
		return r
	default:
		c.Fail(r.Cause, "", 0)
	}
	r.Status = c.status
	return r
}

// resetOnClose makes the client see a reset where an ordinary end would make an incomplete body look complete. Over TLS
// the connection ends here, since closing it later would say close_notify, which is an ordinary end.
func (c *conn) resetOnClose() {
	if !c.untilClose {
		return
	}
	raw := c.client.Conn
	t, encrypted := raw.(*tls.Conn)
	if encrypted {
		raw = t.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	if encrypted {
		c.srv.watch.remove(c)
		raw.Close()
	}
}

// connect returns an unused connection, or opens one.
func (c *conn) connect(to *Pool) (*upConn, error) {
	if u := to.get(); u != nil {
		return u, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.mu.Lock()
	if c.ctl.cause != fault.None {
		c.mu.Unlock()
		return nil, c.ctl.cause
	}
	c.ctl.cancelDial = cancel
	c.mu.Unlock()
	c.startReader()
	return to.dial(ctx, c.srv.bufs)
}

// CauseOf returns the cause of an error of [Pool.Ask] or [Pool.Connect].
func CauseOf(err error) fault.Cause { return connectCause(err) }

// connectCause tells a pod that is not there from one that is not who it should be.
func connectCause(err error) fault.Cause {
	var bad *tls.CertificateVerificationError
	if errors.Is(err, fault.UpstreamUnverified) || errors.As(err, &bad) {
		return fault.UpstreamUnverified
	}
	return fault.ConnectFailed
}

// roundTrip sends the request on u and passes the response on. It returns false when certainly nothing was sent
// because u had been closed: another connection may be tried.
func (c *conn) roundTrip(u *upConn, began int64, r *Result) bool {
	u.moved, u.clock, u.bufs = c.client.moved, c.client.clock, c.srv.bufs
	if cause := c.attach(u); cause != fault.None {
		u.Close()
		*r = Result{Cause: cause, Err: cause}
		return true
	}
	*r = Result{}
	sent, err := c.sendRequest(u)
	if err != nil && sent == 0 {
		_ = c.detach()
		u.Close()
		*r = Result{Cause: fault.ConnectFailed, Err: err}
		return false
	}
	// A pod may answer and close before it has read everything: its answer counts even if sending failed.
	reuse := c.receive(u, began, r)
	if !c.stopBodyCopy() || err != nil {
		reuse = false
	}
	if c.detach() != fault.None || !reuse {
		u.Close()
		return r.Cause != fault.ConnectFailed
	}
	u.served++
	u.pool.put(u, time.Now())
	return true
}

// detach takes the pod's connection out of reach of interruptions, and returns the cause of the one that has met it.
func (c *conn) detach() fault.Cause {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctl.up = nil
	return c.ctl.cause
}

// sendRequest writes the head and what there is of the body, and starts sending the rest. It returns how many bytes
// went out.
func (c *conn) sendRequest(u *upConn) (int64, error) {
	for i := range c.edits.req {
		c.edits.req[i].done = false
	}
	big := c.srv.bufs.getBig()
	out := c.appendRequestHead(big.b[:0], u.pool)
	u.total, u.wrote = u.total+u.wrote, 0
	var err error
	if body := c.taken(); len(out)+len(body) <= len(big.b) && len(body) <= copyLimit {
		err = u.write(append(out, body...))
	} else {
		err = u.write2(out, body)
	}
	c.srv.bufs.putBig(big)
	sent := u.wrote // from here on the body's goroutine may write
	if err == nil && !c.body.complete {
		c.stopReader()
		c.startBodyCopy(u)
	}
	return sent, err
}

// copyLimit is up to where copying behind the head is cheaper than a vectored write.
const copyLimit = 8 << 10

// receive reads the response and passes it on. It reports whether u can be used again.
func (c *conn) receive(u *upConn, began int64, r *Result) (reuse bool) {
	c.startReader()
	c.resp.reset()
	for {
		big, n, err := u.readFresh(0, bigSize)
		if err != nil {
			r.Cause, r.Err = fault.UpstreamReset, err
			if errors.Is(err, io.EOF) && u.served > 0 && !c.sender.running && u.unseen() {
				r.Cause = fault.ConnectFailed
			}
			return false
		}
		if r.FirstByte == 0 {
			r.FirstByte = time.Duration(c.srv.now() - began)
		}
		at, end, final := c.heads(u, big, n, r)
		if final {
			return c.passFinal(u, big, at, end, r)
		}
		c.srv.bufs.putBig(big)
		if r.Cause != fault.None {
			return false
		}
		// Only 1xx came: the wait for what follows them may be long, and holds no buffer.
	}
}

// heads scans the n bytes in big, and reads on while a head is incomplete. It passes 1xx on and ends at a final
// head, when the bytes are used up, or with a cause in r.
func (c *conn) heads(u *upConn, big *buffer, n int, r *Result) (at, end int, final bool) {
	for end = n; at < end; {
		done, ok := c.resp.scanResponse(big.b[at:end])
		switch {
		case !ok || !done && end == len(big.b):
			r.Cause, r.Err = fault.UpstreamProtocol, errHead
			return at, end, false
		case !done:
			n, err := u.read(big.b[end:])
			if end += n; err != nil {
				r.Cause, r.Err = fault.UpstreamReset, err
				return at, end, false
			}
		case c.resp.status >= 200 || c.resp.status == 101:
			return at, end, true
		default:
			if err := c.passInterim(big.b[at:end]); err != nil {
				r.Cause, r.Err = fault.ClientGone, err
				return at, end, false
			}
			at += int(c.resp.size)
			c.resp.reset()
		}
	}
	return at, end, false
}

// passInterim passes a 1xx head on, unless the client cannot understand it.
func (c *conn) passInterim(b []byte) error {
	if c.resp.status == 100 {
		c.continued = true
	}
	if !c.req.major1 {
		return nil
	}
	big := c.srv.bufs.getBig()
	out := c.appendResponseHead(big.b[:0], b, frameInterim)
	err := c.client.write(out)
	c.srv.bufs.putBig(big)
	return err
}

// framing decides how the response's body reaches the client.
func (c *conn) framing() responseFraming {
	h := &c.resp
	switch {
	case h.status == 101:
		return frameTunnel
	case string(c.Method()) == "HEAD" || h.status == 304:
		return frameHead
	case h.status == 204:
		return frameNone
	case h.chunked && c.req.major1:
		return frameRaw
	case h.chunked:
		return frameBare
	case h.length >= 0:
		return frameLength
	case c.req.major1:
		return frameChunk
	}
	return frameClose
}

// passFinal passes the final head and the body on. It owns big.
func (c *conn) passFinal(u *upConn, big *buffer, at, end int, r *Result) (reuse bool) {
	c.begun.Store(true)
	framing := c.framing()
	if cause := c.refused(u, framing); cause != fault.None {
		complete := framing == frameLength && int64(end-at) == int64(c.resp.size)+c.resp.length
		c.srv.bufs.putBig(big)
		c.begun.Store(false)
		*r = Result{Cause: cause, Err: errNotAdmit, FirstByte: r.FirstByte}
		if cause != fault.NotAdmitted {
			r.Err = errSwitching
			return false
		}
		return complete && c.upstreamKeeps()
	}
	if framing == frameTunnel && !c.endBody() {
		c.srv.bufs.putBig(big)
		c.begun.Store(false)
		*r = Result{Cause: fault.UpstreamReset, Err: errBody, FirstByte: r.FirstByte}
		return false
	}
	c.decideKeep(framing)
	for i := range c.edits.resp {
		c.edits.resp[i].done = false
	}
	head := c.srv.bufs.getBig()
	out := c.appendResponseHead(head.b[:0], big.b[at:at+int(c.resp.size)], framing)
	c.answered, c.status, c.untilClose = true, c.resp.status, framing == frameClose || framing == frameBare
	if framing == frameTunnel {
		return c.startTunnel(u, out, head, big, at, end, r)
	}
	d := delivery{c: c, u: u, framing: framing, head: out, big: big, at: at + int(c.resp.size), end: end, left: c.resp.length}
	reuse = d.run(r)
	c.srv.bufs.putBig(head)
	return reuse && c.upstreamKeeps()
}

// endBody waits until the body is with the pod, before a tunnel begins behind it: a client can't use the new protocol before
// its request is complete (RFC 9110, 7.8), whatever the pod has answered already.
func (c *conn) endBody() bool {
	if s := &c.sender; s.running {
		<-s.done
		s.running, s.up = false, nil
		return c.body.complete && !s.failed
	}
	return true
}

// refused says why a response is not passed on.
func (c *conn) refused(u *upConn, f responseFraming) fault.Cause {
	switch {
	case c.resp.has(kindNotAdmitted) && u.pool.cfg.NotAdmitted:
		return fault.NotAdmitted
	case f == frameTunnel && !c.upgrades():
		return fault.UpstreamProtocol
	}
	return fault.None
}

// decideKeep decides whether the client's connection goes on after this response.
func (c *conn) decideKeep(f responseFraming) {
	switch {
	case f == frameClose, f == frameBare, c.srv.draining.Load():
		c.keep = false
	case !c.body.chunked && c.req.length <= 0:
	case c.req.has(kindExpect) && !c.continued && c.sender.running && c.req.major1:
		// The client may send the body or not: what follows cannot be told apart.
		c.keep = c.keep && c.sender.ended.Load()
	}
}

// upstreamKeeps reports that the pod goes on with its connection after this response.
func (c *conn) upstreamKeeps() bool {
	if c.resp.major1 {
		return !c.resp.close
	}
	return c.resp.keepAlive
}

// startTunnel passes the 101 on and copies both ways until the tunnel ends.
func (c *conn) startTunnel(u *upConn, out []byte, head, big *buffer, at, end int, r *Result) bool {
	c.leaveRequest() // before the client can know: from its 101 on, a FIN is a half-close
	err := c.client.write(out)
	c.srv.bufs.putBig(head)
	c.keep = false
	if err != nil {
		c.srv.bufs.putBig(big)
		*r = Result{Cause: fault.ClientGone, Err: err, FirstByte: r.FirstByte}
		return false
	}
	ahead := append([]byte(nil), big.b[at+int(c.resp.size):end]...)
	c.srv.bufs.putBig(big)
	c.stopReader()
	c.phase.Store(int32(phaseTunnel))
	u.moved, c.client.moved = nil, nil
	early := c.takeEarly()
	sent, got, err := tunnel(tunnelEnd{&c.client, early}, tunnelEnd{&u.sock, ahead}, c.timeouts.Tunnel)
	r.Upgraded = true
	c.down = got
	r.RequestBytes = sent
	_ = err // a tunnel ends when either side says so: that is no fault
	return false
}

// takeEarly takes what the client sent behind its request: it goes into the tunnel.
func (c *conn) takeEarly() []byte {
	early := append([]byte(nil), c.in.b[c.body.next:c.have]...)
	c.have = c.body.next
	if s := &c.sender; s.over != nil {
		early = append(early, s.over.b[:s.overLen]...)
		c.srv.bufs.putKept(s.over)
		s.over = nil
	}
	return early
}

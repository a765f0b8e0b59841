package forward

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// This file takes a request from an HTTP/1 client connection to a pod that speaks HTTP/2, or TLS with ALPN.

// forwardH2 forwards the request of an HTTP/1 client connection to a pod that net/http talks to.
func (c *conn) forwardH2(to *Pool) Result {
	if c.upgrades() {
		return c.Forward(to.upgrades())
	}
	began := c.srv.now()
	if cause := c.beginForward(began); cause != fault.None {
		_ = c.endForward(began)
		return c.failed(cause, cause)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(context.Canceled)
	c.mu.Lock()
	c.ctl.cancelDial = func() { cancel(c.ctl.cause) } // called with mu held
	if c.ctl.cause != fault.None {
		cancel(c.ctl.cause)
	}
	c.mu.Unlock()
	c.startReader()
	b := &bridge{c: c}
	o := b.outbound(ctx)
	r := to.forwardHTTP(o, b)
	b.stop()
	if r.Retryable && c.body.lost { // less was kept than was read: framing counts, too
		r.Retryable, b.failure = false, r.Cause
		r.RequestBytes = o.body.consumed()
	}
	c.mu.Lock()
	c.ctl.cancelDial = nil
	c.mu.Unlock()
	_ = c.endForward(began)
	if b.failure != fault.None {
		c.Fail(b.failure, "", 0)
		r.Status = c.status
	}
	return r
}

// bridge is the client's side of a [Pool.forwardHTTP] for an HTTP/1 connection: the [responder], and the source of
// the body. The connection's goroutine calls the responder, one of net/http's reads the body, and between them they
// only share the right to write before the response has begun (a 100 Continue goes out at the body's first read).
type bridge struct {
	c       *conn
	src     bridgeBody
	chunked bool // the response is sent chunked
	noBody  bool // no body follows the response's head
	failure fault.Cause

	mu    sync.Mutex // guards begun, and is held while writing before it
	begun bool
}

// outbound describes the request to net/http.
func (b *bridge) outbound(ctx context.Context) *outbound {
	c := b.c
	o := &outbound{
		ctx: ctx, method: string(c.Method()), target: string(c.originTarget()), host: string(c.Host()),
		header: c.httpHeader(), length: max(0, c.req.length),
	}
	if c.edits.host != "" {
		o.host = c.edits.host
	}
	if c.req.chunked {
		o.length = -1
	}
	if o.length != 0 {
		b.src.open(b)
		o.trailer = b.src.trailer
		o.body = newReplay(&b.src, c.srv.cfg.ReplayBytes, nil)
	}
	return o
}

// originTarget is the request's target without scheme and authority.
func (c *conn) originTarget() []byte {
	t := c.target()
	if a := authority(t); a != nil {
		if t = t[strings.Index(string(t), "://")+3+len(a):]; len(t) == 0 || t[0] != '/' {
			return append([]byte{'/'}, t...)
		}
	}
	return t
}

// httpHeader returns the request's header as net/http sends it.
func (c *conn) httpHeader() http.Header {
	h := make(http.Header, len(c.req.fields)+4)
	b := c.headBytes()
	for i := range c.req.fields {
		f := &c.req.fields[i]
		switch {
		case f.kind == kindTE && hasToken(f.val(b), "trailers"):
			h["Te"] = []string{"trailers"}
		case f.drop, f.kind == kindHost, f.kind == kindContentLength, f.kind == kindTransferEncoding, f.kind == kindTrailer,
			f.kind == kindExpect && !c.req.major1:
		default:
			name := textproto.CanonicalMIMEHeaderKey(string(f.nameOf(b)))
			h[name] = append(h[name], string(f.val(b)))
		}
	}
	c.srv.cfg.Forwarding.apply(h, c.remote.Addr(), string(c.Host()), c.tls)
	applyEdits(h, c.edits.req)
	quiet(h, "User-Agent")
	return h
}

func (b *bridge) informational(status int, h http.Header) {
	if !b.c.req.major1 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.c.client.write(append(appendHTTPHead(nil, status, h), "\r\n"...))
}

// mayContinue tells a client that waits for it to send its body.
func (b *bridge) mayContinue() {
	c := b.c
	if !c.req.has(kindExpect) || !c.req.major1 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.begun {
		_ = c.client.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
}

func (b *bridge) begin(status int, h http.Header, length int64, trailers []string) error {
	c := b.c
	b.mu.Lock()
	b.begun = true
	b.mu.Unlock()
	c.begun.Store(true)
	c.mu.Lock()
	cause := c.ctl.cause
	c.mu.Unlock()
	if cause != fault.None {
		return cause
	}
	b.noBody = string(c.Method()) == "HEAD" || !bodyAllowed(status)
	b.chunked = !b.noBody && c.req.major1 && (length < 0 || len(trailers) > 0) // trailers need chunks
	if b.chunked {
		delete(h, "Content-Length")
		h["Transfer-Encoding"] = []string{"chunked"}
		if len(trailers) > 0 {
			h["Trailer"] = []string{strings.Join(trailers, ", ")}
		}
	}
	if length == 0 && !b.noBody && !b.chunked && len(h["Content-Length"]) == 0 {
		h["Content-Length"] = []string{"0"} // HTTP/2 says it by ending the stream
	}
	c.untilClose = length < 0 && !b.noBody && !b.chunked
	if c.srv.draining.Load() || c.untilClose {
		c.keep = false
	}
	applyEdits(h, c.edits.resp)
	c.answered, c.status = true, status
	out := c.appendConnection(appendHTTPHead(nil, status, h))
	return c.client.write(append(out, "\r\n"...))
}

// appendHTTPHead writes a head without its empty line, in the order of the names so that it does not change from one
// response to the next.
func appendHTTPHead(out []byte, status int, h http.Header) []byte {
	out = append(strconv.AppendInt(append(out, "HTTP/1.1 "...), int64(status), 10), ' ')
	out = append(append(out, http.StatusText(status)...), "\r\n"...)
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, v := range h[name] {
			out = appendField(out, name, v)
		}
	}
	return out
}

func (b *bridge) write(p []byte, _ bool) error {
	if b.noBody {
		return nil
	}
	b.c.down += int64(len(p))
	if !b.chunked {
		return b.c.client.write(p)
	}
	size := append(strconv.AppendInt(make([]byte, 0, chunkRoom), int64(len(p)), 16), "\r\n"...)
	if err := b.c.client.write2(size, p); err != nil {
		return err
	}
	return b.c.client.write([]byte("\r\n"))
}

func (b *bridge) finish(trailer http.Header) error {
	if !b.chunked {
		return nil
	}
	out := []byte("0\r\n")
	for name, values := range trailer {
		for _, v := range values {
			out = appendField(out, name, v)
		}
	}
	return b.c.client.write(append(out, "\r\n"...))
}

func (b *bridge) fail(cause fault.Cause) int {
	b.mu.Lock()
	b.begun = true
	b.mu.Unlock()
	b.failure = cause // answered when the deadlines of an interruption are off
	return 0
}

func (b *bridge) abort() {
	b.c.abort()
	b.c.resetOnClose()
}

// stop makes sure that nothing reads the client's connection any more.
func (b *bridge) stop() {
	s := &b.src
	if s.b == nil {
		return
	}
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	_ = b.c.client.SetReadDeadline(past())
	s.reading.Wait()
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	if b.c.ctl.cause == fault.None {
		_ = b.c.client.SetReadDeadline(time.Time{})
	}
}

// bridgeBody reads the request's body off the client's connection, without its framing.
type bridgeBody struct {
	b       *bridge
	data    io.Reader      // the body; reads raw
	raw     *bufio.Reader  // chunked: the body with its framing
	trailer http.Header    // announced trailers; filled at the end
	first   []byte         // taken before, to be read first
	asked   bool           // a client that waits for a 100 was told
	reading sync.WaitGroup // reads of the client

	mu      sync.Mutex // guards stopped, and the start of a read
	stopped bool
}

var errBridgeStopped = errors.New("request is over")

func (s *bridgeBody) open(b *bridge) {
	c := b.c
	s.b = b
	s.first = append(s.first, c.taken()...)
	s.data = rawBody{s}
	if !c.req.chunked {
		return
	}
	s.raw = bufio.NewReader(rawBody{s})
	s.data = httputil.NewChunkedReader(s.raw)
	for i := range c.req.fields {
		f := &c.req.fields[i]
		if f.kind != kindTrailer || f.drop {
			continue
		}
		for list := f.val(c.in.b); len(list) > 0; {
			var name []byte
			if name, list = nextToken(list); isToken(name) && classify(name) == other {
				if s.trailer == nil {
					s.trailer = make(http.Header)
				}
				s.trailer[textproto.CanonicalMIMEHeaderKey(string(name))] = nil
			}
		}
	}
}

// Read implements [io.Reader].
func (s *bridgeBody) Read(p []byte) (int, error) {
	n, err := s.data.Read(p)
	if errors.Is(err, io.EOF) && s.raw != nil {
		if terr := s.readTrailer(); terr != nil {
			err = terr
		}
		s.raw = nil
	}
	return n, err
}

// readTrailer reads what follows the last chunk. Trailers that were not announced cannot be passed on.
func (s *bridgeBody) readTrailer() error {
	h, err := textproto.NewReader(s.raw).ReadMIMEHeader()
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	for name := range s.trailer {
		if v := h[name]; v != nil {
			s.trailer[name] = v
		}
	}
	return nil
}

// rawBody is the body as it comes off the connection: validated, with its framing.
type rawBody struct{ s *bridgeBody }

// Read implements [io.Reader].
func (r rawBody) Read(p []byte) (int, error) {
	s := r.s
	if len(s.first) > 0 {
		n := copy(p, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return 0, errBridgeStopped
	}
	s.reading.Add(1)
	s.mu.Unlock()
	defer s.reading.Done()
	return s.b.take(p)
}

// take reads from the client's connection.
func (b *bridge) take(p []byte) (int, error) {
	c := b.c
	for !c.body.complete {
		if !b.src.asked {
			b.src.asked = true
			b.mayContinue()
		}
		limit := min(len(p), bigSize)
		if !c.req.chunked {
			limit = int(min(c.body.left, int64(limit)))
		}
		big, n, err := c.client.readFresh(0, limit)
		if err != nil {
			if !isTimeout(err) {
				c.interrupt(fault.ClientGone)
			}
			return 0, io.ErrUnexpectedEOF
		}
		out, ok := c.take(big.b[:n])
		c.keepBytes(out)
		n = copy(p, out)
		c.srv.bufs.putBig(big)
		if !ok {
			c.interrupt(fault.BadRequest)
			return 0, errBody
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

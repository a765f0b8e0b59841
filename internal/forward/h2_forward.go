package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// responder is the client's side of a request that net/http forwards.
type responder interface {
	// informational passes a 1xx response on. It is called before begin only, and not concurrently with it.
	informational(status int, h http.Header)
	// begin sends the head. h is the callee's to change; length is -1 when unknown; trailers are the names that
	// were announced.
	begin(status int, h http.Header, length int64, trailers []string) error
	// write sends a part of the body; flush says that it must not wait for more.
	write(p []byte, flush bool) error
	// finish ends the response.
	finish(trailer http.Header) error
	// fail answers by the fault table instead of begin, and returns the status.
	fail(c fault.Cause) int
	// abort cuts a response that has begun, so that the client cannot take it for complete.
	abort()
}

// outbound is a request on its way to a pod by net/http, for as many attempts as it takes.
type outbound struct {
	ctx     context.Context // ends when the client leaves, or with a fault.Cause when a limit strikes
	method  string
	target  string // raw
	host    string
	header  http.Header
	length  int64 // -1 when unknown
	body    *replay
	trailer http.Header // filled when the body has ended; nil when none were announced
	limits  *watchdog
}

// attempt is one try of an outbound request at one pod.
type attempt struct {
	pool   *Pool
	o      *outbound
	out    responder
	start  time.Time
	conn   *httpConn    // nil until there is one
	reused bool         // conn came out of the pool
	before int64        // bytes that had been written to conn before
	headed atomic.Bool  // the head went to the connection's writer
	first  atomic.Int64 // nanoseconds after start at which the first byte came
	mu     sync.Mutex   // guards sealed and the responder's informational
	sealed bool         // RoundTrip has returned
	res    Result
}

// staleTries is how many connections may turn out to be closed, or going, before a request is given back.
const staleTries = 4

// forwardHTTP sends o to the pod by net/http, and the response to out. It is the only place that sends a request to the
// same pod again: net/http never does.
func (p *Pool) forwardHTTP(o *outbound, out responder) Result {
	for tries := 1; ; tries++ {
		a := &attempt{pool: p, o: o, out: out, start: time.Now()}
		res := a.run()
		if !res.Retryable || !a.stale(res.Cause) || tries == staleTries {
			return res
		}
	}
}

// stale reports that the request met a connection which the pod had closed or was about to leave: another may be good.
func (a *attempt) stale(cause fault.Cause) bool {
	return cause == fault.ConnectFailed && a.conn != nil && (a.reused || a.conn.h2)
}

func (a *attempt) run() Result {
	ctx, cancel := context.WithCancel(httptrace.WithClientTrace(a.o.ctx, a.trace()))
	defer cancel()
	conn, reused, err := a.pool.takeHTTP(a.o.ctx)
	if err != nil {
		return a.refused(err)
	}
	defer a.pool.h2.put(conn)
	a.conn, a.reused, a.before = conn, reused, conn.wire.written.Load()
	req, err := a.request(ctx)
	if err != nil {
		conn.Release()
		return a.failed(fault.Internal, err, false)
	}
	res, err := conn.RoundTrip(req)
	a.seal()
	a.res.FirstByte = time.Duration(a.first.Load())
	if err != nil {
		return a.refused(err)
	}
	defer res.Body.Close()
	if a.pool.cfg.NotAdmitted && res.Header.Get(NotAdmittedHeader) != "" {
		_, _ = io.CopyN(io.Discard, res.Body, min(res.ContentLength, copyBufferBytes))
		return a.failed(fault.NotAdmitted, fault.NotAdmitted, a.replayable())
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return a.failed(fault.UpstreamProtocol, errSwitching, false)
	case res.StatusCode < 200 || res.StatusCode > 999:
		return a.failed(fault.UpstreamProtocol, errHead, false)
	}
	return a.pass(res)
}

// trace hears of what decides whether the request can be sent again, and of 1xx responses.
func (a *attempt) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		WroteHeaders:         func() { a.headed.Store(true) },
		GotFirstResponseByte: func() { a.first.CompareAndSwap(0, int64(time.Since(a.start))) },
		Got1xxResponse:       a.informational,
	}
}

// informational passes a 1xx response on, except 100: net/http asks the client for its body by itself as soon as the
// pod wants it. There is no 101 on HTTP/2 (RFC 9113, section 8.6), and on HTTP/1 net/http takes it for final.
func (a *attempt) informational(status int, h textproto.MIMEHeader) error {
	if status == http.StatusSwitchingProtocols {
		return errSwitching
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.o.limits.move()
	if !a.sealed && status != http.StatusContinue {
		out := make(http.Header, len(h))
		copyEndToEnd(out, http.Header(h))
		a.out.informational(status, out)
	}
	return nil
}

func (a *attempt) seal() {
	a.mu.Lock()
	a.sealed = true
	a.mu.Unlock()
}

// maybeSent reports that the pod may have seen some of the request. On an HTTP/1 connection, which is the request's
// own, not a byte must have gone out, or the pod must have closed it before any arrived; on HTTP/2 the head must not have
// been written.
func (a *attempt) maybeSent() bool {
	if a.conn.h2 {
		return a.headed.Load()
	}
	if a.conn.wire.written.Load() == a.before {
		return false
	}
	return !a.reused || a.first.Load() > 0 || !a.conn.wire.unseen(a.before)
}

func (a *attempt) replayable() bool { return a.o.body == nil || a.o.body.replayable() }

// request builds what net/http sends.
func (a *attempt) request(ctx context.Context) (*http.Request, error) {
	o := a.o
	req := (&http.Request{
		Method: o.method, Host: o.host, Header: o.header,
		URL:   a.pool.url(o.target, o.host, a.conn.h2),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: o.length, Trailer: o.trailer, Body: http.NoBody,
	}).WithContext(ctx)
	if o.body != nil {
		body, err := o.body.attempt()
		if err != nil {
			return nil, err
		}
		req.Body = body
	}
	if o.trailer != nil {
		req.ContentLength = -1
	}
	return req, nil
}

// refused ends an attempt that brought no response.
func (a *attempt) refused(err error) Result {
	cause := a.ended()
	switch {
	case cause != fault.None:
		return a.failed(cause, err, false)
	case a.conn == nil:
		return a.failed(connectCause(err), err, a.replayable())
	case a.o.body != nil && a.o.body.failed() != nil:
		return a.failed(fault.ClientGone, err, false)
	case refusedStream(err) || wentAway(err) || !a.maybeSent():
		return a.failed(fault.ConnectFailed, err, a.replayable())
	case a.first.Load() > 0 && !broken(err):
		return a.failed(fault.UpstreamProtocol, err, false)
	}
	return a.failed(fault.UpstreamReset, err, false)
}

// ended returns why the request's context ended, None when it did not.
func (a *attempt) ended() fault.Cause {
	if a.o.ctx.Err() == nil {
		return fault.None
	}
	var cause fault.Cause
	if errors.As(context.Cause(a.o.ctx), &cause) {
		return cause
	}
	return fault.ClientGone
}

// failed ends an attempt without a response of the pod's: answered here, unless it is left to another pod.
func (a *attempt) failed(cause fault.Cause, err error, retryable bool) Result {
	a.res.Cause, a.res.Err, a.res.Retryable = cause, err, retryable
	if !retryable {
		a.count()
		a.res.Status = a.out.fail(cause)
	}
	return a.res
}

func (a *attempt) count() {
	if a.o.body != nil {
		a.o.body.seal()
		a.res.RequestBytes = a.o.body.consumed()
	}
}

// pass sends the pod's response to the client.
func (a *attempt) pass(res *http.Response) Result {
	if a.o.body != nil {
		a.o.body.seal()
	}
	if !a.o.limits.response() {
		return a.failed(a.ended(), a.ended(), false)
	}
	a.o.limits.move()
	h := make(http.Header, len(res.Header)+4)
	copyEndToEnd(h, res.Header)
	delete(h, NotAdmittedHeader)
	if res.StatusCode == http.StatusNoContent {
		delete(h, "Content-Length") // RFC 9110, section 8.6
	}
	err := a.out.begin(res.StatusCode, h, res.ContentLength, announced(res.Trailer))
	if err != nil {
		return a.cut(a.blame(fault.ClientGone), err)
	}
	a.res.Status = res.StatusCode
	if cause, err := a.copyBody(res); err != nil {
		return a.cut(a.blame(cause), err)
	}
	trailer := make(http.Header, len(res.Trailer))
	copyEndToEnd(trailer, res.Trailer)
	if err := a.out.finish(trailer); err != nil {
		return a.cut(a.blame(fault.ClientGone), err)
	}
	a.count()
	return a.res
}

// blame prefers the reason for which the request's context ended over what the broken stream looks like.
func (a *attempt) blame(cause fault.Cause) fault.Cause {
	if c := a.ended(); c != fault.None {
		return c
	}
	return cause
}

func (a *attempt) cut(cause fault.Cause, err error) Result {
	a.count()
	a.res.Cause, a.res.Err = cause, err
	a.out.abort()
	return a.res
}

// copyBody passes the body on as it comes. A part is flushed unless it is known to be the last.
func (a *attempt) copyBody(res *http.Response) (fault.Cause, error) {
	buf := a.pool.h2.buffer()
	defer a.pool.h2.buffers.Put(buf)
	if a.o.method == http.MethodHead || !bodyAllowed(res.StatusCode) {
		_, _ = res.Body.Read(buf[:1]) // nothing, which net/http takes for a broken body where the head speaks of one
		return fault.None, nil
	}
	for {
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			a.o.limits.move()
			a.res.ResponseBytes += int64(n)
			if werr := a.out.write(buf[:n], a.res.ResponseBytes != res.ContentLength); werr != nil {
				return fault.ClientGone, werr
			}
			a.o.limits.move()
		}
		if err == io.EOF {
			return fault.None, nil
		}
		if err != nil {
			return fault.UpstreamAborted, err
		}
	}
}

// streamReset has the shape of net/http's HTTP/2 stream error, which errors.As fills in by field names.
type streamReset struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (streamReset) Error() string { return "stream reset" }

// refusedStream reports an HTTP/2 stream that the pod says it has not processed (RFC 9113, section 8.7).
func refusedStream(err error) bool {
	const refused = 0x7
	var reset streamReset
	return errors.As(err, &reset) && reset.Code == refused
}

// wentAway reports an HTTP/2 stream beyond the last one that the pod's GOAWAY says it processes (RFC 9113, section 6.8).
// net/http has no other name for that error than its text.
func wentAway(err error) bool {
	return err != nil && err.Error() == "http2: Transport received Server's graceful shutdown GOAWAY"
}

// broken reports an error of the connection, as against one of what came over it.
func broken(err error) bool {
	var op *net.OpError
	var reset streamReset
	if errors.As(err, &reset) {
		return !errors.Is(reset.Cause, errSwitching)
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, syscall.ECONNRESET) || errors.As(err, &op)
}

// url makes the URL whose request target is the raw one: net/url's own form of a path may be escaped otherwise.
func (p *Pool) url(target, host string, h2 bool) *url.URL {
	u := &url.URL{Scheme: p.scheme(), Host: p.cfg.Addr.String(), Opaque: target}
	if !strings.HasPrefix(target, "//") {
		return u
	}
	// An opaque part with two slashes is written in absolute form: HTTP/2 takes that back off, if the host fits.
	if h2 {
		u.Opaque = "//" + host + target
		return u
	}
	if parsed, err := url.ParseRequestURI(target); err == nil {
		u.Opaque, u.Path, u.RawPath, u.RawQuery, u.ForceQuery = "", parsed.Path, parsed.RawPath, parsed.RawQuery, parsed.ForceQuery
	}
	return u
}

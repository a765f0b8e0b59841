package forward

import (
	"context"
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
)

// h2Exchange is one HTTP/2 stream as an [Exchange]. It is pooled; what other goroutines may still hold when the
// handler has returned (the replayed body, the watchdog, the attempt) is made per request and never part of it.
type h2Exchange struct {
	s        *Server
	w        http.ResponseWriter
	r        *http.Request
	rc       *http.ResponseController
	received time.Time
	remote   netip.AddrPort
	buf      []byte // what byte slices given to the handler point into
	method   []byte
	target   []byte
	host     []byte

	edits edits

	limits   Timeouts
	out      *outbound
	cancel   context.CancelCauseFunc
	answered bool
	aborted  bool
	probing  bool // the handler called MarkProbe

	watch *streamWatch
}

func openStream(s *Server, w http.ResponseWriter, r *http.Request) *h2Exchange {
	x, ok := s.h2.exchanges.Get().(*h2Exchange)
	if !ok {
		x = &h2Exchange{watch: newStreamWatch()}
	}
	x.s, x.w, x.r = s, w, r
	x.rc = http.NewResponseController(w)
	x.received = time.Now()
	x.remote, _ = netip.ParseAddrPort(r.RemoteAddr)
	x.remote = netip.AddrPortFrom(x.remote.Addr().Unmap(), x.remote.Port())
	x.method, x.target, x.host = x.bytes(r.Method), x.bytes(r.RequestURI), x.bytes(r.Host)
	return x
}

// close ends what the stream started, and gives x back for the next one unless the handler panicked: then some
// goroutine may still use it.
func (x *h2Exchange) close() {
	if !x.probing {
		x.s.h2.cameAt(x.s.since(x.received))
	}
	x.watch.close()
	if x.out != nil {
		x.out.limits.stop()
		x.cancel(context.Canceled)
	}
	if !x.answered || x.aborted {
		return
	}
	pool := &x.s.h2.exchanges
	x.edits.reset()
	*x = h2Exchange{watch: x.watch, buf: x.buf[:0], edits: x.edits}
	pool.Put(x)
}

// bytes makes a view of v that lives as long as the exchange.
func (x *h2Exchange) bytes(v string) []byte {
	from := len(x.buf)
	x.buf = append(x.buf, v...)
	return x.buf[from:len(x.buf):len(x.buf)]
}

func (x *h2Exchange) Method() []byte { return x.method }
func (x *h2Exchange) Target() []byte { return x.target }
func (x *h2Exchange) Host() []byte   { return x.host }

func (x *h2Exchange) Path() []byte {
	if i := strings.IndexByte(x.r.RequestURI, '?'); i >= 0 {
		return x.target[:i]
	}
	return x.target
}

func (x *h2Exchange) Header(name string) []byte {
	values := x.r.Header.Values(name)
	if len(values) == 0 {
		return nil
	}
	return x.bytes(values[0])
}

func (x *h2Exchange) Values(name string) (all [][]byte) {
	for _, v := range x.r.Header.Values(name) {
		all = append(all, []byte(v))
	}
	return all
}

func (x *h2Exchange) Proto() Proto               { return HTTP2 }
func (x *h2Exchange) Upgrade() bool              { return false }
func (x *h2Exchange) GRPC() bool                 { return grpcContent(x.r.Header.Get("Content-Type")) }
func (x *h2Exchange) TLS() bool                  { return x.r.TLS != nil }
func (x *h2Exchange) RemoteAddr() netip.AddrPort { return x.remote }
func (x *h2Exchange) MarkProbe()                 { x.probing = true } // other streams share the connection
func (x *h2Exchange) Received() time.Time        { return x.received }
func (x *h2Exchange) Gone() bool                 { return x.r.Context().Err() != nil }

// grpcContent reports whether a content type is gRPC's.
func grpcContent(contentType string) bool {
	const grpc = "application/grpc"
	if len(contentType) < len(grpc) || !strings.EqualFold(contentType[:len(grpc)], grpc) {
		return false
	}
	return len(contentType) == len(grpc) || contentType[len(grpc)] == '+' || contentType[len(grpc)] == ';'
}

func (x *h2Exchange) Set(name, value string) {
	x.edits.add(&x.edits.req, edit{name: name, value: value})
}
func (x *h2Exchange) Remove(name string) { x.edits.add(&x.edits.req, edit{name: name, remove: true}) }

func (x *h2Exchange) SetHost(host string) {
	if !validHost([]byte(host)) {
		x.edits.bad = true
		return
	}
	x.edits.host = host
}

func (x *h2Exchange) SetResponse(name, value string) {
	x.edits.add(&x.edits.resp, edit{name: name, value: value})
}
func (x *h2Exchange) AddResponse(name, value string) {
	x.edits.add(&x.edits.resp, edit{name: name, value: value, beside: true})
}
func (x *h2Exchange) RemoveResponse(name string) {
	x.edits.add(&x.edits.resp, edit{name: name, remove: true})
}

func (x *h2Exchange) Waiter() *breaker.Waiter {
	x.watch.client(x.r.Context())
	return x.watch.waiter
}

func (x *h2Exchange) SetWaitDeadline(t time.Time) { x.watch.deadline(t) }
func (x *h2Exchange) SetTimeouts(t Timeouts)      { x.limits = t }

// Forward implements [Exchange].
func (x *h2Exchange) Forward(to *Pool) Result {
	if x.answered || x.edits.bad {
		return Result{Cause: fault.Internal, Status: x.fail(fault.Internal), Err: errMisuse}
	}
	if x.out == nil {
		x.prepare()
	}
	x.out.limits.resume()
	defer x.out.limits.pause()
	return to.forwardHTTP(x.out, x)
}

// prepare makes the request that all attempts share, and starts the clock of the limits.
func (x *h2Exchange) prepare() {
	ctx, cancel := context.WithCancelCause(x.r.Context())
	rc := x.rc
	var limits *watchdog
	limits = newWatchdog(x.limits, func(c fault.Cause) {
		cancel(c)
		if limits.began {
			// The handler may be blocked on a client that does not read. This resets the stream.
			_ = rc.SetWriteDeadline(past())
		}
	})
	x.cancel = cancel
	x.out = &outbound{
		ctx: ctx, limits: limits,
		method: x.r.Method, target: x.r.RequestURI, host: x.r.Host,
		header: x.outboundHeader(), length: x.r.ContentLength, trailer: x.r.Trailer,
	}
	if x.edits.host != "" {
		x.out.host = x.edits.host
	}
	if x.r.ContentLength != 0 {
		x.out.body = newReplay(x.r.Body, x.s.cfg.ReplayBytes, limits.move)
	}
}

func (x *h2Exchange) outboundHeader() http.Header {
	h := make(http.Header, len(x.r.Header)+4)
	copyEndToEnd(h, x.r.Header)
	if awaitsContinue(x.r) {
		h["Expect"] = []string{"100-continue"}
	}
	x.s.cfg.Forwarding.apply(h, x.remote.Addr(), x.r.Host, x.r.TLS != nil)
	applyEdits(h, x.edits.req)
	quiet(h, "User-Agent")
	return h
}

// awaitsContinue reports that the client waits for a 100 before it sends the body. net/http takes the header away
// and answers by itself at the body's first read; the body tells what it is going to do, though not in its API.
func awaitsContinue(r *http.Request) bool {
	v := reflect.ValueOf(r.Body)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return false
	}
	f := v.Elem().FieldByName("needsContinue")
	return f.IsValid() && f.Kind() == reflect.Bool && f.Bool()
}

// Reply implements [Exchange].
func (x *h2Exchange) Reply(status int, contentType, body string) {
	if x.answered {
		return
	}
	h := x.w.Header()
	quiet(h, "Content-Type", "Date")
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	x.head(status, h)
	_, _ = x.w.Write([]byte(body))
}

// Fail implements [Exchange].
func (x *h2Exchange) Fail(c fault.Cause, detail string, retryAfter time.Duration) {
	if x.answered {
		return
	}
	h := x.w.Header()
	row, text := fault.Of(c), failText(c, detail)
	if c == fault.ClientGone {
		x.abort()
		return
	}
	if retryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((retryAfter+time.Second-1)/time.Second), 10))
	}
	if x.GRPC() {
		quiet(h, "Content-Length", "Date")
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(row.GRPC))
		h.Set("Grpc-Message", grpcMessage(text))
		x.head(http.StatusOK, h)
		return
	}
	x.Reply(row.Status, "text/plain; charset=utf-8", text+"\n")
}

// head sends a head with the handler's edits in it.
func (x *h2Exchange) head(status int, h http.Header) {
	x.answered = true
	applyEdits(h, x.edits.resp)
	if x.s.h2.draining.Load() {
		h["Connection"] = []string{"close"} // never sent: net/http makes a GOAWAY of it
	}
	x.w.WriteHeader(status)
}

func failText(c fault.Cause, detail string) string {
	if detail == "" {
		return fault.Of(c).Text
	}
	return fault.Of(c).Text + ": " + detail
}

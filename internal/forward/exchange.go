package forward

import (
	"net/netip"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
)

// Handler serves the requests of a [Server].
type Handler interface {
	// ServeExchange answers one request: by Reply, Fail, or Forward with a result that is not retryable. It may
	// block. Returning without an answer makes the engine answer [fault.Internal].
	ServeExchange(x Exchange)
}

// HandlerFunc makes a function a [Handler].
type HandlerFunc func(x Exchange)

// ServeExchange calls f.
func (f HandlerFunc) ServeExchange(x Exchange) { f(x) }

// Proto is the protocol that a request came in by.
type Proto uint8

// The protocols of a request.
const (
	HTTP11 Proto = iota
	HTTP10
	HTTP2
)

// Exchange is one request and its response. Byte slices are views into the request's head: valid until
// ServeExchange returns, not to be changed.
type Exchange interface {
	// Method, Target (raw), Path (raw, without query) and Host (as sent, with its port) of the request.
	Method() []byte
	Target() []byte
	Path() []byte
	Host() []byte
	// Header returns the first value of a request header, nil when absent. name is in any case.
	Header(name string) []byte
	// Values returns all values of a request header, in their order. Unlike Header it allocates.
	Values(name string) [][]byte
	Proto() Proto
	// Upgrade reports that the client asks to leave HTTP, GRPC that it speaks gRPC.
	Upgrade() bool
	GRPC() bool
	// TLS reports that the client's connection is encrypted.
	TLS() bool
	RemoteAddr() netip.AddrPort
	// MarkProbe says that the request asks for the proxy's own state: neither it nor its connection is a sign that clients
	// still come.
	MarkProbe()
	// Received is when the first byte of the head was read.
	Received() time.Time

	// Set replaces (or adds) and Remove drops a header of the request as it is forwarded; SetHost replaces its Host.
	// Up to 8 edits; names are canonical, values without CR, LF or NUL (else the edit is dropped and the request is
	// answered [fault.Internal]). The strings must stay unchanged until ServeExchange returns.
	Set(name, value string)
	Remove(name string)
	SetHost(host string)
	// SetResponse replaces (or adds) and RemoveResponse drops a header of the response, whoever makes it. Up to 8.
	// AddResponse adds one beside those of the same name, which Set-Cookie needs.
	SetResponse(name, value string)
	RemoveResponse(name string)
	AddResponse(name, value string)

	// Waiter returns this stream's place for queues. When the client leaves, it is cancelled with
	// [fault.ClientGone]; when the wait's deadline (SetWaitDeadline) passes, with [fault.QueueDeadline].
	Waiter() *breaker.Waiter
	// SetWaitDeadline arms the deadline of the next wait; zero disarms it. The timer belongs to the connection and
	// is reused. The handler disarms it when the wait is over.
	SetWaitDeadline(t time.Time)
	// Gone reports that the client has left.
	Gone() bool

	// SetTimeouts sets the limits of this request. They count from the first Forward, never while parked.
	SetTimeouts(t Timeouts)

	// Forward sends the request to a pod and passes the response on. When the result is Retryable nothing was
	// answered yet, and the handler either forwards to another pool or calls Fail; every other outcome has been
	// answered (or the stream aborted) when it returns.
	Forward(to *Pool) Result

	// Reply answers a small response of the proxy's own. contentType may be empty when body is.
	Reply(status int, contentType, body string)
	// Fail answers by the fault table; detail, when not empty, follows the table's text in the body. For gRPC
	// requests the answer is trailers-only with the right grpc-status. retryAfter, when positive, becomes
	// Retry-After in whole seconds, rounded up.
	Fail(c fault.Cause, detail string, retryAfter time.Duration)
}

// Timeouts limits one request; 0 means no limit. None cuts an upgraded connection, except Tunnel.
type Timeouts struct {
	Total     time.Duration // whole request, from Forward to the last byte
	Streams   bool          // Total is over once the response has begun, as in Knative: a stream may last longer
	FirstByte time.Duration // until the response begins
	Idle      time.Duration // since a byte last moved in either direction
	Tunnel    time.Duration // upgraded connections: since a byte last moved in either direction
}

// Result says how a Forward ended.
type Result struct {
	// Cause is [fault.None] when the complete response was passed on.
	Cause fault.Cause
	// Retryable is true when certainly no application saw the request, nothing was answered, and the request can be
	// sent again (no body byte was consumed, or all of it was kept).
	Retryable bool
	// Status is the status that the client was sent, 0 when none was.
	Status int
	// FirstByte is the time from Forward to the first byte of the response, 0 when there was none.
	FirstByte time.Duration
	// Upgraded is true for a connection that became a tunnel.
	Upgraded bool
	// RequestBytes and ResponseBytes count body bytes that were passed on.
	RequestBytes, ResponseBytes int64
	// Err is the underlying error, for logs; nil when Cause is None.
	Err error
}

// NotAdmittedHeader is the private response header by which our queue-proxy says that it refused a request before
// the application saw it. Pools that lead to a queue-proxy of ours turn it into a retryable result; it is stripped
// from every application's response.
const NotAdmittedHeader = "Rouse-Not-Admitted"

// Package fault is the one table of everything that can end a request early: what the client is told over HTTP and
// over gRPC, whether another pod may be tried, and under which label the metrics count it.
//
// Proxies name a [Cause]; nobody else invents a status code. The table is fixed at build time.
package fault

// Cause says why a request did not get its complete response from the application.
type Cause uint8

// The causes, in the order of a request's life.
const (
	None               Cause = iota // complete response passed on
	BadRequest                      // not HTTP, or something that could be smuggled
	TargetTooLong                   // request target over the limit
	HeadTooLarge                    // request head over the limit
	NoRoute                         // no revision serves this host
	NotSynced                       // this instance has not heard yet which hosts there are
	QueueFull                       // the revision's queue is at its bound
	QueueFullTotal                  // all queues together are at their bound
	QueueDeadline                   // parked longer than the queue deadline
	WakeFailed                      // the revision's pods cannot start
	Draining                        // this instance takes nothing new
	ClientGone                      // the client left first
	ConnectFailed                   // no connection to the pod: it saw nothing
	UpstreamUnverified              // the pod's certificate is not the expected one: it was sent nothing
	NotAdmitted                     // the pod's queue-proxy refused before the application saw anything
	UpstreamReset                   // the pod's connection ended before a response began
	UpstreamProtocol                // the pod's response is not valid HTTP
	UpstreamAborted                 // the pod's connection ended inside the response
	TimeoutTotal                    // the whole request took too long
	TimeoutFirstByte                // the response did not begin in time
	TimeoutIdle                     // nothing moved for too long
	Internal                        // a bug of ours
	causes
)

// Row is what follows from a cause.
type Row struct {
	Status    int    // HTTP status, when no response has begun
	GRPC      int    // grpc-status, for gRPC requests
	Retryable bool   // certainly not processed: another pod may be tried
	Close     bool   // the client's HTTP/1 connection cannot be used further
	Label     string // metric label value
	Text      string // body: what happened, and which knob is the remedy
}

// gRPC status codes, by number so that the sidecar does not link a gRPC library.
const (
	grpcOK                = 0
	grpcCanceled          = 1
	grpcDeadlineExceeded  = 4
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
)

var table = [causes]Row{
	None:               {200, grpcOK, false, false, "ok", ""},
	BadRequest:         {400, grpcInternal, false, true, "bad_request", "malformed HTTP request"},
	TargetTooLong:      {414, grpcInternal, false, true, "target_too_long", "request target is longer than the limit"},
	HeadTooLarge:       {431, grpcResourceExhausted, false, true, "head_too_large", "request head is larger than the limit"},
	NoRoute:            {404, grpcUnimplemented, false, false, "no_route", "no service has this host"},
	NotSynced:          {503, grpcUnavailable, true, false, "not_synced", "this instance has just started and has not heard from control yet which services there are"},
	QueueFull:          {503, grpcResourceExhausted, true, false, "queue_full", "the revision's request queue is full"},
	QueueFullTotal:     {503, grpcResourceExhausted, false, false, "queue_full_total", "the request queues of all revisions together are full"},
	QueueDeadline:      {503, grpcUnavailable, false, false, "queue_deadline", "no pod became free within the queue deadline"},
	WakeFailed:         {503, grpcUnavailable, false, false, "wake_failed", "the revision cannot start"},
	Draining:           {503, grpcUnavailable, true, false, "draining", "this instance is shutting down"},
	ClientGone:         {499, grpcCanceled, false, true, "client_gone", "the client closed the connection"},
	ConnectFailed:      {502, grpcUnavailable, true, false, "connect_failed", "no connection to the pod"},
	UpstreamUnverified: {502, grpcUnavailable, true, false, "upstream_unverified", "the pod's certificate is not the expected one (certificate authority or subject alternative name)"},
	NotAdmitted:        {503, grpcUnavailable, true, false, "not_admitted", "the pod takes no further request"},
	UpstreamReset:      {502, grpcUnavailable, false, false, "upstream_reset", "the pod closed the connection before it answered"},
	UpstreamProtocol:   {502, grpcInternal, false, false, "upstream_protocol", "the pod's answer is not valid HTTP"},
	UpstreamAborted:    {502, grpcUnavailable, false, true, "upstream_aborted", "the pod closed the connection inside its answer"},
	TimeoutTotal:       {504, grpcDeadlineExceeded, false, false, "timeout_total", "request timeout (timeoutSeconds)"},
	TimeoutFirstByte:   {504, grpcDeadlineExceeded, false, false, "timeout_response_start", "response start timeout (responseStartTimeoutSeconds)"},
	TimeoutIdle:        {504, grpcDeadlineExceeded, false, true, "timeout_idle", "idle timeout (idleTimeoutSeconds)"},
	Internal:           {500, grpcInternal, false, true, "internal", "internal error"},
}

// Of returns the row of a cause.
func Of(c Cause) Row { return table[c] }

// Count is how many causes there are; valid causes are 0 … Count-1.
const Count = int(causes)

// String returns the cause's metric label.
func (c Cause) String() string { return table[c].Label }

// Error makes a cause usable as an error value; its text is the row's.
func (c Cause) Error() string { return table[c].Text }

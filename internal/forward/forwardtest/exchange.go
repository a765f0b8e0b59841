// Package forwardtest has a test double of forward.Exchange: handlers can be tested without a socket.
//
// An Exchange records what a handler does with it. Its client can be made to leave from any goroutine; everything
// else belongs to the handler's goroutine until ServeExchange has returned.
package forwardtest

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
)

// Exchange is a request that a test makes up. Make one with [New].
type Exchange struct {
	MethodV, TargetV, HostV string
	Headers                 map[string]string   // by lower-case name
	More                    map[string][]string // further values of a header in Headers, by lower-case name
	ProtoV                  forward.Proto
	UpgradeV, GRPCV, TLSV   bool
	// OnForward answers Forward; nil answers a complete 200.
	OnForward func(to *forward.Pool) forward.Result

	// What the handler did.
	Forwards        int
	Probe           bool
	Status          int
	Body            string
	Cause           fault.Cause
	RetryAfter      time.Duration
	RequestEdits    map[string]string // "" for removed
	ResponseEdits   map[string]string
	ResponseAdded   []string // "Name: value"
	HostEdit        string
	TimeoutsV       forward.Timeouts
	received        time.Time
	waiter          *breaker.Waiter
	gone            atomic.Bool
	timer           *time.Timer
	mu              sync.Mutex // guards timer
	DeadlinesArmed  int
	answeredTwiceBy string
}

// New returns a GET of "/" for the host.
func New(host string) *Exchange {
	return &Exchange{
		MethodV: "GET", TargetV: "/", HostV: host, Headers: map[string]string{},
		RequestEdits: map[string]string{}, ResponseEdits: map[string]string{},
		received: time.Now(), waiter: breaker.NewWaiter(),
	}
}

// Leave makes the client close its connection.
func (x *Exchange) Leave() {
	x.gone.Store(true)
	x.waiter.Cancel(fault.ClientGone)
}

// AnsweredTwice names the second answer, if the handler made one.
func (x *Exchange) AnsweredTwice() string { return x.answeredTwiceBy }

func (x *Exchange) answer(status int, by string) {
	if x.Status != 0 {
		x.answeredTwiceBy = by
	}
	x.Status = status
}

// Method implements forward.Exchange.
func (x *Exchange) Method() []byte { return []byte(x.MethodV) }

// Target implements forward.Exchange.
func (x *Exchange) Target() []byte { return []byte(x.TargetV) }

// Path implements forward.Exchange.
func (x *Exchange) Path() []byte {
	path, _, _ := strings.Cut(x.TargetV, "?")
	return []byte(path)
}

// Host implements forward.Exchange.
func (x *Exchange) Host() []byte { return []byte(x.HostV) }

// Header implements forward.Exchange.
func (x *Exchange) Header(name string) []byte {
	if v, ok := x.Headers[strings.ToLower(name)]; ok {
		return []byte(v)
	}
	return nil
}

// Values implements forward.Exchange.
func (x *Exchange) Values(name string) (all [][]byte) {
	if v := x.Header(name); v != nil {
		all = append(all, v)
	}
	for _, v := range x.More[strings.ToLower(name)] {
		all = append(all, []byte(v))
	}
	return all
}

// Proto implements forward.Exchange.
func (x *Exchange) Proto() forward.Proto { return x.ProtoV }

// Upgrade implements forward.Exchange.
func (x *Exchange) Upgrade() bool { return x.UpgradeV }

// GRPC implements forward.Exchange.
func (x *Exchange) GRPC() bool { return x.GRPCV }

// TLS implements forward.Exchange.
func (x *Exchange) TLS() bool { return x.TLSV }

// MarkProbe implements forward.Exchange.
func (x *Exchange) MarkProbe() { x.Probe = true }

// RemoteAddr implements forward.Exchange.
func (x *Exchange) RemoteAddr() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:1234") }

// Received implements forward.Exchange.
func (x *Exchange) Received() time.Time { return x.received }

// Set implements forward.Exchange.
func (x *Exchange) Set(name, value string) { x.RequestEdits[name] = value }

// Remove implements forward.Exchange.
func (x *Exchange) Remove(name string) { x.RequestEdits[name] = "" }

// SetHost implements forward.Exchange.
func (x *Exchange) SetHost(host string) { x.HostEdit = host }

// SetResponse implements forward.Exchange.
func (x *Exchange) SetResponse(name, value string) { x.ResponseEdits[name] = value }

// AddResponse implements forward.Exchange.
func (x *Exchange) AddResponse(name, value string) {
	x.ResponseAdded = append(x.ResponseAdded, name+": "+value)
}

// RemoveResponse implements forward.Exchange.
func (x *Exchange) RemoveResponse(name string) { x.ResponseEdits[name] = "" }

// Waiter implements forward.Exchange.
func (x *Exchange) Waiter() *breaker.Waiter { return x.waiter }

// SetWaitDeadline implements forward.Exchange.
func (x *Exchange) SetWaitDeadline(t time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.timer != nil {
		x.timer.Stop()
		x.timer = nil
	}
	if !t.IsZero() {
		x.DeadlinesArmed++
		x.timer = time.AfterFunc(time.Until(t), func() { x.waiter.Cancel(fault.QueueDeadline) })
	}
}

// Gone implements forward.Exchange.
func (x *Exchange) Gone() bool { return x.gone.Load() }

// SetTimeouts implements forward.Exchange.
func (x *Exchange) SetTimeouts(t forward.Timeouts) { x.TimeoutsV = t }

// Forward implements forward.Exchange.
func (x *Exchange) Forward(to *forward.Pool) forward.Result {
	x.Forwards++
	res := forward.Result{Status: 200}
	if x.OnForward != nil {
		res = x.OnForward(to)
	}
	if !res.Retryable {
		x.answer(res.Status, "Forward")
	}
	return res
}

// Reply implements forward.Exchange.
func (x *Exchange) Reply(status int, _, body string) {
	x.answer(status, "Reply")
	x.Body = body
}

// Fail implements forward.Exchange.
func (x *Exchange) Fail(c fault.Cause, detail string, retryAfter time.Duration) {
	x.answer(fault.Of(c).Status, "Fail")
	x.Cause, x.Body, x.RetryAfter = c, fault.Of(c).Text+": "+detail, retryAfter
}

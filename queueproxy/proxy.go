package queueproxy

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// Headers of Knative's data plane.
const (
	headerOriginalHost = "K-Original-Host"
	headerNamespace    = "Knative-Serving-Namespace" // the ingress says it to the activator; not for applications
	headerRevision     = "Knative-Serving-Revision"
	headerProxy        = "K-Proxy-Request"
	proxyActivator     = "activator"
)

// Knative lets ten times the limit wait in a pod.
const queuePerSlot = 10

// Config of a [Proxy].
type Config struct {
	Revision identity.Revision
	Pod      string
	// ContainerConcurrency is the limit of requests in the application; 0 means none.
	ContainerConcurrency int
	// QueueLimit bounds the requests that wait for a slot; 0 means ten times the limit.
	QueueLimit int
	// Timeouts count from a request's arrival, the wait for a slot included, as Knative's do. Idle counts anew once the
	// request has its slot.
	Timeouts forward.Timeouts
	// App is where the application listens.
	App netip.AddrPort
	// StatPeriod is how often load is reported, default 1 s.
	StatPeriod time.Duration
}

// Default returns the configuration with every zero field replaced by its default.
func (c Config) Default() Config {
	if c.QueueLimit == 0 {
		c.QueueLimit = queuePerSlot * c.ContainerConcurrency
	}
	if c.StatPeriod == 0 {
		c.StatPeriod = time.Second
	}
	return c
}

// Validate names every field that is out of range.
func (c Config) Validate() error {
	var errs []error
	if c.ContainerConcurrency < 0 {
		errs = append(errs, errors.New("queueproxy: ContainerConcurrency must be 0 (no limit) or more"))
	}
	if c.QueueLimit < 0 {
		errs = append(errs, errors.New("queueproxy: QueueLimit must be 0 (ten times the limit) or more"))
	}
	if !c.App.IsValid() {
		errs = append(errs, errors.New("queueproxy: App must be the address of the application"))
	}
	if c.StatPeriod < 10*time.Millisecond {
		errs = append(errs, errors.New("queueproxy: StatPeriod must be at least 10ms"))
	}
	return errors.Join(errs...)
}

// Deps are what a proxy works with.
type Deps struct {
	// Pool leads to the application; its owner closes it.
	Pool *forward.Pool
	// PoolHTTP2, when set, leads to the same application for requests that came over HTTP/2.
	PoolHTTP2 *forward.Pool
	// Stats receives a report every StatPeriod; nil for none.
	Stats StatSink
	// Usage measures what the application uses, for those reports; nil for nobody.
	Usage Usage
	// Ready says whether the application answers its probes; nil means always. It may block, as long as a probe that
	// waits for the application's start does; its context ends when the proxy drains.
	Ready func(ctx context.Context) bool
	// Observer counts outcomes; nil for none.
	Observer Observer
	// Log writes a line per request; nil for none.
	Log RequestLog
}

// RequestLog writes one line per request.
type RequestLog interface {
	// Record is called on the request's goroutine, before the request becomes invalid. status is what the client was
	// sent, or would have been had it stayed.
	Record(x forward.Exchange, status int, responseBytes int64, took time.Duration)
	// Probes says whether probes are recorded too.
	Probes() bool
}

// Observer counts. Its methods are called on the request path and must be cheap and not block.
type Observer interface {
	// Done is called once per request that is not a probe. app is the time that the application had it, 0 when it
	// was not admitted. tag is the traffic target that the request was routed by: nil when the ingress does not route by tags.
	Done(res forward.Result, tag []byte, took, app time.Duration)
}

// Proxy is the sidecar's request handler: see the package comment.
type Proxy struct {
	cfg      Config
	deps     Deps
	slots    *breaker.Breaker // nil without a limit
	load     load
	last     atomic.Pointer[metrics.Stat]
	draining atomic.Bool
	paused   atomic.Int32 // callers of Pause that have not resumed
	// Readiness is asked in probing, which ends with the drain.
	probing context.Context
	stop    context.CancelFunc
}

// New checks cfg and returns a proxy.
func New(cfg Config, deps Deps) (*Proxy, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Pool == nil {
		return nil, errors.New("queueproxy: Deps needs Pool")
	}
	p := &Proxy{cfg: cfg, deps: deps}
	p.probing, p.stop = context.WithCancel(context.Background())
	p.load.init(time.Now())
	if cfg.ContainerConcurrency > 0 {
		p.slots = breaker.New(cfg.ContainerConcurrency, cfg.QueueLimit)
	}
	return p, nil
}

// Observe sets who counts outcomes; call it before the first request.
func (p *Proxy) Observe(o Observer) { p.deps.Observer = o }

// Drain makes probes fail from now on. Requests are still served: whoever owns the listener decides when it ends.
func (p *Proxy) Drain() {
	p.draining.Store(true)
	p.stop()
}

// Pause makes probes fail until resume is called, and changes nothing else.
func (p *Proxy) Pause() (resume func()) {
	p.paused.Add(1)
	return func() { p.paused.Add(-1) }
}

// Draining reports whether Drain was called.
func (p *Proxy) Draining() bool { return p.draining.Load() }

// Depth returns how many requests are in the proxy, and how many of them wait for a slot.
func (p *Proxy) Depth() (inFlight, pending int) {
	if p.slots == nil {
		return p.load.inFlight(), 0
	}
	c := p.slots.Counts()
	return c.InFlight + c.Pending, c.Pending
}

// ServeExchange implements forward.Handler. The frames below a parked request stay small, so that its goroutine keeps
// the 2 KB stack that it started with: waiting and forwarding are calls beside each other, not inside.
func (p *Proxy) ServeExchange(x forward.Exchange) {
	if isProbe(x) {
		x.MarkProbe()
		p.serveProbe(x, p.health)
		return
	}
	if string(x.Header(probeHeader)) == probeNetwork {
		x.MarkProbe()
		p.serveProbe(x, p.network)
		return
	}
	proxied := string(x.Header(headerProxy)) == proxyActivator
	p.load.begin(x.Received(), proxied)
	waited, denied := p.acquire(x)
	p.serve(x, proxied, waited, denied)
}

// acquire takes a slot, and says how long that took when none was free.
func (p *Proxy) acquire(x forward.Exchange) (waited time.Duration, err error) {
	if p.slots == nil || p.slots.TryAcquire() {
		return 0, nil
	}
	began := time.Now()
	limit, over := firstOver(p.cfg.Timeouts)
	if limit > 0 {
		x.SetWaitDeadline(began.Add(limit))
	}
	err = p.slots.Acquire(x.Waiter())
	x.SetWaitDeadline(time.Time{})
	waited = time.Since(began)
	switch {
	case errors.Is(err, fault.QueueDeadline):
		err = over
	case err == nil && limit > 0 && waited >= limit: // both in one moment
		p.slots.Release()
		err = over
	}
	return waited, err
}

// firstOver is the shortest of the timeouts that are set, which ends a request that waits, and the cause that it ends by.
func firstOver(t forward.Timeouts) (limit time.Duration, over fault.Cause) {
	limit, over = t.Total, fault.TimeoutTotal
	if t.FirstByte > 0 && (limit == 0 || t.FirstByte < limit) {
		limit, over = t.FirstByte, fault.TimeoutFirstByte
	}
	if t.Idle > 0 && (limit == 0 || t.Idle < limit) {
		limit, over = t.Idle, fault.TimeoutIdle
	}
	return limit, over
}

// left is what a request that has waited, for less than each of its timeouts, has left of them.
func left(t forward.Timeouts, waited time.Duration) forward.Timeouts {
	for _, limit := range [...]*time.Duration{&t.Total, &t.FirstByte} {
		if *limit > 0 {
			*limit -= waited
		}
	}
	return t
}

// serve forwards a request that has a slot, answers one that has none, and counts both.
func (p *Proxy) serve(x forward.Exchange, proxied bool, waited time.Duration, denied error) {
	res, app, now := p.counted(x, proxied, waited, denied)
	took := now.Sub(x.Received())
	if p.deps.Observer != nil {
		p.deps.Observer.Done(res, routeTag(x), took, app)
	}
	if p.deps.Log != nil {
		p.deps.Log.Record(x, statusOf(res), res.ResponseBytes, took)
	}
}

// counted sees a request through and counts it out, whatever happens: what is in flight for ever keeps a pod for ever.
func (p *Proxy) counted(x forward.Exchange, proxied bool, waited time.Duration, denied error) (res forward.Result, app time.Duration, now time.Time) {
	defer func() {
		now = time.Now()
		p.load.end(now, proxied, app)
	}()
	if denied != nil {
		return p.refuse(x, denied), 0, now
	}
	res, app = p.admitted(x, waited)
	return res, app, now
}

// statusOf is the status that the client was sent; one that was sent nothing counts under the status of the cause.
func statusOf(res forward.Result) int {
	if res.Status == 0 {
		return fault.Of(res.Cause).Status
	}
	return res.Status
}

// admitted forwards a request and gives its slot back, whatever happens.
func (p *Proxy) admitted(x forward.Exchange, waited time.Duration) (forward.Result, time.Duration) {
	if p.slots != nil {
		defer p.slots.Release()
	}
	return p.forward(x, waited)
}

func (p *Proxy) forward(x forward.Exchange, waited time.Duration) (forward.Result, time.Duration) {
	if host := x.Header(headerOriginalHost); host != nil {
		x.SetHost(string(host))
		x.Remove(headerOriginalHost)
	}
	for _, name := range [...]string{headerNamespace, headerRevision} {
		if x.Header(name) != nil { // an edit costs more than a look
			x.Remove(name)
		}
	}
	if waited == 0 {
		x.SetTimeouts(p.cfg.Timeouts)
	} else {
		x.SetTimeouts(left(p.cfg.Timeouts, waited))
	}
	start := time.Now()
	res := x.Forward(p.pool(x))
	if res.Retryable {
		// The application saw nothing: let an activator of ours try another pod.
		x.SetResponse(forward.NotAdmittedHeader, res.Cause.String())
		x.Fail(res.Cause, "the application at "+p.cfg.App.String()+" takes no connection", 0)
	}
	return res, time.Since(start)
}

func (p *Proxy) pool(x forward.Exchange) *forward.Pool {
	if p.deps.PoolHTTP2 != nil && x.Proto() == forward.HTTP2 {
		return p.deps.PoolHTTP2
	}
	return p.deps.Pool
}

// refuse answers a request that got no slot.
func (p *Proxy) refuse(x forward.Exchange, err error) forward.Result {
	cause, detail, retryAfter := fault.Internal, err.Error(), time.Duration(0)
	switch {
	case errors.Is(err, breaker.ErrFull):
		cause, detail, retryAfter = fault.QueueFull, "pending request queue full", time.Second
		x.SetResponse(forward.NotAdmittedHeader, cause.String())
	case errors.As(err, &cause):
		detail = "no slot of containerConcurrency became free"
	}
	x.Fail(cause, detail, retryAfter)
	return forward.Result{Cause: cause, Status: fault.Of(cause).Status, Err: err}
}

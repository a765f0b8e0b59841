package queueproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/lifecycle"
)

const (
	// How often a draining sidecar looks whether it is idle.
	drainPoll = 20 * time.Millisecond
	// How long the end of an application may come before the sign that the pod ends too.
	restartNotice = time.Second
)

// SidecarConfig of a [Sidecar].
type SidecarConfig struct {
	Proxy  Config
	Server forward.Config
	// TLS, when set, is for [Sidecar.RunTLS].
	TLS *tls.Config
	// Protocol is what the application speaks, H1 or H2C.
	Protocol endpoint.Protocol
	// FollowProtocol gives the application requests that came over HTTP/2 as h2c, whatever Protocol says, as Knative
	// does: the caller knows what the application speaks.
	FollowProtocol bool
	// Drain says when a stopping sidecar may end. Callers that are told at once need no minimum: NoDrainDelay.
	Drain lifecycle.DrainConfig
}

// NoDrainDelay is the drain of a sidecar whose callers are told at once: over as soon as nothing is in flight.
func NoDrainDelay(grace time.Duration) lifecycle.DrainConfig {
	return lifecycle.DrainConfig{Minimum: time.Nanosecond, Quiet: time.Nanosecond, Grace: grace}
}

// Sidecar is a proxy with the servers in front of it and the connections behind it: what stands in a pod. It is safe
// for concurrent use. Whoever made it ends it with [Sidecar.Stop].
type Sidecar struct {
	cfg     SidecarConfig
	proxy   *Proxy
	servers []*forward.Server // clear text, and TLS when configured
	pools   []*forward.Pool

	began chan struct{} // closed when the drain begins
	mu    sync.Mutex    // guards the following
	drain *lifecycle.Drain

	announced bool
}

// NewSidecar checks cfg and returns a sidecar that serves nothing yet. Pools are made here.
func NewSidecar(cfg SidecarConfig, deps Deps) (*Sidecar, error) {
	if cfg.Drain.Grace == 0 {
		cfg.Drain.Grace = max(cfg.Drain.Default().Grace, cfg.Proxy.Timeouts.Total)
	}
	if err := cfg.Drain.Validate(); err != nil {
		return nil, err
	}
	s := &Sidecar{cfg: cfg, began: make(chan struct{})}
	deps.Pool = s.pool(cfg.Protocol)
	if cfg.FollowProtocol && cfg.Protocol != endpoint.H2C {
		deps.PoolHTTP2 = s.pool(endpoint.H2C)
	}
	if err := s.build(deps); err != nil {
		s.closePools()
		return nil, err
	}
	return s, nil
}

func (s *Sidecar) pool(protocol endpoint.Protocol) *forward.Pool {
	p := forward.NewPool(forward.PoolConfig{Addr: s.cfg.Proxy.App, Protocol: protocol, MaxIdle: s.cfg.Proxy.ContainerConcurrency})
	s.pools = append(s.pools, p)
	return p
}

func (s *Sidecar) build(deps Deps) (err error) {
	if s.proxy, err = New(s.cfg.Proxy, deps); err != nil {
		return err
	}
	configs := []*tls.Config{nil}
	if s.cfg.TLS != nil {
		configs = append(configs, s.cfg.TLS)
	}
	for _, t := range configs {
		cfg := s.cfg.Server
		// What the client asked for is the front's to say: the Host that comes here is the pod's address behind an activator.
		cfg.Forwarding = forward.Forwarding{XForwardedFor: true, Forwarded: true}
		cfg.TLS = t
		server, err := forward.NewServer(cfg, s.proxy)
		if err != nil {
			return err
		}
		s.servers = append(s.servers, server)
	}
	return nil
}

func (s *Sidecar) closePools() {
	for _, p := range s.pools {
		p.Close()
	}
}

// Proxy returns the request handler, for its figures.
func (s *Sidecar) Proxy() *Proxy { return s.proxy }

// Run serves ln and reports load until ctx ends. Connections that exist go on: see [Sidecar.Stop].
func (s *Sidecar) Run(ctx context.Context, ln net.Listener) error {
	reporting := make(chan struct{})
	go func() {
		defer close(reporting)
		s.proxy.Run(ctx)
	}()
	err := s.servers[0].Serve(ctx, ln)
	<-reporting
	return err
}

// RunTLS serves ln, encrypted by SidecarConfig.TLS, until ctx ends. It goes beside [Sidecar.Run].
func (s *Sidecar) RunTLS(ctx context.Context, ln net.Listener) error {
	if len(s.servers) < 2 {
		return errors.Join(errors.New("queueproxy: RunTLS needs SidecarConfig.TLS"), ln.Close())
	}
	return s.servers[1].Serve(ctx, ln)
}

// BeginDrain makes probes fail and connections close after their next response, from now on. Requests are still
// served, on connections that are there and on new ones. There is no way back.
func (s *Sidecar) BeginDrain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drain != nil {
		return
	}
	s.drain = lifecycle.NewDrain(s.cfg.Drain)
	s.drain.Begin(time.Now())
	if s.announced {
		s.drain.Announced()
	}
	s.proxy.Drain()
	for _, srv := range s.servers {
		srv.Drain()
	}
	close(s.began)
}

// Announced says that every caller knows of the drain and sends nothing new: a drain, present or future, waits for
// what is in flight alone.
func (s *Sidecar) Announced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.announced = true
	if s.drain != nil {
		s.drain.Announced()
	}
}

// Drain begins to drain, and returns when the minimum has passed, nothing is in flight and neither a request nor a new
// connection came for the quiet time, or when ctx ends. Requests are served throughout. Calling it again, from any goroutine, waits for
// the same end.
func (s *Sidecar) Drain(ctx context.Context) error {
	s.BeginDrain()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for !s.drained(time.Now()) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// AwaitDrain is for the application's end, which does not say whether the pod ends or the application alone is
// restarted. When the pod drains, or begins to within a second, it blocks until the drain is over; else it returns
// false and the sidecar serves as before. Probes fail meanwhile.
func (s *Sidecar) AwaitDrain(ctx context.Context) (drained bool, err error) {
	resume := s.proxy.Pause()
	defer resume()
	notice := time.NewTimer(restartNotice)
	defer notice.Stop()
	select {
	case <-s.began:
		return true, s.Drain(ctx)
	case <-notice.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (s *Sidecar) drained(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	inFlight, came := s.look()
	s.drain.Load(inFlight)
	s.drain.Came(came)
	state, _ := s.drain.State(now)
	return state == lifecycle.Drained
}

// look returns how many requests and tunnels are in flight, and when a client was last heard of.
func (s *Sidecar) look() (inFlight int, came time.Time) {
	active := 0
	for _, srv := range s.servers {
		st := srv.Stats()
		active += st.Active + st.Tunnels
		if last := st.LastCame(); last.After(came) {
			came = last
		}
	}
	inside, _ := s.proxy.Depth()
	return max(inside, active), came
}

// Stop drains and then ends every connection. When ctx ends first, what is left is cut, and the error is that of ctx; when
// nothing was left there is none.
func (s *Sidecar) Stop(ctx context.Context) error {
	errs := []error{s.Drain(ctx)}
	left, _ := s.look()
	nothingCut := errs[0] != nil && left == 0
	for _, srv := range s.servers {
		errs = append(errs, srv.Shutdown(ctx))
	}
	s.closePools()
	if nothingCut {
		return nil
	}
	return errors.Join(errs...)
}

package queueproxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/lifecycle"
)

// How often a draining sidecar looks whether it is idle.
const drainPoll = 20 * time.Millisecond

// SidecarConfig of a [Sidecar].
type SidecarConfig struct {
	Proxy  Config
	Server forward.Config
	// Protocol is what the application speaks, H1 or H2C.
	Protocol endpoint.Protocol
	// Drain says when a stopping sidecar may end. Callers that are told at once need no minimum: NoDrainDelay.
	Drain lifecycle.DrainConfig
}

// NoDrainDelay is the drain of a sidecar whose callers are told at once: over as soon as nothing is in flight.
func NoDrainDelay(grace time.Duration) lifecycle.DrainConfig {
	return lifecycle.DrainConfig{Minimum: time.Nanosecond, Quiet: time.Nanosecond, Grace: grace}
}

// Sidecar is a proxy with the server in front of it and the connections behind it: what stands in a pod.
type Sidecar struct {
	cfg    SidecarConfig
	proxy  *Proxy
	server *forward.Server
	pool   *forward.Pool

	mu    sync.Mutex // guards the following
	drain *lifecycle.Drain
}

// NewSidecar checks cfg and returns a sidecar that serves nothing yet. deps.Pool is made here.
func NewSidecar(cfg SidecarConfig, deps Deps) (*Sidecar, error) {
	idle := cfg.Proxy.ContainerConcurrency
	pool := forward.NewPool(forward.PoolConfig{Addr: cfg.Proxy.App, Protocol: cfg.Protocol, MaxIdle: idle})
	deps.Pool = pool
	if cfg.Drain.Grace == 0 {
		cfg.Drain.Grace = max(cfg.Drain.Default().Grace, cfg.Proxy.Timeouts.Total)
	}
	if err := cfg.Drain.Validate(); err != nil {
		pool.Close()
		return nil, err
	}
	proxy, err := New(cfg.Proxy, deps)
	if err != nil {
		pool.Close()
		return nil, err
	}
	cfg.Server.Forwarding = forward.Forwarding{XForwarded: true, Forwarded: true}
	server, err := forward.NewServer(cfg.Server, proxy)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &Sidecar{cfg: cfg, proxy: proxy, server: server, pool: pool}, nil
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
	err := s.server.Serve(ctx, ln)
	<-reporting
	return err
}

// Drain makes probes fail and connections close after their next response, and returns when the minimum has passed,
// nothing is in flight and no new connection came for the quiet time, or when ctx ends. Requests are served
// throughout. Calling it again, from any goroutine, waits for the same end.
func (s *Sidecar) Drain(ctx context.Context) error {
	s.mu.Lock()
	if s.drain == nil {
		s.drain = lifecycle.NewDrain(s.cfg.Drain)
		s.drain.Begin(time.Now())
		s.proxy.Drain()
		s.server.Drain()
	}
	s.mu.Unlock()
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

func (s *Sidecar) drained(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.server.Stats()
	inside, _ := s.proxy.Depth()
	s.drain.Load(max(inside, st.Active) + st.Tunnels)
	s.drain.Came(st.LastAccept)
	state, _ := s.drain.State(now)
	return state == lifecycle.Drained
}

// Stop drains and then ends every connection. When ctx ends first, what is left is cut.
func (s *Sidecar) Stop(ctx context.Context) error {
	err := errors.Join(s.Drain(ctx), s.server.Shutdown(ctx))
	s.pool.Close()
	return err
}

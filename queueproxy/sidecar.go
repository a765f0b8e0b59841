package queueproxy

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
)

// How often a draining sidecar looks whether it is idle.
const drainPoll = 20 * time.Millisecond

// SidecarConfig of a [Sidecar].
type SidecarConfig struct {
	Proxy  Config
	Server forward.Config
	// Protocol is what the application speaks, H1 or H2C.
	Protocol endpoint.Protocol
	// DrainMinimum is how long a stopping sidecar serves at least, so that its callers learn of it; DrainQuiet how
	// long no connection may have come before it ends. 0 for callers that are told at once.
	DrainMinimum time.Duration
	DrainQuiet   time.Duration
}

// Sidecar is a proxy with the server in front of it and the connections behind it: what stands in a pod.
type Sidecar struct {
	cfg    SidecarConfig
	proxy  *Proxy
	server *forward.Server
	pool   *forward.Pool
}

// NewSidecar checks cfg and returns a sidecar that serves nothing yet. deps.Pool is made here.
func NewSidecar(cfg SidecarConfig, deps Deps) (*Sidecar, error) {
	idle := cfg.Proxy.ContainerConcurrency
	pool := forward.NewPool(forward.PoolConfig{Addr: cfg.Proxy.App, Protocol: cfg.Protocol, MaxIdle: idle})
	deps.Pool = pool
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
// throughout. Calling it again waits for the same end.
func (s *Sidecar) Drain(ctx context.Context) error {
	began := time.Now()
	s.proxy.Drain()
	s.server.Drain()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		if s.drained(began, time.Now()) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Sidecar) drained(began, now time.Time) bool {
	st := s.server.Stats()
	inside, _ := s.proxy.Depth()
	return now.Sub(began) >= s.cfg.DrainMinimum && inside == 0 && st.Active == 0 && st.Tunnels == 0 &&
		now.Sub(st.LastAccept) >= s.cfg.DrainQuiet
}

// Stop drains and then ends every connection. When ctx ends first, what is left is cut.
func (s *Sidecar) Stop(ctx context.Context) error {
	err := errors.Join(s.Drain(ctx), s.server.Shutdown(ctx))
	s.pool.Close()
	return err
}

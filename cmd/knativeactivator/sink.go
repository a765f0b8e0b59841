package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube/knative"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/internal/telemetry"
)

// Put implements knative.Sink.
func (p *plane) Put(r knative.Revision) {
	p.telemetry.Name(r.ID, activator.Labels{
		Namespace: r.ID.Namespace, Service: r.Service, Configuration: r.Configuration, Revision: r.ID.Name,
	})
	var probe activator.Probe
	if r.ProbeEarly {
		probe.By = activator.QueueProbe
	}
	p.activator.Put(r.ID, activator.Settings{
		Probe:                probe,
		ContainerConcurrency: r.ContainerConcurrency,
		QueueLimit:           p.queueLimit,
		QueueDeadline:        r.Timeout,
		QueueTimeout:         true,
		Timeouts:             forward.Timeouts{Total: r.Timeout, Streams: true, FirstByte: r.ResponseStart, Idle: r.Idle},
	})
}

// Remove implements knative.Sink.
func (p *plane) Remove(id identity.Revision) {
	p.activator.Remove(id)
	p.telemetry.Forget(id)
}

// Update implements knative.Sink.
func (p *plane) Update(u endpoint.Update) { p.activator.Update(u) }

// Grant implements knative.Sink.
func (p *plane) Grant(id identity.Revision, grants map[string]int) { p.activator.Grant(id, grants) }

// Dispatched implements activator.Observer.
func (p *plane) Dispatched(rev identity.Revision, cold bool, parked time.Duration) {
	p.telemetry.Dispatched(rev, cold, parked)
}

// Done implements activator.Observer.
func (p *plane) Done(rev identity.Revision, o activator.Outcome) { p.telemetry.Done(rev, o) }

// drain takes what comes until routers have heard of it and everything is answered. A second signal that insists ends it.
func (p *plane) drain(s *settings, signals <-chan os.Signal) error {
	d := lifecycle.NewDrain(s.draining())
	d.Begin(time.Now())
	p.probes.draining.Store(true)
	p.server.Drain()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		st := p.server.Stats()
		d.Came(st.LastCame())
		d.Load(st.Active + st.Tunnels)
		if state, _ := d.State(time.Now()); state == lifecycle.Drained {
			return p.cut()
		}
		select {
		case <-tick.C:
		case sig := <-signals:
			if lifecycle.Insists(sig) {
				return errors.Join(lifecycle.ErrForced, p.cut())
			}
		}
	}
}

// serveAdmin serves metrics and health on a port of their own until ctx ends.
func serveAdmin(ctx context.Context, ln net.Listener, cfg telemetry.AdminConfig, owned *sync.WaitGroup, failed chan<- error) {
	srv := &http.Server{Handler: telemetry.NewAdminHandler(cfg), ReadHeaderTimeout: 10 * time.Second}
	owned.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	})
	owned.Go(func() {
		<-ctx.Done()
		srv.Close()
	})
}

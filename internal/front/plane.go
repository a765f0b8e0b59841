package front

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/activator/podtls"
	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
)

// plane is the activator with what control tells it. It is an assign.Receiver and the activator's StatSink.
type plane struct {
	activator *activator.Activator
	telemetry *activator.Telemetry
	router    Router
	ports     *ports
	client    *assign.Client
	stats     statstream.Tee

	mu   sync.RWMutex // guards revs
	revs map[identity.Key]identity.Revision
}

var _ assign.Receiver = (*plane)(nil)

// newPlane makes the activator and its side of the streams; nothing runs yet.
func newPlane(o *Options, cfg assign.ClientConfig, registry prometheus.Registerer, log *slog.Logger) (*plane, []*statstream.Client, error) {
	p := &plane{revs: map[identity.Key]identity.Revision{}}
	var streams []*statstream.Client
	for _, url := range o.Stats {
		c, err := statstream.NewClient(statstream.ClientConfig{URL: url, Producer: cfg.Instance, Token: o.token, Log: log})
		if err != nil {
			return nil, nil, fmt.Errorf("--stats-urls: %w", err)
		}
		streams = append(streams, c)
		p.stats = append(p.stats, c)
	}
	var err error
	if p.client, err = assign.NewClient(cfg, p); err != nil {
		return nil, nil, fmt.Errorf("--control-urls: %w", err)
	}
	if p.telemetry, err = activator.NewTelemetry(registry, func() float64 { return p.activator.Parked() }); err != nil {
		return nil, nil, err
	}
	pools, err := o.pools(log)
	if err != nil {
		return nil, nil, err
	}
	p.activator, err = activator.New(activator.Config{
		QueueTotal: o.QueueTotal, Tries: o.Tries, Name: o.Name, Zone: o.Zone, Growth: o.Growth,
		ColdStartHeader: o.ColdStartHeader, ServerTiming: o.ServerTiming,
	}, activator.Deps{Router: &p.router, NewPoolOf: pools, Stats: p, Observer: p.telemetry, Pods: p.telemetry, Freed: p.client.Freed, Synced: p.synced})
	if err != nil {
		return nil, nil, err
	}
	if err := p.telemetry.RegisterPods(registry, p.activator); err != nil {
		return nil, nil, err
	}
	p.ports = newPorts(o.PortHost, func(id identity.Revision) lead { return p.activator.Port(id) }, p.client, log, o.DrainMinimum)
	return p, streams, nil
}

// synced says whether control has told everything once.
func (p *plane) synced() bool {
	select {
	case <-p.client.Synced():
		return true
	default:
		return false
	}
}

// pools makes the connections to pods. Only a queue-proxy of ours says that it did not admit a request. Pods that speak
// TLS are verified by what the options name; without, none is believed.
func (o *Options) pools(log *slog.Logger) (func(identity.Revision, endpoint.Endpoint) *forward.Pool, error) {
	var verify *podtls.Client
	if o.PodsCAFile != "" {
		var err error
		verify, err = podtls.Load(podtls.Config{CAFile: o.PodsCAFile, CertFile: o.PodsCertFile, KeyFile: o.PodsKeyFile, Name: o.PodsName}, log)
		if err != nil {
			return nil, fmt.Errorf("--pods-ca-file, --pods-cert-file, --pods-key-file: %w", err)
		}
	}
	return func(rev identity.Revision, e endpoint.Endpoint) *forward.Pool {
		cfg := forward.PoolConfig{Addr: e.Pod.Addr, Protocol: e.Protocol, NotAdmitted: e.Sidecar}
		if verify != nil {
			cfg.TLS = verify.For(rev.Namespace)
		}
		return forward.NewPool(cfg)
	}, nil
}

// Report implements activator.StatSink: control's scaling hears of load, and its leases.
func (p *plane) Report(m metrics.Message) {
	p.stats.Report(m)
	p.mu.RLock()
	id, ok := p.revs[identity.Key{Namespace: m.Namespace, Name: m.Name}]
	p.mu.RUnlock()
	if ok {
		p.client.Active(id)
	}
}

// Put implements assign.Receiver.
func (p *plane) Put(r assign.Revision) {
	p.mu.Lock()
	old, replaced := p.revs[r.ID.Key()]
	p.revs[r.ID.Key()] = r.ID
	p.mu.Unlock()
	if replaced && old != r.ID {
		p.telemetry.Forget(old)
	}
	p.telemetry.Name(r.ID, activator.Labels{Namespace: r.ID.Namespace, Service: r.Service, Configuration: r.Configuration, Revision: r.ID.Name})
	s := r.Settings
	settings := activator.Settings{
		ContainerConcurrency: s.ContainerConcurrency, QueueLimit: s.QueueLimit, QueueDeadline: s.QueueDeadline,
		Timeouts: forward.Timeouts{Total: s.Timeout, FirstByte: s.ResponseStartTimeout, Idle: s.IdleTimeout},
	}
	settings.Choose(s.Dispatching)
	p.activator.Put(r.ID, settings)
}

// Remove implements assign.Receiver.
func (p *plane) Remove(id identity.Revision) {
	p.mu.Lock()
	if p.revs[id.Key()] == id {
		delete(p.revs, id.Key())
	}
	p.mu.Unlock()
	p.activator.Remove(id)
	p.telemetry.Forget(id)
}

// Endpoints implements assign.Receiver.
func (p *plane) Endpoints(u endpoint.Update) { p.activator.Update(u) }

// Fail implements assign.Receiver.
func (p *plane) Fail(id identity.Revision, reason string) { p.activator.Fail(id, reason) }

// Grant implements assign.Receiver.
func (p *plane) Grant(id identity.Revision, grants map[string]int) { p.activator.Grant(id, grants) }

// Use implements assign.Receiver.
func (p *plane) Use(id identity.Revision) (parked int, use map[string]int) {
	parked, _, _ = p.activator.Counts(id)
	return parked, p.activator.Use(id)
}

// Blocked implements assign.Receiver.
func (p *plane) Blocked(id identity.Revision) []string { return p.activator.Blocked(id) }

// Routes implements assign.Receiver.
func (p *plane) Routes(cfg route.Config) error { return p.router.Swap(cfg) }

// Ports implements assign.Receiver.
func (p *plane) Ports(want map[uint16]identity.Revision) { p.ports.set(want) }

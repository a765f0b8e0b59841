// Command knativeactivator takes the place of Knative Serving's activator: the same environment, ports, headers, probes
// and statistics, with the role that Knative's manifests give to it. Only the image of the Deployment changes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/kube/knative"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/internal/telemetry"
)

func main() {
	if config.Help(os.Args[1:], "knativeactivator takes the place of Knative Serving's activator. See docs/knative.md.", &settings{}, os.Stdout) {
		return
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(os.Environ(), signals, os.Stderr))
}

// run is the whole life of the activator: the first signal drains, a second one that insists ends it at once.
func run(environ []string, signals <-chan os.Signal, stderr io.Writer) int {
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	s, err := load(environ)
	if err != nil {
		log.Error("the environment is not usable", "error", err.Error())
		return 2
	}
	for _, name := range config.ServiceLinks(environ, s) {
		log.Info("a variable is not set: kubelet names a Service of this namespace by it", "name", name)
	}
	if err := s.serve(signals, log); err != nil {
		log.Error("activator failed", "error", err.Error())
		return 1
	}
	return 0
}

// serve runs every part until the drain is over.
func (s *settings) serve(signals <-chan os.Signal, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	defer owned.Wait()
	defer cancel()

	stats, err := statstream.NewClient(statstream.ClientConfig{URL: s.autoscaler(), Producer: s.Pod, Log: log})
	if err != nil {
		return err
	}
	registry := telemetry.NewRegistry()
	p := &plane{log: log, queueLimit: s.QueueLimit, synced: make(chan struct{})}
	if err := p.build(s, stats, registry); err != nil {
		return err
	}
	cluster, err := knative.Connect(s.Kubeconfig, "rouse-activator")
	if err != nil {
		return err
	}
	watcher, err := knative.NewWatcher(cluster, s.PodIP, p, log)
	if err != nil {
		return err
	}
	failed, err := s.listen(ctx, p, telemetry.AdminConfig{Gatherer: registry}, &owned)
	if err != nil {
		return err
	}
	owned.Go(func() { _ = stats.Run(ctx) })       // ends with ctx alone, and reconnects until then
	owned.Go(func() { _ = p.activator.Run(ctx) }) // ends with ctx alone
	owned.Go(func() { _ = watcher.Run(ctx, func() { close(p.synced) }) })
	select {
	case <-signals:
		log.Info("draining", "minimum", s.DrainMinimum.String(), "maximum", s.DrainMaximum.String())
		return p.drain(s, signals)
	case err := <-failed:
		return errors.Join(err, p.cut())
	}
}

// plane is the data plane: the activator and the server in front of it.
type plane struct {
	log        *slog.Logger
	queueLimit int
	activator  *activator.Activator
	telemetry  *activator.Telemetry
	server     *forward.Server
	probes     *probes
	synced     chan struct{} // closed when the first list of everything was taken over
}

func (p *plane) build(s *settings, stats activator.StatSink, registry prometheus.Registerer) (err error) {
	// Every series says which activator it is of, as Knative's do.
	registry = prometheus.WrapRegistererWith(prometheus.Labels{"pod_name": s.Pod, "container_name": "activator"}, registry)
	if p.telemetry, err = activator.NewTelemetry(registry, func() float64 { return p.activator.Parked() }); err != nil {
		return err
	}
	p.activator, err = activator.New(activator.Config{Name: s.Pod}, activator.Deps{
		Router: hosts{}, NewPool: s.newPool, Stats: stats, Observer: p, Pods: p.telemetry, Synced: p.isSynced,
	})
	if err != nil {
		return err
	}
	if err := p.telemetry.RegisterPods(registry, p.activator); err != nil {
		return err
	}
	p.probes = &probes{next: p.activator.Handler(true), ready: p.synced}
	// Host and protocol are Knative's ingress to say: behind a DomainMapping the Host that comes here is an internal name.
	p.server, err = forward.NewServer(forward.Config{Forwarding: forward.Forwarding{XForwardedFor: true}}, p.probes)
	return err
}

// newPool makes the connections to a pod. NotAdmitted is understood where the pod's queue-proxy is ours; Knative's never
// says it.
func (s *settings) newPool(e endpoint.Endpoint) *forward.Pool {
	return forward.NewPool(forward.PoolConfig{
		Addr: e.Pod.Addr, Protocol: e.Protocol, NotAdmitted: true, MaxIdle: s.MaxIdlePerHost,
	})
}

// listen opens the ports: requests on two, as the Service's names for HTTP/1 and HTTP/2 want it, and metrics. What
// fails later comes on the channel.
func (s *settings) listen(ctx context.Context, p *plane, admin telemetry.AdminConfig, owned *sync.WaitGroup) (<-chan error, error) {
	failed := make(chan error, 3)
	var listeners []net.Listener
	for _, port := range []uint16{s.HTTPPort, s.H2CPort, s.MetricsPort} {
		ln, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(port))))
		if err != nil {
			for _, open := range listeners {
				open.Close()
			}
			return nil, fmt.Errorf("port %d: %w", port, err)
		}
		listeners = append(listeners, ln)
	}
	for _, ln := range listeners[:2] {
		owned.Go(func() {
			if err := p.server.Serve(ctx, ln); err != nil {
				failed <- err
			}
		})
	}
	serveAdmin(ctx, listeners[2], admin, owned, failed)
	return failed, nil
}

// cut ends the server without waiting for anybody.
func (p *plane) cut() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// drainPoll is how often a drain looks whether it is over.
const drainPoll = 50 * time.Millisecond

// isSynced says whether revisions and pods are known.
func (p *plane) isSynced() bool {
	select {
	case <-p.synced:
		return true
	default:
		return false
	}
}

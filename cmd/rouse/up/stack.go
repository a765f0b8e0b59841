// Package up is `rouse up`: every part of Rouse in one process, with local processes as pods.
//
// It reads manifests, wires activator, control loop and local pods together, narrates, and drains when it is told to
// stop: requests in flight finish, and no process is left behind.
package up

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/front"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods"
	"github.com/rousehq/rouse/internal/manifest"
	"github.com/rousehq/rouse/metrics"
)

// probeMax keeps the pause between two probes of a starting process short: half of it is lost on average at a cold
// start, and a refused connect costs some 30 µs of CPU.
const probeMax = 8 * time.Millisecond

// growth meets a burst while it arrives: on one machine nothing is gained by waiting for the next tick.
const growth = 2

// stack is every component of one `rouse up`.
type stack struct {
	o          *Options
	log        *slog.Logger
	narrator   *narrator
	registry   *prometheus.Registry
	book       *endpoint.Book
	runner     *localpods.Runner
	loop       *control.Loop
	activator  *activator.Activator
	router     *front.Router
	front      frontage
	activators *activators // nil unless they are processes of their own
	fleet      *fleet
	remote     *remote
	public     *forward.Server
	trusted    *forward.Server
	admin      *admin
	scaler     *scaler
	tape       *tape
	telemetry  *activator.Telemetry
	sources    *sources
	address    net.Addr // where requests come in
	local      net.Addr // where this process reaches the activator
	announced  bool     // people know that it runs

	background sync.WaitGroup // removals of revisions
}

// Run starts everything and blocks until ctx ends and the drain is over. A context that ends while draining is the
// caller's second wish: see cut.
func Run(ctx context.Context, o Options, cut <-chan struct{}) error {
	if err := o.validate(); err != nil {
		return err
	}
	p, err := newPlanner(&o)
	if err != nil {
		return err
	}
	for _, w := range manifest.PassedOver(o.Files...) {
		fmt.Fprintln(o.Stderr, "warning:", w)
	}
	sources, err := manifest.Open(o.Stdin, o.Files...)
	if err != nil {
		return err
	}
	in, warnings, err := p.read(sources)
	for _, w := range warnings {
		fmt.Fprintln(o.Stderr, w.String())
	}
	if err != nil {
		return err
	}
	s, err := build(&o, p)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := s.open(in, stop); err != nil {
		return errors.Join(err, s.admin.ln.Close())
	}
	if err := s.addSources(in); err != nil {
		return errors.Join(err, s.admin.ln.Close())
	}
	return s.run(ctx, in, cut)
}

// build makes every component; nothing runs yet.
func build(o *Options, p *planner) (*stack, error) {
	s := &stack{
		o: o, router: &front.Router{}, book: &endpoint.Book{}, registry: prometheus.NewRegistry(),
		log:      slog.New(slog.NewTextHandler(o.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		narrator: &narrator{out: o.Stdout, services: map[identity.Revision]string{}},
	}
	s.fleet = newFleet(s, p)
	var err error
	if s.tape, err = newTape(o.Record); err != nil {
		return nil, err
	}
	for _, step := range []func() error{s.buildLoop, s.buildScaler, s.buildAdmin, s.buildRunner, s.buildActivator, s.buildFrontage} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *stack) buildLoop() (err error) {
	s.loop, err = control.New(control.Config{Growth: growth}, control.Deps{
		Pods: s.book, Observer: s.observeScaling, Log: s.log, Registerer: s.registry,
	})
	return err
}

func (s *stack) buildRunner() (err error) {
	cfg := localpods.Default()
	cfg.BaseEnv = s.o.Environ
	cfg.MaxGrace = s.o.Grace
	cfg.ProbeMax = probeMax
	mode, err := s.o.mode()
	if err != nil {
		return err
	}
	if mode == localpods.SidecarProcess {
		path, err := findSidecar(s.o)
		if err != nil {
			return err
		}
		cfg.SidecarArgv = []string{path}
	}
	deps := localpods.Deps{
		Book: s.book, InProcess: &sidecars{stats: s.loop, aims: s.loop.Aims}, SidecarEnv: s.admin.sidecarEnv, Observer: s.observePods,
		AwaitIdle: func(ctx context.Context, rev identity.Revision, uid string) { s.front.awaitIdle(ctx, rev, uid) },
	}
	if s.o.Verbose {
		deps.Output = localpods.PrefixWriter(s.o.Stdout)
	}
	s.runner, err = localpods.New(cfg, deps)
	return err
}

func (s *stack) buildActivator() (err error) {
	s.activator, err = activator.New(activator.Config{
		QueueTotal: s.o.QueueTotal, Tries: s.o.tries, Growth: growth, ColdStartHeader: s.o.ColdStartHeader, ServerTiming: s.o.ServerTiming,
	}, activator.Deps{
		Router: s.router, NewPool: newPool, Stats: s.tape.stats(s.loop), Observer: s, Pods: s,
	})
	if err != nil {
		return err
	}
	if s.telemetry, err = activator.NewTelemetry(s.registry, s.activator.Parked); err != nil {
		return err
	}
	if err = s.telemetry.RegisterPods(s.registry, s.activator); err != nil {
		return err
	}
	cfg := forward.Config{Forwarding: forward.Forwarding{XForwarded: true}}
	if s.public, err = forward.NewServer(cfg, s.activator.Handler(false)); err != nil {
		return err
	}
	cfg.Forwarding = forward.Forwarding{XForwardedFor: true} // the router in front says host and protocol
	s.trusted, err = forward.NewServer(cfg, s.activator.Handler(true))
	return err
}

// newPool leads to a local pod: on loopback a connection takes no second.
func newPool(e endpoint.Endpoint) *forward.Pool {
	return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr, Protocol: e.Protocol, NotAdmitted: e.Sidecar})
}

func (s *stack) observeScaling(e control.Event) {
	s.narrator.scaling(e)
	s.tape.decision(e, s.book.Snapshot(e.Revision))
}

// Dispatched implements activator.Observer.
func (s *stack) Dispatched(rev identity.Revision, cold bool, parked time.Duration) {
	s.telemetry.Dispatched(rev, cold, parked)
}

// Probed implements activator.PodObserver.
func (s *stack) Probed(rev identity.Revision, pod string, r activator.ProbeResult, since time.Duration) {
	s.telemetry.Probed(rev, pod, r, since)
}

// Ejected implements activator.PodObserver.
func (s *stack) Ejected(rev identity.Revision, pod string, e activator.Ejection) {
	s.telemetry.Ejected(rev, pod, e)
}

// Done implements activator.Observer.
func (s *stack) Done(rev identity.Revision, o activator.Outcome) {
	s.telemetry.Done(rev, o)
	s.tape.request(rev, o)
}

// observePods narrates, and lets waiters fail when a revision cannot start.
func (s *stack) observePods(e localpods.Event) {
	s.narrator.pod(e)
	s.tape.pod(e)
	switch e.Kind {
	case localpods.Failing:
		s.front.fail(e.Revision, e.Reason)
	case localpods.Ready:
		s.front.fail(e.Revision, "")
		s.fleet.observe(e.Revision)
	default:
	}
}

// run starts every part, and stops them in reverse order.
func (s *stack) run(ctx context.Context, in intake, cut <-chan struct{}) error {
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	inner, end := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	failed := make(chan error, 16)
	start := func(name string, run func(context.Context) error) {
		parts.Go(func() {
			if err := run(inner); err != nil && inner.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	start("admin", s.admin.run)
	start("pods", s.runner.Run)
	<-s.runner.Started()
	start("control", s.loop.Run)
	err = s.begin(in)
	start("activators", s.activators.run)
	if err == nil {
		err = s.locate(ctx, listeners)
	}
	if err != nil {
		failed <- err
	}
	start("traffic", s.fleet.run)
	start("remote", s.remote.run)
	start("sources", s.sources.run)
	start("activator", s.activator.Run)
	start("keda", s.scaler.run)
	for _, l := range listeners {
		start("listener "+l.ln.Addr().String(), func(ctx context.Context) error { return l.server.Serve(ctx, l.ln) })
	}
	s.announce()
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	err = errors.Join(err, s.drain(cut))
	end()
	parts.Wait()
	s.background.Wait()
	return errors.Join(err, s.tape.close())
}

// door is a listener of this process with its server.
type door struct {
	server *forward.Server
	ln     net.Listener
}

// listen opens the doors of the activator in this process, none when there are others.
func (s *stack) listen() ([]door, error) {
	if s.activators != nil {
		return nil, nil
	}
	public, err := net.Listen("tcp", s.o.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	doors := []door{{s.public, public}}
	if s.o.Trusted != "" {
		ln, err := net.Listen("tcp", s.o.Trusted)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("--trusted-listen: %w", err), public.Close())
		}
		doors = append(doors, door{s.trusted, ln})
	}
	return doors, nil
}

// locate learns where requests come in: activators in processes of their own are waited for.
func (s *stack) locate(ctx context.Context, doors []door) (err error) {
	if s.activators == nil {
		s.address = doors[0].ln.Addr()
	} else if s.address, err = s.activators.ready(ctx); err != nil {
		return err
	}
	s.local = loopback(s.address)
	return nil
}

// announce tells people and the caller that requests are accepted. Nothing is said when that is not so.
func (s *stack) announce() {
	if s.address == nil {
		return
	}
	s.announced = true
	s.narrator.welcome(s.o, s.address, s.fleet.latest())
	if s.o.OnReady != nil {
		s.o.OnReady(Handle{Addr: s.address, Pods: s.runner.Stats, Health: s.health, InFlight: s.inFlight, stack: s})
	}
}

// loopback turns a listening address into one that this process can dial.
func loopback(a net.Addr) net.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tcp.Port}
}

// begin brings up what was applied before, as far as the manifests still name it, and then the manifests.
func (s *stack) begin(in intake) error {
	for _, old := range s.remote.history(in) {
		if _, err := s.fleet.apply(old, true); err != nil {
			fmt.Fprintf(s.o.Stderr, "history: %v\n", err)
		}
	}
	changes, err := s.fleet.apply(in, true)
	if err != nil {
		return err
	}
	s.activators.own()
	return s.remote.record(in, changes)
}

func (s *stack) health(service string) (localpods.Health, error) {
	id, err := s.fleet.current(service)
	if err != nil {
		return localpods.Health{}, err
	}
	return s.runner.Health(id)
}

func (s *stack) inFlight(service string) int {
	id, err := s.fleet.current(service)
	if err != nil {
		return 0
	}
	_, n := s.front.counts(id)
	return n
}

// drain lets requests in flight finish: the listeners close, parked and running requests go on until the grace ends or
// cut is closed.
func (s *stack) drain(cut <-chan struct{}) error {
	if s.announced {
		fmt.Fprintln(s.o.Stdout, "stopping: requests in flight finish first; a second signal ends everything at once")
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Grace)
	defer cancel()
	stopWatch := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-cut:
			cancel()
			s.activators.kill()
			s.runner.Kill()
		case <-stopWatch:
		}
	}()
	err := errors.Join(s.activators.stop(ctx), s.public.Shutdown(ctx), s.trusted.Shutdown(ctx))
	close(stopWatch)
	<-watched
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("requests were cut: %w", err)
	}
	return err
}

// scaleTarget lets the control loop scale local processes.
type scaleTarget struct{ runner *localpods.Runner }

// Apply implements control.ScaleTarget.
func (t scaleTarget) Apply(ctx context.Context, r control.Request) error {
	return t.runner.Apply(ctx, r.Revision, r.Desired, r.Victims)
}

var _ interface{ Report(metrics.Message) } = (*control.Loop)(nil)

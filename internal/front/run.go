package front

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/internal/telemetry"
	"github.com/rousehq/rouse/queueproxy/servingtls"
)

const (
	drainPoll      = 50 * time.Millisecond
	cutAfter       = 2 * time.Second // for what came when the drain was over already
	goodbyeTimeout = 2 * time.Second // for control to hear that the leases are back
)

// Main is the whole life of an activator process: the first signal drains, a second one that insists ends it at once. It
// returns the exit code.
func Main(args, environ []string, signals <-chan os.Signal, stdin io.Reader, stderr io.Writer) int {
	o, err := Parse(args, environ, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "activator:", err)
		return 2
	}
	log, _, err := telemetry.NewLogger(stderr, telemetry.LogConfig{Format: o.LogFormat, Level: o.LogLevel, Component: "activator"})
	if err != nil {
		fmt.Fprintln(stderr, "activator:", err)
		return 2
	}
	p, err := newProcess(&o, log)
	if err == nil {
		err = p.run(merge(signals, stdin, o.WithStdin))
	}
	if err != nil {
		log.Error("activator failed", "error", err.Error())
		return 1
	}
	return 0
}

// merge turns signals, and the end of standard input where it counts, into one stream of wishes to end.
func merge(signals <-chan os.Signal, stdin io.Reader, withStdin bool) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		told := false
		for sig := range signals {
			if !told || lifecycle.Insists(sig) {
				out <- struct{}{}
			}
			told = true
		}
	}()
	if withStdin {
		go func() {
			_, _ = io.Copy(io.Discard, stdin) // any end is the end
			out <- struct{}{}
		}()
	}
	return out
}

// process is every part of one activator.
type process struct {
	o         *Options
	log       *slog.Logger
	plane     *plane
	stats     []*statstream.Client
	listeners []bound
	admin     *http.Server
	adminLn   net.Listener

	draining chan struct{} // closed when the drain begins

	closePorts  context.CancelFunc // no port is opened or closed any more, once portsClosed is closed
	portsClosed chan struct{}
}

// bound is a server with its listener.
type bound struct {
	server *forward.Server
	ln     net.Listener
}

// newProcess opens the listeners and makes every part; nothing runs yet.
func newProcess(o *Options, log *slog.Logger) (*process, error) {
	p := &process{o: o, log: log, draining: make(chan struct{})}
	if err := p.build(); err != nil {
		for _, b := range p.listeners {
			b.ln.Close()
		}
		return nil, err
	}
	return p, nil
}

func (p *process) build() (err error) {
	var opened []net.Listener
	for _, addr := range append(append([]string{}, p.o.Listen...), p.o.TLSListen...) {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("--listen: %w", err)
		}
		opened = append(opened, ln)
		p.listeners = append(p.listeners, bound{ln: ln})
	}
	addr := p.o.Addr
	if addr == "" {
		addr = opened[0].Addr().String()
	}
	registry := telemetry.NewRegistry()
	p.plane, p.stats, err = newPlane(p.o, assign.ClientConfig{
		URLs: p.o.Control, Name: p.o.Name, Addr: addr, Zone: p.o.Zone, Version: buildVersion(), Instance: p.o.Name + "/" + rand.Text(),
		Token: p.o.token, Log: p.log, Lookup: net.DefaultResolver.LookupHost,
	}, registry, p.log)
	if err == nil {
		err = p.plane.observe(registry)
	}
	if err != nil {
		return err
	}
	if err := p.bind(len(p.o.Listen)); err != nil {
		return err
	}
	if p.adminLn, err = net.Listen("tcp", p.o.Admin); err != nil {
		return fmt.Errorf("--admin-listen: %w", err)
	}
	p.admin = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: telemetry.NewAdminHandler(telemetry.AdminConfig{
		Gatherer: registry, Ready: p.ready, Profiles: p.o.Profiles,
	})}
	return nil
}

// bind makes one server per listener: plain ones first, then encrypted ones, then the trusted one.
func (p *process) bind(plain int) error {
	for i := range p.listeners {
		cfg := serverConfig()
		if i >= plain {
			cert, err := servingtls.Load(filepath.Join(p.o.CertDir, "tls.crt"), filepath.Join(p.o.CertDir, "tls.key"), p.log)
			if err != nil {
				return fmt.Errorf("--cert-dir: %w", err)
			}
			if cfg.TLS, err = (servingtls.Options{}).Config(cert.Get); err != nil {
				return fmt.Errorf("--cert-dir: %w", err)
			}
		}
		var err error
		if p.listeners[i].server, err = forward.NewServer(cfg, p.plane.activator.Handler(false)); err != nil {
			return err
		}
	}
	if p.o.Trusted == "" {
		return nil
	}
	ln, err := net.Listen("tcp", p.o.Trusted)
	if err != nil {
		return fmt.Errorf("--trusted-listen: %w", err)
	}
	cfg := serverConfig()
	cfg.Forwarding = forward.Forwarding{XForwardedFor: true} // the router in front says host and protocol
	server, err := forward.NewServer(cfg, p.plane.activator.Handler(true))
	p.listeners = append(p.listeners, bound{server, ln})
	return err
}

func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.Main.Version
}

// ready is the admin page's word: with control away it stays what it was.
func (p *process) ready() error {
	select {
	case <-p.draining:
		return errors.New("draining")
	default:
	}
	select {
	case <-p.plane.client.Synced():
		return nil
	default:
		return fmt.Errorf("control has not told everything yet: is one of %v reachable, and the token right?", p.o.Control)
	}
}

// run starts every part, waits for the wish to end or a failure, drains, and returns when all has ended.
func (p *process) run(wishes <-chan struct{}) error {
	ctx, cancel := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	failed := make(chan error, len(p.listeners)+1)
	p.start(ctx, &owned, failed)
	p.log.Info("activator is serving", "address", p.listeners[0].ln.Addr().String(), "admin", p.adminLn.Addr().String(), "name", p.o.Name)
	var err error
	select {
	case <-wishes:
		err = p.drain(wishes)
	case err = <-failed:
		err = errors.Join(err, p.shutdown(ended()))
	}
	cancel()
	err = errors.Join(err, p.admin.Close())
	owned.Wait()
	return err
}

func (p *process) start(ctx context.Context, owned *sync.WaitGroup, failed chan<- error) {
	for _, c := range p.stats {
		owned.Go(func() { _ = c.Run(ctx) }) // ends with ctx alone, and reconnects until then
	}
	owned.Go(func() { _ = p.plane.client.Run(ctx) })    // likewise
	owned.Go(func() { _ = p.plane.activator.Run(ctx) }) // ends with ctx alone
	p.startPorts(ctx, owned)
	for _, b := range p.listeners {
		owned.Go(func() {
			if err := b.server.Serve(ctx, b.ln); err != nil {
				failed <- fmt.Errorf("listener %s: %w", b.ln.Addr(), err)
			}
		})
	}
	owned.Go(func() {
		if err := p.admin.Serve(p.adminLn); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("admin: %w", err)
		}
	})
	owned.Go(func() {
		select {
		case <-p.plane.client.Synced():
			p.plane.client.Ready()
		case <-ctx.Done():
		}
	})
}

func (p *process) startPorts(ctx context.Context, owned *sync.WaitGroup) {
	ctx, p.closePorts = context.WithCancel(ctx)
	p.portsClosed = make(chan struct{})
	owned.Go(func() {
		defer close(p.portsClosed)
		p.plane.ports.run(ctx)
	})
}

// drain lets requests finish: a second wish cuts them.
func (p *process) drain(wishes <-chan struct{}) error {
	began := time.Now()
	close(p.draining)
	p.plane.client.Drain()
	p.plane.ports.drain()
	for _, s := range p.servers() {
		s.Drain()
	}
	p.log.Info("draining", "minimum", p.o.DrainMinimum.String(), "grace", p.o.Grace.String())
	if !p.awaitIdle(wishes, began) {
		return errors.Join(lifecycle.ErrForced, p.shutdown(ended()))
	}
	ctx, cancel := context.WithTimeout(context.Background(), cutAfter)
	defer cancel()
	err := p.shutdown(ctx)
	p.goodbye() // a request that came now would use what others have by then
	p.log.Info("drained", "took", time.Since(began).String())
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("requests were cut after --grace=%s: %w", p.o.Grace, err)
	}
	return err
}

// goodbye gives the leases back. Nothing is in flight, and nothing can come any more.
func (p *process) goodbye() {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
	defer cancel()
	if err := p.plane.client.Goodbye(ctx); err != nil {
		p.log.Warn("control did not hear the goodbye: the leases come back when their time is over", "error", err.Error())
	}
}

// awaitIdle waits until the drain is over; false says that somebody wants the end at once.
func (p *process) awaitIdle(wishes <-chan struct{}, began time.Time) bool {
	d := lifecycle.NewDrain(p.o.draining())
	d.Begin(began)
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		active := int(p.plane.activator.Parked())
		for _, s := range p.servers() {
			st := s.Stats()
			active += st.Active + st.Tunnels
			d.Came(st.LastCame())
		}
		d.Load(active)
		if state, _ := d.State(time.Now()); state == lifecycle.Drained {
			return true
		}
		select {
		case <-wishes:
			return false
		case <-tick.C:
		}
	}
}

// servers are those of all listeners, per-revision ports included.
func (p *process) servers() []*forward.Server {
	all := p.plane.ports.servers()
	for _, b := range p.listeners {
		all = append(all, b.server)
	}
	return all
}

// shutdown closes listeners and connections; what is left when ctx ends is cut.
func (p *process) shutdown(ctx context.Context) error {
	p.closePorts()
	<-p.portsClosed
	var errs []error
	for _, s := range p.servers() {
		if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ended is the context of a stop that waits for nobody.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

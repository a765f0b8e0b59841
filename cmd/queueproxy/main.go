// Command queueproxy is the sidecar of one application: it limits, queues, forwards, probes, reports and drains. It
// takes Knative's environment and can stand in the place of Knative's queue-proxy.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rousehq/rouse/cmd/queueproxy/early"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/internal/usage"
	"github.com/rousehq/rouse/queueproxy"
	"github.com/rousehq/rouse/queueproxy/readiness"
	"github.com/rousehq/rouse/queueproxy/servingtls"
)

func main() {
	if config.Help(os.Args[1:], "queueproxy is the sidecar of one application: it limits, queues, forwards, probes, reports and drains. See docs/queue-proxy.md.", &settings{}, os.Stdout) {
		return
	}
	if n := memoryLimit(os.DirFS("/"), os.Getenv("GOMEMLIMIT")); n > 0 {
		debug.SetMemoryLimit(n)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(os.Environ(), signals, os.Stdout, os.Stderr))
}

// run is the whole life of the sidecar: the first signal drains, a second one that insists ends it at once. The request
// log goes to stdout.
func run(environ []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	level := new(slog.LevelVar)
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level}))
	s, err := load(environ)
	if err != nil {
		log.Error("the environment is not usable", "error", err.Error())
		return 2
	}
	if l, err := s.logLevel(); err == nil {
		level.Set(l)
	}
	log = log.With("revision", s.Namespace+"/"+s.Revision, "pod", s.Pod)
	sayIgnored(environ, log)
	if err := serve(&s, signals, stdout, log); err != nil {
		log.Error("queue-proxy failed", "error", err.Error())
		return 1
	}
	return 0
}

// serve runs every server until the drain is over.
func serve(s *settings, signals <-chan os.Signal, stdout io.Writer, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	defer owned.Wait()
	defer cancel()

	deps, err := s.deps(ctx, &owned, stdout, log)
	if err != nil {
		return err
	}
	cfg := s.sidecar()
	if cfg.TLS, err = s.serverTLS(log); err != nil {
		return err
	}
	sidecar, err := queueproxy.NewSidecar(cfg, deps)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	if err := observe(registry, s, sidecar.Proxy()); err != nil {
		return err
	}
	// Requests first: cold starts wait for this port, and nobody for the others.
	failed, err := s.listen(ctx, sidecar, cfg.TLS != nil, &owned, log)
	if err != nil {
		return errors.Join(err, sidecar.Stop(ended()))
	}
	admin := &admin{s: s, sidecar: sidecar, gatherer: registry, log: log}
	if err := admin.listen(&owned); err != nil {
		return errors.Join(err, sidecar.Stop(ended()))
	}
	defer admin.stop()
	s.tell(notifyReady, log)
	select {
	case <-signals:
		sidecar.BeginDrain()
		s.tell(notifyStopping, log)
		return drain(s, sidecar, signals, log)
	case err := <-failed:
		return errors.Join(err, sidecar.Stop(ended()))
	}
}

// ended is the context of a stop that waits for nobody.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// deps makes what the proxy works with: probes, the stream of statistics and the request log, each when configured.
func (s *settings) deps(ctx context.Context, owned *sync.WaitGroup, stdout io.Writer, log *slog.Logger) (d queueproxy.Deps, err error) {
	if len(s.probes) > 0 {
		d.Ready = readiness.New(readiness.Config{Probes: s.probes, DetectHTTP2: s.DetectHTTP2, Paced: s.ReadinessPaced, Log: log}).Ready
	}
	d.Log = s.openRequestLog(stdout, log)
	d.Usage = s.usage(log)
	if s.StatsURL == "" {
		return d, nil
	}
	push, err := statstream.NewClient(statstream.ClientConfig{URL: s.StatsURL, Producer: s.Pod, Log: log, Token: s.token})
	if err != nil {
		return d, fmt.Errorf("ROUSE_STATS_URL: %w", err)
	}
	d.Stats = push
	owned.Go(func() { _ = push.Run(ctx) }) // it only ends with ctx, and reconnects until then
	return d, nil
}

// usage measures the application's processes or its container, nil when neither is named.
func (s *settings) usage(log *slog.Logger) queueproxy.Usage {
	switch {
	case s.AppPID > 0:
		return usage.NewMeter(new(usage.Table).Tree(s.AppPID))
	case s.AppCgroup != "":
		source := usage.Cgroup(os.DirFS(s.AppCgroup))
		if _, err := source.Sample(time.Now()); err != nil {
			log.Warn("CPU and memory are reported as 0 until ROUSE_APP_CGROUP names the cgroup v2 folder of the application",
				"folder", s.AppCgroup, "error", err.Error())
		}
		return usage.NewMeter(source)
	}
	return nil
}

// token is asked for with every connection: projected tokens are replaced while the pod lives.
func (s *settings) token() (string, error) {
	if s.TokenFile == "" {
		return s.StatsToken, nil
	}
	b, err := os.ReadFile(s.TokenFile)
	return strings.TrimSpace(string(b)), err
}

// serverTLS returns nil unless a certificate and its key are mounted.
func (s *settings) serverTLS(log *slog.Logger) (*tls.Config, error) {
	cert, key, mounted := s.certificate()
	if !mounted {
		return nil, nil //nolint:nilnil // no certificate is no fault: then there is no encrypted port
	}
	c, err := servingtls.Load(cert, key, log)
	if err != nil {
		return nil, fmt.Errorf("ROUSE_CERT_DIR: %w", err)
	}
	cfg, err := s.tls().Config(c.Get)
	if err != nil {
		return nil, fmt.Errorf("QUEUE_PROXY_TLS_*: %w", err)
	}
	return cfg, nil
}

// observe registers the metrics of the runtime and of the proxy.
func observe(registry *prometheus.Registry, s *settings, p *queueproxy.Proxy) error {
	if err := registry.Register(collectors.NewGoCollector()); err != nil {
		return err
	}
	telemetry, err := queueproxy.NewTelemetry(registry, s.labels(), p)
	if err != nil {
		return err
	}
	p.Observe(telemetry)
	return nil
}

// listen serves the serving ports until ctx ends; failed gets the error of one that ended before.
func (s *settings) listen(ctx context.Context, sidecar *queueproxy.Sidecar, encrypted bool, owned *sync.WaitGroup, log *slog.Logger) (failed <-chan error, err error) {
	ports := []struct {
		env  string
		port uint16
		run  func(context.Context, net.Listener) error
	}{{"QUEUE_SERVING_PORT", s.ServingPort, sidecar.Run}, {"QUEUE_SERVING_TLS_PORT", s.ServingTLSPort, sidecar.RunTLS}}
	if !encrypted {
		ports = ports[:1]
	}
	errs := make(chan error, len(ports))
	for _, p := range ports {
		ln, err := s.open(p.port)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.env, err)
		}
		owned.Go(func() {
			if err := p.run(ctx, ln); err != nil {
				errs <- fmt.Errorf("%s: %w", p.env, err)
			}
		})
		log.Info("queue-proxy is serving", "port", p.env, "address", ln.Addr().String(), "limit", s.ContainerConcurrency)
	}
	return errs, nil
}

// open listens at the port, on the socket that is there already if it has been opened before main.
func (s *settings) open(port uint16) (net.Listener, error) {
	socket, ok := early.Take(port)
	if !ok {
		return net.Listen("tcp", s.address(port))
	}
	f := os.NewFile(uintptr(socket), "serving port")
	defer f.Close() // the listener has a descriptor of its own
	return net.FileListener(f)
}

// drain lets requests end, until the grace period or a second signal that insists.
func drain(s *settings, sidecar *queueproxy.Sidecar, signals <-chan os.Signal, log *slog.Logger) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), s.grace())
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- sidecar.Stop(ctx) }()
	err := outlast(stopped, signals, func() {
		log.Warn("second signal: ending at once")
		cancel()
	})
	log.Info("drained", "took", time.Since(began).String())
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("requests were cut after %s: %w", time.Since(began).Round(time.Millisecond), err)
	}
	return err
}

// outlast waits for the end of the drain, and cuts it short when a signal insists.
func outlast(stopped <-chan error, signals <-chan os.Signal, cut func()) error {
	for {
		select {
		case err := <-stopped:
			return err
		case sig := <-signals:
			if lifecycle.Insists(sig) {
				cut()
				return <-stopped
			}
		}
	}
}

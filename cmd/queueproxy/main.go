// Command queueproxy is the sidecar of one application: it limits, queues, forwards, probes, reports and drains. It
// takes Knative's environment and can stand in the place of Knative's queue-proxy.
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
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
	"github.com/rousehq/rouse/queueproxy"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(os.Environ(), signals, os.Stderr))
}

// run is the whole life of the sidecar: the first signal drains, the second ends it at once.
func run(environ []string, signals <-chan os.Signal, logTo io.Writer) int {
	log := slog.New(slog.NewJSONHandler(logTo, nil))
	s, err := load(environ)
	if err != nil {
		log.Error("the environment is not usable", "error", err.Error())
		return 2
	}
	if err := serve(s, signals, log); err != nil {
		log.Error("queue-proxy failed", "error", err.Error())
		return 1
	}
	return 0
}

// serve runs every server until the drain is over.
func serve(s settings, signals <-chan os.Signal, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var owned sync.WaitGroup
	defer owned.Wait()
	defer cancel()

	deps := queueproxy.Deps{}
	if s.StatsURL != "" {
		push, err := statstream.NewClient(statstream.ClientConfig{
			URL: s.StatsURL, Producer: s.Pod, Log: log, Token: func() (string, error) { return s.StatsToken, nil },
		})
		if err != nil {
			return fmt.Errorf("ROUSE_STATS_URL: %w", err)
		}
		deps.Stats = push
		owned.Go(func() { _ = push.Run(ctx) }) // it only ends with ctx, and reconnects until then
	}
	sidecar, err := queueproxy.NewSidecar(s.sidecar(), deps)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(collectors.NewGoCollector()); err != nil {
		return err
	}
	telemetry, err := queueproxy.NewTelemetry(registry, s.labels(), sidecar.Proxy())
	if err != nil {
		return err
	}
	sidecar.Proxy().Observe(telemetry)

	admin := newAdmin(s, sidecar, registry)
	stop, err := admin.listen(&owned)
	if err != nil {
		return err
	}
	defer stop()
	ln, err := net.Listen("tcp", s.address(s.ServingPort))
	if err != nil {
		return fmt.Errorf("QUEUE_SERVING_PORT: %w", err)
	}
	log.Info("queue-proxy is serving", "address", ln.Addr().String(), "limit", s.ContainerConcurrency)
	owned.Go(func() {
		if err := sidecar.Run(ctx, ln); err != nil {
			log.Error("serving ended", "error", err.Error())
		}
	})
	return drain(s, sidecar, signals, log)
}

// drain waits for the first signal, then for the requests.
func drain(s settings, sidecar *queueproxy.Sidecar, signals <-chan os.Signal, log *slog.Logger) error {
	<-signals
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), s.grace())
	defer cancel()
	go func() {
		select {
		case <-signals:
			log.Warn("second signal: ending at once")
			cancel()
		case <-ctx.Done():
		}
	}()
	err := sidecar.Stop(ctx)
	log.Info("drained", "took", time.Since(began).String())
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("requests were cut after %s: %w", time.Since(began).Round(time.Millisecond), err)
	}
	return err
}

// admin are the servers that no client of the application reaches.
type admin struct {
	s        settings
	sidecar  *queueproxy.Sidecar
	registry *prometheus.Registry
}

func newAdmin(s settings, sidecar *queueproxy.Sidecar, registry *prometheus.Registry) *admin {
	return &admin{s: s, sidecar: sidecar, registry: registry}
}

// listen opens all admin ports, serves them, and returns what stops them.
func (a *admin) listen(owned *sync.WaitGroup) (stop func(), err error) {
	var servers []*fasthttp.Server
	stop = func() {
		for _, srv := range servers {
			_ = srv.Shutdown() // the process ends next
		}
	}
	for _, e := range []struct {
		env  string
		port uint16
		h    fasthttp.RequestHandler
	}{
		{"ROUSE_ADMIN_PORT", a.s.AdminPort, a.serveAdmin},
		{"ROUSE_STATS_PORT", a.s.StatsPort, a.serveStats},
		{"ROUSE_METRICS_PORT", a.s.MetricsPort, a.metricsHandler()},
	} {
		ln, err := net.Listen("tcp", a.s.address(e.port))
		if err != nil {
			stop()
			return nil, fmt.Errorf("%s: %w", e.env, err)
		}
		srv := &fasthttp.Server{Handler: e.h, NoDefaultServerHeader: true, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		servers = append(servers, srv)
		owned.Go(func() { _ = srv.Serve(ln) }) // ends with Shutdown
	}
	return stop, nil
}

// serveStats answers Knative's autoscaler: the newest complete period as one Stat in protobuf.
func (a *admin) serveStats(ctx *fasthttp.RequestCtx) {
	st := a.sidecar.Proxy().Last()
	ctx.SetContentType("application/protobuf")
	ctx.SetBody(metrics.AppendStat(nil, &st))
}

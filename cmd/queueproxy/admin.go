package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/rousehq/rouse/metrics"
	"github.com/rousehq/rouse/queueproxy"
)

// How long the answers of the admin ports may outlive the drain.
const adminGrace = time.Second

// admin are the servers that no client of the application reaches.
type admin struct {
	s        *settings
	sidecar  *queueproxy.Sidecar
	gatherer prometheus.Gatherer
	log      *slog.Logger
	servers  []*http.Server
	waiting  atomic.Int32 // hooks in waitForDrain
}

// listen opens all admin ports and serves them until stop.
func (a *admin) listen(owned *sync.WaitGroup) error {
	for _, p := range []struct {
		env  string
		port uint16
		h    http.Handler
		open bool
	}{
		{"ROUSE_ADMIN_PORT", a.s.AdminPort, a.operations(), true},
		{"ROUSE_STATS_PORT", a.s.StatsPort, http.HandlerFunc(a.serveStats), true},
		{"ROUSE_METRICS_PORT", a.s.MetricsPort, http.HandlerFunc(a.serveMetrics), a.s.measured()},
		{"ROUSE_PROFILE_PORT", a.s.ProfilePort, profiles(), a.s.Profiling},
	} {
		if !p.open {
			continue
		}
		ln, err := net.Listen("tcp", a.s.address(p.port))
		if err != nil {
			a.stop()
			return fmt.Errorf("%s: %w", p.env, err)
		}
		srv := &http.Server{Handler: p.h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		a.servers = append(a.servers, srv)
		owned.Go(func() { _ = srv.Serve(ln) }) // ends with stop
		a.log.Info("queue-proxy is listening", "port", p.env, "address", ln.Addr().String())
	}
	return nil
}

// stop ends the servers; answers that are under way have a moment.
func (a *admin) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), adminGrace)
	defer cancel()
	for _, srv := range a.servers {
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close() // the process ends next
		}
	}
}

// operations answers the hooks of the pod's containers, and shows what the sidecar runs with.
func (a *admin) operations() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/wait-for-drain", a.waitForDrain)
	mux.HandleFunc("/drain", a.drain)
	mux.HandleFunc("/config", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.effective()) // a reader that left needs no answer
	})
	return mux
}

// drain is the preStop hook of a native sidecar. With announced the caller vouches that nobody sends anything new.
func (a *admin) drain(_ http.ResponseWriter, r *http.Request) {
	a.sidecar.BeginDrain()
	if r.FormValue("announced") == "true" {
		a.sidecar.Announced()
	}
}

// waitForDrain is the application's preStop hook: the application ends when this has answered.
func (a *admin) waitForDrain(w http.ResponseWriter, r *http.Request) {
	a.waiting.Add(1)
	defer a.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(r.Context(), a.s.grace())
	defer cancel()
	drained, err := a.sidecar.AwaitDrain(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, "requests are still running after "+a.s.grace().String(), http.StatusServiceUnavailable)
	case err != nil:
		return // whoever asked has left
	case !drained:
		fmt.Fprintln(w, "the pod does not end: the application alone is restarted")
	default:
		fmt.Fprintln(w, "drained")
	}
}

// effective is what the sidecar runs with, for people and for benchmarks that must not measure a crippled proxy.
type effective struct {
	Limit      int    `json:"limit"`
	Queue      int    `json:"queue"`
	Timeout    string `json:"timeout"`
	Timeouts   bool   `json:"timeouts"`
	Metrics    bool   `json:"metrics"`
	Forwarded  bool   `json:"forwarded"`
	ClientGone bool   `json:"client_gone"`
	Drain      string `json:"drain_minimum"`
	Push       bool   `json:"stats_push"`
	Probes     int    `json:"readiness_probes"`
	RequestLog bool   `json:"request_log"`
	Draining   bool   `json:"draining"`
	Waiting    int    `json:"waiting_for_drain"`
}

func (a *admin) effective() effective {
	c := a.s.sidecar().Proxy.Default()
	return effective{
		Limit: c.ContainerConcurrency, Queue: c.QueueLimit, Timeout: c.Timeouts.Total.String(), Timeouts: c.Timeouts.Total > 0,
		Metrics: a.s.measured(), Forwarded: true, ClientGone: true, Drain: a.s.DrainMinimum.String(), Push: a.s.StatsURL != "",
		Probes: len(a.s.probes), RequestLog: a.s.requestLogged(),
		Draining: a.sidecar.Proxy().Draining(), Waiting: int(a.waiting.Load()),
	}
}

// scrapeMost is what Knative's scraper reads of a report (pkg/autoscaler/metrics/http_scrape_client.go): a longer one is
// cut and lost.
const scrapeMost = 336

// serveStats answers Knative's autoscaler: the newest complete period as one Stat in protobuf. Beside a very long name of
// a pod there is no room for our extension.
func (a *admin) serveStats(w http.ResponseWriter, _ *http.Request) {
	st := a.sidecar.Proxy().Last()
	body := metrics.AppendStat(nil, &st)
	if len(body) > scrapeMost {
		st.Extension = metrics.Extension{}
		body = metrics.AppendStat(nil, &st)
	}
	w.Header().Set("Content-Type", "application/protobuf")
	_, _ = w.Write(body) // a scraper that left needs no answer
}

// serveMetrics answers Prometheus. Its own handler would link three compressors, a third of the sidecar's memory, for
// pages of a few kilobytes.
func (a *admin) serveMetrics(w http.ResponseWriter, r *http.Request) {
	families, err := a.gatherer.Gather()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultAcceptedFormats()...)
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if enc.Encode(f) != nil {
			return // the scraper has left
		}
	}
}

// profiles serves what go tool pprof reads. net/http/pprof would add half a megabyte for pages and differences.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/profile", func(w http.ResponseWriter, r *http.Request) {
		seconds, err := strconv.Atoi(r.FormValue("seconds"))
		if err != nil || seconds <= 0 {
			seconds = 30
		}
		if err := pprof.StartCPUProfile(w); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		defer pprof.StopCPUProfile()
		select {
		case <-time.After(time.Duration(seconds) * time.Second):
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/debug/pprof/{name}", func(w http.ResponseWriter, r *http.Request) {
		p := pprof.Lookup(r.PathValue("name"))
		if p == nil {
			http.Error(w, "there are profile, heap, allocs, goroutine, threadcreate, block and mutex", http.StatusNotFound)
			return
		}
		debug, _ := strconv.Atoi(r.FormValue("debug")) // 0, the binary form, when it is none
		_ = p.WriteTo(w, debug)                        // a reader that left needs no answer
	})
	return mux
}

// Package telemetry sets up what operators look at: structured logs, one Prometheus registry, and the admin listener's
// handler with metrics, health and, when asked for, profiles.
//
// What it promises: nothing global. There is no default logger and no default registry; whoever needs one is handed it.
// What it does not: listen, push, or log by itself.
//
// Concurrency: everything that it returns is safe for concurrent use.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// LogConfig says how to log. The zero value is text at level info.
type LogConfig struct {
	// Format is "text" or "json". Default text.
	Format string
	// Level is "debug", "info", "warn" or "error". Default info.
	Level string
	// Component is written with every line, when not empty.
	Component string
}

// NewLogger returns a logger that writes to w, and the variable that changes its level while it runs. It fails when
// the format or the level has no meaning.
func NewLogger(w io.Writer, cfg LogConfig) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if cfg.Level != "" {
		if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
			return nil, nil, fmt.Errorf("log level = %q: must be one of debug, info, warn, error", cfg.Level)
		}
	}
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler
	switch strings.ToLower(cfg.Format) {
	case "", "text":
		h = slog.NewTextHandler(w, opts)
	case "json":
		h = slog.NewJSONHandler(w, opts)
	default:
		return nil, nil, fmt.Errorf("log format = %q: must be text or json", cfg.Format)
	}
	log := slog.New(h)
	if cfg.Component != "" {
		log = log.With("component", cfg.Component)
	}
	return log, level, nil
}

// NewRegistry returns a registry with the metrics of the Go runtime and of the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Check reports whether something is in order: nil when it is, else why not. It must return at once.
type Check func() error

// AdminConfig says what the admin handler serves.
type AdminConfig struct {
	// Gatherer is served at /metrics. Required.
	Gatherer prometheus.Gatherer
	// Live is asked by /healthz, Ready by /readyz; nil always is in order. A process that drains or waits for a peer
	// is alive: only say so here when a restart is the remedy.
	Live, Ready Check
	// Profiles serves /debug/pprof/. Default off: profiles tell more than metrics and cost CPU.
	Profiles bool
}

// NewAdminHandler returns the handler of the admin listener. Other packages' handlers may be added to the mux.
func NewAdminHandler(cfg AdminConfig) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.Handle("GET /healthz", answer(cfg.Live))
	mux.Handle("GET /readyz", answer(cfg.Ready))
	if cfg.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func answer(check Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if check != nil {
			if err := check(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
}

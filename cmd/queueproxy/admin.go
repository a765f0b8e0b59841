package main

import (
	"context"
	"encoding/json"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

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
}

// serveAdmin answers /wait-for-drain for the application's preStop hook, and /config.
func (a *admin) serveAdmin(ctx *fasthttp.RequestCtx) {
	switch string(ctx.Path()) {
	case "/wait-for-drain":
		wait, cancel := context.WithTimeout(context.Background(), a.s.grace())
		defer cancel()
		if err := a.sidecar.Drain(wait); err != nil {
			ctx.Error("requests are still running: "+err.Error(), fasthttp.StatusServiceUnavailable)
		}
	case "/config":
		ctx.SetContentType("application/json")
		b, err := json.Marshal(a.effective())
		if err != nil {
			ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
			return
		}
		ctx.SetBody(b)
	default:
		ctx.Error("the admin port answers /wait-for-drain and /config", fasthttp.StatusNotFound)
	}
}

func (a *admin) effective() effective {
	c := a.s.sidecar().Proxy.Default()
	return effective{
		Limit: c.ContainerConcurrency, Queue: c.QueueLimit, Timeout: c.Timeouts.Total.String(), Timeouts: c.Timeouts.Total > 0,
		Metrics: true, Forwarded: true, ClientGone: true, Drain: a.s.DrainMinimum.String(), Push: a.s.StatsURL != "",
	}
}

func (a *admin) metricsHandler() fasthttp.RequestHandler {
	return fasthttpadaptor.NewFastHTTPHandler(promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{Registry: prometheus.NewRegistry()}))
}

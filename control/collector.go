package control

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/endpoint"
)

// collector reads the revisions on scrape: between scrapes the metrics cost nothing, neither time nor memory. The
// names are those of Knative's autoscaler before it moved to OpenTelemetry, which dashboards know.
type collector struct{ l *Loop }

type gauge struct {
	desc *prometheus.Desc
	of   func(*revision) (float64, bool) // called with r.mu held
}

var labels = []string{"namespace_name", "service_name", "configuration_name", "revision_name"}

func perRevision(name, help string, of func(*revision) (float64, bool)) gauge {
	return gauge{prometheus.NewDesc("autoscaler_"+name, help, labels, nil), of}
}

func always(of func(*revision) float64) func(*revision) (float64, bool) {
	return func(r *revision) (float64, bool) { return of(r), true }
}

func state(s endpoint.State) func(*revision) (float64, bool) {
	return always(func(r *revision) float64 { return float64(r.pods.Count(s)) })
}

// want reads one metric's wish of the last decision; there is none for metrics without a target.
func want(m kpa.Metric, of func(kpa.Want) float64) func(*revision) (float64, bool) {
	return func(r *revision) (float64, bool) {
		for _, w := range r.last.Reasons.Wants[:r.last.Reasons.Count] {
			if w.Metric == m {
				return of(w), true
			}
		}
		return 0, false
	}
}

var gauges = []gauge{
	perRevision("desired_pods", "Pods that the load asks for.", always(func(r *revision) float64 { return float64(r.last.Raw) })),
	perRevision("requested_pods", "Pods that the scale target was asked for.", always(func(r *revision) float64 { return float64(r.replicas) })),
	perRevision("actual_pods", "Pods that are ready.", state(endpoint.Ready)),
	perRevision("not_ready_pods", "Pods that exist and are not ready yet.", state(endpoint.Starting)),
	perRevision("terminating_pods", "Pods that finish what they have.", state(endpoint.Draining)),
	perRevision("excess_burst_capacity", "Requests that the pods could take beyond load and configured burst.", always(func(r *revision) float64 { return float64(r.last.ExcessBurstCapacity) })),
	perRevision("panic_mode", "1 while in panic.", always(func(r *revision) float64 { return truth(r.last.Panic) })),
	perRevision("stable_request_concurrency", "Requests in flight, stable window.", want(kpa.Concurrency, func(w kpa.Want) float64 { return w.Stable })),
	perRevision("panic_request_concurrency", "Requests in flight, panic window.", want(kpa.Concurrency, func(w kpa.Want) float64 { return w.Panic })),
	perRevision("target_concurrency_per_pod", "Requests in flight that a pod should have.", want(kpa.Concurrency, func(w kpa.Want) float64 { return w.Target })),
	perRevision("stable_requests_per_second", "Requests per second, stable window.", want(kpa.RPS, func(w kpa.Want) float64 { return w.Stable })),
	perRevision("panic_requests_per_second", "Requests per second, panic window.", want(kpa.RPS, func(w kpa.Want) float64 { return w.Panic })),
	perRevision("target_requests_per_second", "Requests per second that a pod should have.", want(kpa.RPS, func(w kpa.Want) float64 { return w.Target })),
}

type total struct {
	desc *prometheus.Desc
	of   func(*Loop) uint64
}

func overall(name, help string, of func(*Loop) uint64) total {
	return total{prometheus.NewDesc("autoscaler_"+name+"_total", help, nil, nil), of}
}

var totals = []total{
	overall("reports", "Reports received.", func(l *Loop) uint64 { return l.counts.reports.Load() }),
	overall("unknown_reports", "Reports about unknown revisions.", func(l *Loop) uint64 { return l.counts.unknown.Load() }),
	overall("decisions", "Decisions made.", func(l *Loop) uint64 { return l.counts.decisions.Load() }),
	overall("immediate_decisions", "Decisions made at once because demand met no pod.", func(l *Loop) uint64 { return l.counts.woken.Load() }),
	overall("apply_errors", "Calls of scale and mode targets that failed.", func(l *Loop) uint64 { return l.counts.failed.Load() }),
	overall("dropped_events", "Events that the observer was too slow for.", func(l *Loop) uint64 { return l.out.lost() }),
}

// newScaled makes the one metric that is not read on scrape: a cold start waits for what it measures.
func newScaled() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "autoscaler_scale_seconds", Help: "Time that the scale target took to answer a call, in which pods go first that were chosen to.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range gauges {
		ch <- g.desc
	}
	for _, t := range totals {
		ch <- t.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, t := range totals {
		ch <- prometheus.MustNewConstMetric(t.desc, prometheus.CounterValue, float64(t.of(c.l)))
	}
	var found []prometheus.Metric
	for _, r := range c.l.all() {
		found = r.collect(found[:0])
		for _, m := range found {
			ch <- m
		}
	}
}

// collect gathers under the lock what Collect sends without it: a send may wait for the scraper.
func (r *revision) collect(into []prometheus.Metric) []prometheus.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return into
	}
	for _, g := range gauges {
		if v, ok := g.of(r); ok {
			into = append(into, prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v,
				r.id.Namespace, r.cfg.Service, r.cfg.Configuration, r.id.Name))
		}
	}
	return into
}

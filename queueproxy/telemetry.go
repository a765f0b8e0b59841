package queueproxy

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
)

// Labels identify the pod in every metric, under Knative's names.
type Labels struct {
	Namespace, Service, Configuration, Revision, Pod string
}

// Buckets of Knative's latency histograms, in milliseconds.
func latencyBuckets() []float64 {
	return []float64{5, 10, 20, 40, 60, 80, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
}

// Telemetry counts outcomes under the names that Knative's dashboards read, and a few that they lack. Children are
// resolved once per status, so that counting a request is a handful of atomic additions.
type Telemetry struct {
	requests, appRequests   *prometheus.CounterVec
	latencies, appLatencies *prometheus.HistogramVec
	outcomes                [fault.Count]prometheus.Counter
	byStatus                [600]atomic.Pointer[statusCounters]
}

type statusCounters struct {
	requests, appRequests   prometheus.Counter
	latencies, appLatencies prometheus.Observer
}

// NewTelemetry registers the metrics of one proxy.
func NewTelemetry(reg prometheus.Registerer, l Labels, p *Proxy) (*Telemetry, error) {
	constant := prometheus.Labels{
		"namespace_name": l.Namespace, "service_name": l.Service, "configuration_name": l.Configuration,
		"revision_name": l.Revision, "pod_name": l.Pod, "container_name": "queue-proxy",
	}
	status := []string{"response_code", "response_code_class"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: constant}, status)
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, ConstLabels: constant, Buckets: latencyBuckets()}, status)
	}
	t := &Telemetry{
		requests:     counter("revision_request_count", "Requests that reached the queue-proxy, by the status that the client was sent."),
		appRequests:  counter("revision_app_request_count", "Requests that were given to the application."),
		latencies:    histogram("revision_request_latencies", "Time of a request in the queue-proxy, in milliseconds."),
		appLatencies: histogram("revision_app_request_latencies", "Time of a request in the application, in milliseconds."),
	}
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rouse_queueproxy_outcomes_total", Help: "Requests by how they ended; ok means a complete response.", ConstLabels: constant,
	}, []string{"outcome"})
	for c := range t.outcomes {
		t.outcomes[c] = outcomes.WithLabelValues(fault.Cause(c).String())
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: constant}, f)
	}
	all := []prometheus.Collector{t.requests, t.appRequests, t.latencies, t.appLatencies, outcomes,
		gauge("revision_queue_depth", "Requests in the queue-proxy that wait for a slot.", func() float64 {
			_, pending := p.Depth()
			return float64(pending)
		}),
		gauge("rouse_queueproxy_in_flight", "Requests in the queue-proxy.", func() float64 {
			n, _ := p.Depth()
			return float64(n)
		}),
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Done implements [Observer].
func (t *Telemetry) Done(res forward.Result, took, app time.Duration) {
	t.outcomes[res.Cause].Inc()
	c := t.status(res)
	c.requests.Inc()
	c.latencies.Observe(float64(took) / float64(time.Millisecond))
	if app > 0 {
		c.appRequests.Inc()
		c.appLatencies.Observe(float64(app) / float64(time.Millisecond))
	}
}

// status returns the counters of the status that the client was sent. A client that was sent nothing counts under the
// status of the cause.
func (t *Telemetry) status(res forward.Result) *statusCounters {
	code := res.Status
	if code == 0 {
		code = fault.Of(res.Cause).Status
	}
	if code < 100 || code >= len(t.byStatus) {
		code = 500
	}
	if c := t.byStatus[code].Load(); c != nil {
		return c
	}
	l := []string{strconv.Itoa(code), strconv.Itoa(code/100) + "xx"}
	c := &statusCounters{
		t.requests.WithLabelValues(l...), t.appRequests.WithLabelValues(l...),
		t.latencies.WithLabelValues(l...), t.appLatencies.WithLabelValues(l...),
	}
	t.byStatus[code].Store(c)
	return c
}

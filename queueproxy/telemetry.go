package queueproxy

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
)

// Labels identify the pod in every metric, under Knative's names.
type Labels struct {
	Namespace, Service, Configuration, Revision, Pod string
}

func (l Labels) constant() prometheus.Labels {
	return prometheus.Labels{
		"namespace_name": l.Namespace, "service_name": l.Service, "configuration_name": l.Configuration,
		"revision_name": l.Revision, "pod_name": l.Pod, "container_name": "queue-proxy",
	}
}

// Buckets of Knative's latency histograms, in milliseconds.
func latencyBuckets() []float64 {
	return []float64{5, 10, 20, 40, 60, 80, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
}

// Telemetry counts outcomes under the names that Knative's dashboards read, and a few that they lack. Children are
// resolved once per status and route tag, so that counting a request is a handful of atomic additions. It is safe for
// concurrent use.
type Telemetry struct {
	requests, appRequests   *prometheus.CounterVec
	latencies, appLatencies *prometheus.HistogramVec
	outcomes                [fault.Count]prometheus.Counter
	untagged                children // of requests without tag headers: nearly always all

	mu     sync.RWMutex
	tagged map[string]*children // guarded by mu; at most maxTags, and the rest together
}

// children are the counters of one route tag, by status.
type children struct {
	tag      string
	byStatus [600]atomic.Pointer[statusCounters]
}

type statusCounters struct {
	requests, appRequests   prometheus.Counter
	latencies, appLatencies prometheus.Observer
}

// NewTelemetry registers the metrics of one proxy.
func NewTelemetry(reg prometheus.Registerer, l Labels, p *Proxy) (*Telemetry, error) {
	constant := l.constant()
	app := []string{"response_code", "response_code_class"}
	whole := append(app, "route_tag")
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: constant}, labels)
	}
	histogram := func(name, help string, labels []string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, ConstLabels: constant, Buckets: latencyBuckets()}, labels)
	}
	t := &Telemetry{
		requests:     counter("revision_request_count", "Requests that reached the queue-proxy, by the status that the client was sent.", whole),
		appRequests:  counter("revision_app_request_count", "Requests that were given to the application.", app),
		latencies:    histogram("revision_request_latencies", "Time of a request in the queue-proxy, in milliseconds.", whole),
		appLatencies: histogram("revision_app_request_latencies", "Time of a request in the application, in milliseconds.", app),
		untagged:     children{tag: tagDisabled},
		tagged:       make(map[string]*children),
	}
	outcomes := counter("rouse_queueproxy_outcomes_total", "Requests by how they ended; ok means a complete response.", []string{"outcome"})
	for c := range t.outcomes {
		t.outcomes[c] = outcomes.WithLabelValues(fault.Cause(c).String())
	}
	all := append(gauges(constant, p), t.requests, t.appRequests, t.latencies, t.appLatencies, outcomes)
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// gauges are read from the proxy on scrape.
func gauges(constant prometheus.Labels, p *Proxy) []prometheus.Collector {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: constant}, f)
	}
	inFlight := func() float64 {
		n, _ := p.Depth()
		return float64(n)
	}
	all := []prometheus.Collector{
		gauge("rouse_queueproxy_in_flight", "Requests in the queue-proxy, waiting or in the application.", inFlight),
		gauge("rouse_queueproxy_pending", "Requests in the queue-proxy that wait for a slot.", func() float64 {
			_, pending := p.Depth()
			return float64(pending)
		}),
		gauge("rouse_queueproxy_draining", "1 while the queue-proxy drains, else 0.", func() float64 {
			if p.Draining() {
				return 1
			}
			return 0
		}),
	}
	if p.slots != nil {
		all = append(all, gauge("revision_queue_depth", "Requests in the queue-proxy, waiting or in the application; absent when the revision has no limit.", inFlight))
	}
	return all
}

// Done implements [Observer].
func (t *Telemetry) Done(res forward.Result, tag []byte, took, app time.Duration) {
	t.outcomes[res.Cause].Inc()
	c := t.counters(statusOf(res), tag)
	c.requests.Inc()
	c.latencies.Observe(float64(took) / float64(time.Millisecond))
	if app > 0 {
		c.appRequests.Inc()
		c.appLatencies.Observe(float64(app) / float64(time.Millisecond))
	}
}

// counters returns the counters of a status and a route tag, nil for requests without tag headers.
func (t *Telemetry) counters(code int, tag []byte) *statusCounters {
	all := &t.untagged
	if tag != nil {
		all = t.childrenOf(tag)
	}
	if code < 100 || code >= len(all.byStatus) {
		code = 500
	}
	if c := all.byStatus[code].Load(); c != nil {
		return c
	}
	l := []string{strconv.Itoa(code), strconv.Itoa(code/100) + "xx", all.tag}
	c := &statusCounters{
		t.requests.WithLabelValues(l...), t.appRequests.WithLabelValues(l[:2]...),
		t.latencies.WithLabelValues(l...), t.appLatencies.WithLabelValues(l[:2]...),
	}
	all.byStatus[code].Store(c)
	return c
}

// childrenOf returns the children of a tag. Those that are none, which Prometheus may even refuse, and those beyond the bound
// count together.
func (t *Telemetry) childrenOf(tag []byte) *children {
	t.mu.RLock()
	c := t.tagged[string(tag)]
	t.mu.RUnlock()
	if c != nil {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	name := string(tag)
	if len(t.tagged) >= maxTags || len(tag) > maxTag || !utf8.Valid(tag) {
		name = tagOther
	}
	if c = t.tagged[name]; c == nil {
		c = &children{tag: name}
		t.tagged[name] = c
	}
	return c
}

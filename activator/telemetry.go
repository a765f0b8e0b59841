package activator

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/identity"
)

// Labels name a revision in metrics, as Knative's dashboards do.
type Labels struct {
	Namespace, Service, Configuration, Revision string
}

// Telemetry counts outcomes by revision. It implements [Observer] and [PodObserver] and is safe for concurrent use.
//
// Once a revision was named, only those are counted that have a name: one that was forgotten does not come back with what
// was still in flight there. Who names none has every revision counted under its own name.
type Telemetry struct {
	requests  *prometheus.CounterVec
	outcomes  *prometheus.CounterVec
	retries   *prometheus.CounterVec
	latencies *prometheus.HistogramVec
	parked    *prometheus.HistogramVec
	cold      *prometheus.HistogramVec
	phases    *prometheus.HistogramVec
	ejections *prometheus.CounterVec
	probes    *prometheus.CounterVec
	found     *prometheus.HistogramVec

	revisions *registry[identity.Revision, *counted]
	naming    atomic.Bool // somebody calls Name
}

// counted are one revision's children, resolved once, when they are first needed: most revisions are idle, and a child
// costs half a kilobyte.
type counted struct {
	labels   []string
	retries  child[prometheus.Counter]
	parked   child[prometheus.Observer]
	cold     child[prometheus.Observer]
	phases   [len(coldPhases)]child[prometheus.Observer]
	outcomes [fault.Count]child[prometheus.Counter]
	statuses atomic.Pointer[map[int]*answered]

	mu   sync.Mutex // held while a series is made; guards gone
	gone bool       // forgotten: no series is made any more
}

// answered are the metrics of requests that were answered with one status.
type answered struct {
	requests  prometheus.Counter
	latencies prometheus.Observer
}

// child is a metric with its labels. The zero value is not resolved yet.
type child[T any] struct{ p atomic.Pointer[T] }

// get resolves the child if need be; whoever comes second finds the same one. It is nil when the revision was forgotten
// before it was needed.
func (ch *child[T]) get(c *counted, resolve func(labels ...string) T, more ...string) T {
	if p := ch.p.Load(); p != nil {
		return *p
	}
	return ch.make(c, resolve, more)
}

func (ch *child[T]) make(c *counted, resolve func(labels ...string) T, more []string) (v T) {
	c.make(func() {
		v = resolve(append(c.labels, more...)...)
		ch.p.Store(&v)
	})
	return v
}

// make runs f, which makes series of the revision, unless that was forgotten.
func (c *counted) make(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		f()
	}
}

func observe(o prometheus.Observer, v float64) {
	if o != nil {
		o.Observe(v)
	}
}

func add(c prometheus.Counter, n float64) {
	if c != nil {
		c.Add(n)
	}
}

// NewTelemetry registers the activator's metrics. queued tells how many requests are parked now.
func NewTelemetry(reg prometheus.Registerer, queued func() float64) (*Telemetry, error) {
	by := []string{"namespace_name", "service_name", "configuration_name", "revision_name"}
	wait := prometheus.ExponentialBuckets(0.001, 2, 17) // 1 ms to 65 s
	t := &Telemetry{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "activator_request_count", Help: "Requests that the activator routed to a revision, by the status that the client was sent."},
			append(by, "response_code", "response_code_class")),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rouse_activator_outcomes_total", Help: "Requests by how they ended; ok means a complete response."}, append(by, "outcome")),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rouse_activator_retries_total", Help: "Tries beyond the first, each after certainty that no application saw the one before."}, by),
		latencies: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "activator_request_latencies", Help: "Time of a request in the activator, in milliseconds, parking included.",
			Buckets: []float64{5, 10, 20, 40, 60, 80, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000, 2000, 5000, 10000, 20000, 50000, 100000}},
			append(by, "response_code", "response_code_class")),
		parked: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rouse_activator_parked_seconds", Help: "Time that a request was parked before it got its pod.", Buckets: wait}, by),
		cold: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rouse_activator_cold_start_seconds", Help: "Time that a request was parked which met no pod.", Buckets: wait}, by),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rouse_activator_cold_start_phase_seconds", Help: "Time of a cold start by phase, of one request each: the oldest that met no pod.",
			Buckets: wait}, append(by, "phase")),
		ejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rouse_activator_ejections_total", Help: "How often a pod was left alone for a while, by reason."}, append(by, "reason")),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rouse_activator_probes_total", Help: "Questions to pods that start, by how they were answered."}, append(by, "result")),
		found: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rouse_activator_pod_start_seconds", Help: "Time from a pod's appearance to the answer that it is ready.", Buckets: wait}, by),
	}
	t.revisions = newRegistry[identity.Revision, *counted]()
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "queue_depth", Help: "Requests parked in the activator, over all revisions."}, queued)
	for _, c := range []prometheus.Collector{t.requests, t.outcomes, t.retries, t.latencies, t.parked, t.cold, t.phases, t.ejections, t.probes, t.found, gauge} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Name gives a revision its labels. It is called before the revision is put.
func (t *Telemetry) Name(rev identity.Revision, l Labels) {
	t.naming.Store(true)
	t.name(rev, l)
}

func (t *Telemetry) name(rev identity.Revision, l Labels) {
	labels := slices.Clip([]string{l.Namespace, l.Service, l.Configuration, l.Revision}) // appended to by many
	t.revisions.change(rev.Name, func(m map[identity.Revision]*counted) {
		if c := m[rev]; c != nil && slices.Equal(c.labels, labels) {
			return
		}
		c := &counted{labels: labels}
		c.statuses.Store(&map[int]*answered{})
		m[rev] = c
	})
}

// Forget drops a revision's metrics. What ends there later is not counted.
func (t *Telemetry) Forget(rev identity.Revision) {
	c := t.revisions.get(rev.Name, rev)
	if c == nil {
		return
	}
	t.revisions.change(rev.Name, func(m map[identity.Revision]*counted) { delete(m, rev) })
	c.make(func() { c.gone = true })
	l := c.labels
	match := prometheus.Labels{"namespace_name": l[0], "revision_name": l[3]}
	for _, vec := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{t.requests, t.outcomes, t.retries, t.latencies, t.parked, t.cold, t.phases, t.ejections, t.probes, t.found} {
		vec.DeletePartialMatch(match)
	}
}

// of returns nil for a revision that is not counted: one that was forgotten.
func (t *Telemetry) of(rev identity.Revision) *counted {
	if c := t.revisions.get(rev.Name, rev); c != nil || t.naming.Load() {
		return c
	}
	t.name(rev, Labels{Namespace: rev.Namespace, Revision: rev.Name})
	return t.revisions.get(rev.Name, rev)
}

// Dispatched implements [Observer].
func (t *Telemetry) Dispatched(rev identity.Revision, cold bool, parked time.Duration) {
	c := t.of(rev)
	if c == nil {
		return
	}
	observe(c.parked.get(c, t.parked.WithLabelValues), parked.Seconds())
	if cold {
		observe(c.cold.get(c, t.cold.WithLabelValues), parked.Seconds())
	}
}

// Done implements [Observer].
func (t *Telemetry) Done(rev identity.Revision, o Outcome) {
	c := t.of(rev)
	if c == nil {
		return
	}
	add(c.outcomes[o.Cause].get(c, t.outcomes.WithLabelValues, o.Cause.String()), 1)
	add(c.retries.get(c, t.retries.WithLabelValues), float64(max(0, o.Tries-1)))
	status := o.Status
	if status == 0 {
		status = fault.Of(o.Cause).Status
	}
	if s := c.status(t, status); s != nil {
		s.requests.Inc()
		s.latencies.Observe(float64(o.Took) / float64(time.Millisecond))
	}
	if o.Cold != nil {
		t.woken(c, o.Cold)
	}
}

// otherStatus stands for the codes that HTTP has no class for: applications make them up, and each would be a series.
const otherStatus = 0

// status is nil when the revision was forgotten before the first of that code.
func (c *counted) status(t *Telemetry, code int) *answered {
	if code < 100 || code > 599 {
		code = otherStatus
	}
	if child := (*c.statuses.Load())[code]; child != nil {
		return child
	}
	return c.makeStatus(t, code)
}

func (c *counted) makeStatus(t *Telemetry, code int) (child *answered) {
	name, class := strconv.Itoa(code), strconv.Itoa(code/100)+"xx"
	if code == otherStatus {
		name, class = "other", "other"
	}
	c.make(func() {
		labels := append(c.labels, name, class)
		child = &answered{t.requests.WithLabelValues(labels...), t.latencies.WithLabelValues(labels...)}
		next := maps.Clone(*c.statuses.Load())
		next[code] = child
		c.statuses.Store(&next)
	})
	return child
}

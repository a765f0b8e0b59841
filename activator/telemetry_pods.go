package activator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/identity"
)

// Probed implements [PodObserver].
func (t *Telemetry) Probed(rev identity.Revision, _ string, r ProbeResult, since time.Duration) {
	c := t.of(rev)
	if c == nil {
		return
	}
	c.make(func() {
		t.probes.WithLabelValues(append(c.labels, r.String())...).Inc()
		if r == ProbeOK {
			t.found.WithLabelValues(c.labels...).Observe(since.Seconds())
		}
	})
}

// Ejected implements [PodObserver].
func (t *Telemetry) Ejected(rev identity.Revision, _ string, e Ejection) {
	if c := t.of(rev); c != nil {
		c.make(func() { t.ejections.WithLabelValues(append(c.labels, e.String())...).Inc() })
	}
}

// podFigures are gauges that are worked out when they are asked for.
type podFigures struct {
	t       *Telemetry
	a       *Activator
	ejected *prometheus.Desc
	balance *prometheus.Desc
	inside  *prometheus.Desc
}

// RegisterPods registers the gauges about pods and what is in flight.
func (t *Telemetry) RegisterPods(reg prometheus.Registerer, a *Activator) error {
	by := []string{"namespace_name", "service_name", "configuration_name", "revision_name"}
	return reg.Register(&podFigures{t: t, a: a,
		ejected: prometheus.NewDesc("rouse_activator_ejected_pods", "Pods that are left alone as outliers, over all revisions.", nil, nil),
		balance: prometheus.NewDesc("rouse_activator_pod_balance", "Requests in flight in the fullest ready pod by the average of the ready ones; 1 is even.",
			by, nil),
		inside: prometheus.NewDesc("activator_request_concurrency", "Requests in the activator, parked or in flight in a pod, of revisions that had any.", by, nil),
	})
}

// Describe implements prometheus.Collector.
func (f *podFigures) Describe(out chan<- *prometheus.Desc) {
	out <- f.ejected
	out <- f.balance
	out <- f.inside
}

// Collect implements prometheus.Collector.
func (f *podFigures) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(f.ejected, prometheus.GaugeValue, f.a.Ejected())
	for r := range f.a.revisions() {
		c := f.t.of(r.id)
		if c == nil {
			continue
		}
		if ratio, ok := r.balance(); ok {
			out <- prometheus.MustNewConstMetric(f.balance, prometheus.GaugeValue, ratio, c.labels...)
		}
		if n := r.load.InFlight(); n > 0 || len(*c.statuses.Load()) > 0 { // most revisions are idle for good
			out <- prometheus.MustNewConstMetric(f.inside, prometheus.GaugeValue, float64(n), c.labels...)
		}
	}
}

// balance compares the fullest ready pod with the average; it says nothing while there is nothing to compare.
func (r *revision) balance() (ratio float64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := &r.rotations[all]
	if len(o.pods) < 2 || o.busy == 0 {
		return 0, false
	}
	most := 0
	for _, p := range o.pods {
		most = max(most, p.inFlight)
	}
	return float64(most) * float64(len(o.pods)) / float64(o.busy), true
}

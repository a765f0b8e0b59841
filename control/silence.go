package control

import (
	"slices"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/endpoint"
)

// Whoever reports no more has nothing to tell, or is not heard. A queue-proxy reports every second while its pod lives. An
// activator reports while it has requests of the revision, once more that it has none, and then nothing: so only its
// silence can mean that there is no load, and only after that last report.

// silence is what it means that reports stay out.
type silence struct {
	// hides says that requests may be in flight of which no report tells, or that the windows still lack some of them: then
	// no pod is taken away.
	hides bool
	// idles says that nothing is in flight when there is no report in a whole stable window.
	idles bool
}

// listen judges what is not heard. The caller holds r.mu.
func (r *revision) listen(now time.Time, ttl time.Duration, activators ActivatorSource) silence {
	w := r.whoReports(now, ttl)
	s := silence{hides: w.lost || w.proxied > 0 && !w.activators}
	alone := r.activatorsAlone()
	switch {
	case r.replicas == 0: // nothing can be taken away
	case activators != nil && r.owned: // they tell only the owner what they have
		unheard, connected := activators.Unheard(r.id, func(name string) bool { return r.fresh(name, now, ttl) })
		s.hides = s.hides || unheard > 0 || alone && !connected
	default:
		s.hides = s.hides || w.mute
	}
	s.idles = !s.hides && alone
	if s.hides {
		r.hidden = now.UnixNano()
	}
	s.hides = s.hides || time.Duration(now.UnixNano()-r.hidden) < r.policy.StableWindow
	return s
}

// reporters sums up the sources of a revision.
type reporters struct {
	activators bool    // one of them reports
	proxied    float64 // requests that pods say they have from activators
	lost       bool    // a ready pod had requests at last and is silent
	mute       bool    // so is somebody who may be an activator
}

func (r *revision) whoReports(now time.Time, ttl time.Duration) (w reporters) {
	for i := range r.sources {
		s := &r.sources[i]
		silent := now.UnixNano()-s.at > int64(ttl)
		switch {
		case !silent && s.sidecar:
			w.proxied += s.busy - s.inFlight
		case !silent:
			w.activators = true
		case s.inFlight == 0 || s.parallel > 0 || s.lagging: // an event source that is silent has gone
		default:
			pod := r.pod(s.pod)
			w.lost = w.lost || pod != nil && pod.State == endpoint.Ready
			w.mute = w.mute || pod == nil && !s.sidecar
		}
	}
	return w
}

// fresh says whether a producer's last report still counts. The caller holds r.mu.
func (r *revision) fresh(producer string, now time.Time, ttl time.Duration) bool {
	return slices.ContainsFunc(r.sources, func(s source) bool { return s.pod == producer && now.UnixNano()-s.at <= int64(ttl) })
}

// activatorsAlone says whether nobody but activators can have something to report: every request comes through one, or no
// ready pod has a queue-proxy. A revision without a ready pod must have been heard of before. The caller holds r.mu.
func (r *revision) activatorsAlone() bool {
	switch {
	case r.policy.TargetBurstCapacity == -1:
		return true
	case r.pods.Count(endpoint.Ready) == 0:
		return len(r.sources) > 0
	}
	return !slices.ContainsFunc(r.pods.Endpoints, func(e endpoint.Endpoint) bool { return e.Sidecar && e.State == endpoint.Ready })
}

// sample reads the windows of a metric.
func (r *revision) sample(m kpa.Metric, now time.Time, s silence) kpa.Sample {
	w := r.windows[m]
	if w == nil {
		return kpa.Sample{}
	}
	stable, panicking, ok := w.Averages(now)
	return kpa.Sample{Stable: stable, Panic: panicking, Present: ok || s.idles, Partial: ok && s.hides}
}

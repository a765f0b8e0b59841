package kpa

import (
	"math"
	"time"
)

// Drain-aware bursts (Policy.Burst) hold pods back that could not help: each further pod that starts at the same time
// is ready a little later, and one that is ready after the queue has drained has only taken CPU from those that drained
// it. The queue is the requests in the system, the drain is what ready and starting pods work off, and both start-up and
// work times are learnt (Startup).

const (
	// firstBatch times the root of the queue is how many pods a burst may start while nothing is learnt about them: the
	// number of useful pods grows with the root of the queue when each start delays the others.
	firstBatch = 2
	// drainPatience is by how much the drain may take longer than predicted before the default rule takes over.
	drainPatience = 2
	// drainProgress is what may be left of a queue whose drain takes longer than that, for the patience to be renewed.
	drainProgress = 0.8
	// drainSlack is added to it, so that the noise of short bursts does not count.
	drainSlack = time.Second
)

// holdBack bounds a wish for more pods than exist by those that can still help.
func (p *Policy) holdBack(s *State, o *Observation, pods int, r *Reasons, now time.Time) int {
	existing := o.Ready + o.Starting
	if pods <= existing {
		s.DrainBy = time.Time{}
		return pods
	}
	useful, drained := p.drain(o)
	useful = max(useful, existing, p.steadyPods(o), 1)
	if useful >= pods {
		return pods
	}
	if o.InFlight <= float64(o.Ready)*p.podConcurrency() {
		// The queue has drained: only the windows still remember the burst.
		s.DrainBy = time.Time{}
		r.Limit = LimitDrain
		return useful
	}
	late := now.After(s.DrainBy)
	if s.DrainBy.IsZero() || o.InFlight > 2*s.DrainQueue || late && o.InFlight <= drainProgress*s.DrainQueue {
		// A queue that has doubled is another burst, and one that drains, if later than predicted, needs no other rule.
		// Neither can go on for long, so neither can the patience.
		late = false
		s.DrainBy, s.DrainQueue = now.Add(drainPatience*drained+drainSlack), o.InFlight
	}
	if late {
		return pods // the prediction failed: what was learnt does not hold
	}
	r.Limit = LimitDrain
	return useful
}

// drain follows the queue until it is empty and counts the pods that are ready before that. It returns them and how
// long it takes.
func (p *Policy) drain(o *Observation) (useful int, drained time.Duration) {
	st, limit := &o.Startup, p.podConcurrency()
	if st.Base <= 0 || st.PerPod <= 0 || st.Work <= 0 {
		return o.Ready + pods(math.Ceil(firstBatch*math.Sqrt(o.InFlight/limit))), st.Base
	}
	most := int(math.Ceil(o.InFlight / limit))    // more pods than requests help nobody
	work := o.InFlight / limit * float64(st.Work) // pod-nanoseconds to do
	at, rate, done := 0.0, float64(o.Ready), 0.0  // now, pods at work, pod-nanoseconds done
	for i := 0; int(rate) < most; i++ {
		ready := max(at, p.readyAt(o, i))
		if rate > 0 && done+rate*(ready-at) >= work {
			break
		}
		done += rate * (ready - at)
		at = ready
		rate++
	}
	if rate > 0 {
		at += max(0, work-done) / rate
	}
	return int(rate), time.Duration(at)
}

// readyAt is in how many nanoseconds pod i of those starting, and of those that would be started now, is ready.
func (p *Policy) readyAt(o *Observation, i int) float64 {
	at := o.Startup.Base + time.Duration(i)*o.Startup.PerPod
	if i < o.Starting {
		at -= o.Startup.OldestStarting
	}
	return float64(at)
}

// steadyPods is how many pods the arrivals of the stable window keep busy.
func (p *Policy) steadyPods(o *Observation) int {
	rate := o.Metrics[RPS]
	if !rate.Present {
		return 0
	}
	t := p.capacityTarget()
	utilisation := 1.0
	if t.Total > 0 {
		utilisation = t.Value / t.Total
	}
	return pods(math.Ceil(rate.Stable * o.Startup.Work.Seconds() / (p.podConcurrency() * utilisation)))
}

// podConcurrency is how many requests a pod works on at once.
func (p *Policy) podConcurrency() float64 {
	if p.ContainerConcurrency > 0 {
		return float64(p.ContainerConcurrency)
	}
	for _, t := range p.Targets {
		if t.Metric == Concurrency {
			return max(1, t.Total)
		}
	}
	return 1
}

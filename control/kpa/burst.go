package kpa

import (
	"math"
	"time"
)

// Drain-aware bursts (Policy.Burst) hold pods back that could not help: each further pod that starts at the same time
// is ready a little later, and one that is ready when the queue is nearly empty has only taken CPU from those that
// emptied it. How many help is planned from what is in the system this instant and from what was learnt about start-up
// and work (plan.go); while nothing is learnt it is a share of what the default rule asks for, and every pod that becomes
// ready corrects it.
//
// Where the pods share one machine (Startup.AtOnce) they are also started few at a time: the first ones are ready sooner
// when they need not share the CPU with those that could only come later, and the last ones no later.

const (
	// modest is the share of the default rule's pods that a burst may have if they only come before it is over: most of
	// the time it does as well with them. More must be well worth their start. It is also the number to begin with while
	// nothing is learnt.
	modest = 0.3
	// startPace is Startup.Pace's default: about what a machine needs to start a small process.
	startPace = 5 * time.Millisecond
	// drainPatience is by how much the drain may take longer than predicted before the default rule takes over.
	drainPatience = 2
	// drainProgress is what may be left of a queue whose drain takes longer than that, for the patience to be renewed.
	drainProgress = 0.8
	// drainSlack is added to it, so that the noise of short bursts does not count.
	drainSlack = time.Second
	// sharedSlack is that on a shared machine: a busy one is late with everything, and more pods make it later.
	sharedSlack = 10 * time.Second
	// paceAgain and drainAgain are how soon a held-back burst is looked at again: while pods wait for their turn to
	// start, and while it drains.
	paceAgain  = 10 * time.Millisecond
	drainAgain = 50 * time.Millisecond
)

// holdBack bounds a wish for more pods than exist by those that can still help. again is in how long that may change.
func (p *Policy) holdBack(s *State, o *Observation, pods int, r *Reasons, now time.Time) (held int, again time.Duration) {
	existing := max(o.Ready+o.Starting, o.Replicas)
	if pods <= existing {
		s.endBurst()
		return pods, 0
	}
	if s.DrainSince.IsZero() {
		s.DrainSince = now
	}
	useful, drained := p.plan(o, p.modestly(pods))
	useful = min(pods, max(useful, p.steadyPods(o), 1))
	if o.InFlight <= float64(o.Ready)*p.podConcurrency() {
		// The queue has drained: only the windows still remember the burst.
		s.endBurst()
		return p.heldTo(max(useful, existing), pods, r), 0
	}
	if s.drainsLate(o, drained, now) {
		return pods, 0 // the prediction failed: what was learnt does not hold
	}
	again = drainAgain
	if started := o.mayBeStarted(); useful > started {
		useful, again = started, paceAgain
	}
	held = max(useful, existing)
	if held >= pods {
		again = 0
	}
	return p.heldTo(held, pods, r), again
}

// modestly is the share of a wish that is always fair.
func (p *Policy) modestly(pods int) int {
	if p.MaxScale > 0 {
		pods = min(pods, p.MaxScale)
	}
	return max(1, int(modest*float64(pods)))
}

// heldTo notes the limit when it is one.
func (p *Policy) heldTo(held, pods int, r *Reasons) int {
	if held < pods {
		r.Limit = LimitDrain
	}
	return held
}

// endBurst forgets a burst that is over.
func (s *State) endBurst() { s.DrainSince, s.DrainBy = time.Time{}, time.Time{} }

// drainsLate says whether the queue takes longer to drain than was predicted, by more than is forgiven. A queue that has
// doubled is another burst, and one that drains, if later than predicted, needs no other rule. Neither can go on for
// long, so neither can the patience; and as long as no pod is ready, or nobody knows how long it should take, nothing can
// be late.
func (s *State) drainsLate(o *Observation, drained time.Duration, now time.Time) bool {
	if o.Ready == 0 || drained == 0 {
		s.DrainBy = time.Time{}
		return false
	}
	late := now.After(s.DrainBy)
	if s.DrainBy.IsZero() || o.InFlight > 2*s.DrainQueue || late && o.InFlight <= drainProgress*s.DrainQueue {
		late = false
		slack := drainSlack
		if o.Startup.AtOnce > 0 {
			slack = sharedSlack
		}
		s.DrainBy, s.DrainQueue = now.Add(drainPatience*drained+slack), o.InFlight
	}
	return late
}

// mayBeStarted is how many pods may be ready or starting by now. A machine that brings a pod up in Base and one more
// every PerPod is fully used by Base/PerPod of them at once; with twice as many it is never idle, and PerPod falls to
// what it can do if it was learnt from fewer. Where nothing is learnt, or starts mostly wait for something else than this
// machine, one may be added every Pace all the same.
func (o *Observation) mayBeStarted() int {
	st := &o.Startup
	if st.AtOnce <= 0 {
		return maxPods
	}
	atOnce := st.AtOnce
	if st.PerPod > 0 && st.Base > 0 {
		full := pods(math.Ceil(2 * float64(st.Base) / float64(st.PerPod)))
		atOnce = max(atOnce, min(full, o.Ready)) // no faster than doubling: what was learnt may not hold
	}
	pace := st.Pace
	if pace <= 0 {
		pace = startPace
	}
	return max(o.Ready+atOnce, st.AtOnce+int(st.OldestStarting/pace))
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

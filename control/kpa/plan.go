package kpa

import (
	"math"
	"time"
)

const (
	// payback is how many requests a pod must have time for before the queue is empty: with less, one that comes a
	// little later than planned does nothing.
	payback = 1
	// jitter is how many times PerPod a start may be late; where that is less than a request, it is enough.
	jitter = 8
	// toll is how many times as long as a shared machine spent on bringing up all pods one more must be at work: its
	// start takes from those at work, and PerPod is easily seen too small when pods come in bunches.
	toll = 4
	// doubt divides the work of which only the beginning was seen: on a busy machine the first answer is late.
	doubt = 4
)

// plan follows the queue until it is empty and counts the pods that are worth having: those that exist, and those that
// could be started now and would still have enough to do. Up to modest of them need only come before it is empty.
// drained is how long it will take with them, 0 when nobody knows.
func (p *Policy) plan(o *Observation, modest int) (useful int, drained time.Duration) {
	st, limit := &o.Startup, p.podConcurrency()
	if st.Base <= 0 || st.PerPod <= 0 || st.Work <= 0 {
		return modest, 0
	}
	most := int(math.Ceil(o.InFlight / limit))      // more pods than requests help nobody
	left := o.InFlight / limit * float64(st.work()) // pod-nanoseconds to do
	at, rate := 0.0, float64(o.Ready)               // now, pods at work
	for i := 0; int(rate) < most; i++ {
		ready := max(at, o.readyIn(i))
		rest := left - rate*(ready-at)
		if rest <= 0 || i >= o.Starting && rate > 0 && rest/rate < o.worth(rate, modest) {
			break
		}
		left, at = rest, ready
		rate++
	}
	if rate > 0 {
		at += max(0, left) / rate
	}
	if st.Unanswered { // the work takes longer than it has been seen to
		return max(modest, int(rate)), 0
	}
	return int(rate), time.Duration(at)
}

// work is how long a pod that is not disturbed works on a request, as far as anybody knows.
func (st *Startup) work() time.Duration {
	switch {
	case st.AtOnce > 0 && st.Unanswered:
		return st.Work / doubt
	case st.AtOnce > 0 && st.LeastWork > 0:
		return min(st.Work, st.LeastWork)
	}
	return st.Work
}

// worth is how long a pod must be at work to be worth its start, when so many are at work already.
func (o *Observation) worth(pods float64, modest int) float64 {
	least := payback * float64(min(o.Startup.work(), jitter*o.Startup.PerPod))
	if o.Startup.AtOnce > 0 && int(pods) >= modest {
		return max(least, toll*pods*float64(o.Startup.PerPod))
	}
	return least
}

// readyIn is in how many nanoseconds pod i of those starting, and of those that would be started now, is ready.
func (o *Observation) readyIn(i int) float64 {
	st := &o.Startup
	if st.AtOnce > 0 && st.Flowing {
		// The machine brings up one after the other, without a gap.
		turn := time.Duration(i+1) * st.PerPod
		if i >= o.Starting {
			turn = max(turn, st.Base)
		}
		return float64(turn)
	}
	at := st.Base + time.Duration(i)*st.PerPod
	if i < o.Starting {
		at -= st.OldestStarting
	}
	return float64(at)
}

package kpa

import "math"

// minActivators is how many activators a revision gets at least: one may fail.
const minActivators = 2

// WantedMode says who should carry the traffic: the pods themselves when some are wanted and they have room for a burst.
func WantedMode(want, excess int) Mode {
	if want > 0 && excess >= 0 {
		return Serve
	}
	return Proxy
}

// EffectiveMode corrects a mode by what exists: without a ready pod the activators must hold the requests, and without
// an activator the pods must take them.
func EffectiveMode(m Mode, ready, activators int) Mode {
	switch {
	case ready == 0:
		return Proxy
	case activators == 0:
		return Serve
	}
	return m
}

// NumActivators is how many activators should be able to carry the revision's traffic: enough for what its pods can
// take and the burst besides.
func NumActivators(p *Policy, ready int) int {
	if p.TargetBurstCapacity == 0 {
		return minActivators
	}
	requests := float64(ready)*p.capacityTarget().Total + max(p.TargetBurstCapacity, 0)
	return max(minActivators, pods(math.Ceil(requests/p.ActivatorCapacity)))
}

// NextActivity is the Active condition after a decision for want pods with ready ones, when minReady must be ready for
// the revision to be active.
func NextActivity(a Activity, want, ready, minReady int) Activity {
	switch {
	case want == 0 || minReady == 0:
		return Inactive
	case want < 0 && a == Inactive:
		return Inactive
	case ready < minReady:
		return Activating
	}
	return Active
}

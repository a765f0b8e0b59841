package kpa

import "time"

// Decide decides about a revision at now: Recommend, then bounds, the way to zero, mode and activity. It changes s.
func Decide(p *Policy, s *State, o *Observation, now time.Time) Decision { panic("not built yet") }

// Recommendation is the first half of a decision: what the load asks for.
type Recommendation struct {
	Valid               bool
	Pods                int
	ExcessBurstCapacity int
	Panic               bool
	MaxPanicPods        int
	Reasons             Reasons
}

// Recommend turns loads into pods as Knative's autoscaler does: its Scale. It changes s.
func Recommend(p *Policy, s *State, o *Observation, now time.Time) Recommendation {
	panic("not built yet")
}

// WakesNow says whether a report of that much concurrency calls for a decision at once instead of at the next tick:
// latest is State.Raw. Knative does so at 0 only; a new revision that has no pods (latest -1, replicas 0) would wait for
// a tick there and does not here.
func WakesNow(latest, replicas int, concurrency float64) bool {
	return concurrency > 0 && (latest == 0 || latest < 0 && replicas == 0)
}

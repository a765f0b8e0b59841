package kpa

import "time"

// Decide decides about a revision at now: Recommend, then Settle, then who carries the traffic. It changes s.
func Decide(p *Policy, s *State, o *Observation, now time.Time) Decision {
	rec := Recommend(p, s, o, now)
	set := Settle(p, s, o, s.Raw, now)
	d := Decision{
		Valid:               rec.Valid,
		Raw:                 s.Raw,
		Want:                set.Want,
		Desired:             -1,
		ExcessBurstCapacity: s.ExcessBurstCapacity,
		Activators:          NumActivators(p, o.Ready),
		Panic:               rec.Panic,
		MaxPanicPods:        rec.MaxPanicPods,
		Again:               sooner(rec.Again, set.Again),
		ProbeActivator:      set.ProbeActivator,
		Reasons:             rec.Reasons,
	}
	if set.Apply {
		d.Desired = set.Want
	}
	d.Mode = EffectiveMode(WantedMode(set.Want, d.ExcessBurstCapacity), o.Ready, o.Path.Activators)
	s.setActivity(p.nextActivity(s, o, set.Want), now)
	d.Activity = s.Activity
	if set.Limit != LimitNone {
		d.Reasons.Limit = set.Limit
	}
	if s.Limit != d.Reasons.Limit {
		s.Limit, s.LimitSince = d.Reasons.Limit, now
	}
	d.Reasons.Since = s.LimitSince
	return d
}

// sooner returns the shorter of two delays, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// nextActivity moves the Active condition and notes when the initial scale is reached.
func (p *Policy) nextActivity(s *State, o *Observation, want int) Activity {
	minReady := p.minReady(s, o)
	if o.Ready >= minReady {
		s.InitialReached = true
	}
	return NextActivity(s.Activity, want, o.Ready, minReady)
}

// minReady is how many pods must be ready for the revision to be active.
func (p *Policy) minReady(s *State, o *Observation) int {
	least := 0
	if o.Reachability != Unreachable {
		least = p.MinScale
	}
	if !s.InitialReached {
		return max(least, p.InitialScale)
	}
	return max(least, 1)
}

// WakesNow says whether a report of that much concurrency calls for a decision at once instead of at the next tick;
// latest is State.Raw. Knative does so when the latest number is 0. A new revision without pods (latest -1, replicas 0)
// has to wait for a tick there; here it does not.
func WakesNow(latest, replicas int, concurrency float64) bool {
	return concurrency > 0 && (latest == 0 || latest < 0 && replicas == 0)
}

// Changed says whether a new decision is news: the number of pods differs, or the excess burst capacity changed sides,
// with which the mode may change. Zero counts as enough capacity.
func Changed(oldPods, oldExcess, newPods, newExcess int) bool {
	return oldPods != newPods || (oldExcess < 0) != (newExcess < 0)
}

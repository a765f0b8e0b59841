package kpa

import (
	"slices"
	"time"
)

// State is what a revision's decisions remember. Make one with NewState; keep it as long as the revision's UID lives
// and hand it over with the windows when the owner changes. It is plain data: JSON keeps all of it.
type State struct {
	// PanicSince is when the last load above the threshold was seen; zero outside of panic.
	PanicSince time.Time
	// MaxPanicPods is the most that was asked for in this panic. Before the first panic it is the number of pods that
	// there were when the revision was met, as in Knative.
	MaxPanicPods int
	// Delay remembers wishes for the scale-down delay.
	Delay DelayWindow
	// Raw and ExcessBurstCapacity are those of the last valid decision; -1 and the policy's guess before it.
	Raw                 int
	ExcessBurstCapacity int
	// Activity is the Active condition, since ActivitySince.
	Activity      Activity
	ActivitySince time.Time
	// InitialReached says that the initial scale was ready once.
	InitialReached bool
	// DrainBy is when a burst of DrainQueue requests, for which a drain-aware policy holds pods back, must have drained,
	// and DrainSince when the burst began; zero while nothing is held back.
	DrainBy    time.Time
	DrainSince time.Time
	DrainQueue float64
	// Limit is what had the last word in the last decision, since LimitSince.
	Limit      Limit
	LimitSince time.Time
}

// NewState returns the state of a revision that is met at now with that many pods, the ready ones in Knative. With more
// than one it begins in panic, so that a restart of the autoscaler takes nothing away before a full stable window was seen.
func NewState(p *Policy, pods int, now time.Time) State {
	s := State{
		Raw:                 -1,
		ExcessBurstCapacity: initialExcess(p),
		Activity:            Activating,
		ActivitySince:       now,
		LimitSince:          now,
	}
	s.MaxPanicPods = pods
	if pods > 1 {
		s.PanicSince = now
	}
	return s
}

// initialExcess guesses the excess burst capacity of a revision of which nothing was measured yet.
func initialExcess(p *Policy) int {
	if p.TargetBurstCapacity <= 0 {
		return int(p.TargetBurstCapacity)
	}
	return int(float64(p.InitialScale)*p.capacityTarget().Total - p.TargetBurstCapacity)
}

// Clone returns a copy that shares nothing.
func (s *State) Clone() State {
	c := *s
	c.Delay.Slots = slices.Clone(s.Delay.Slots)
	return c
}

// Bursting says that a drain-aware policy holds pods back: every pod that becomes ready may change how many help.
func (s *State) Bursting() bool { return !s.DrainSince.IsZero() }

// setActivity changes the Active condition and remembers when it changed.
func (s *State) setActivity(a Activity, now time.Time) {
	if s.Activity != a {
		s.Activity = a
		s.ActivitySince = now
	}
}

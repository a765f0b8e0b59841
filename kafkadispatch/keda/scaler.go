package keda

import "time"

// Scaler follows one ScaledObject over time: cooldown, idle replicas, fallback. It is pure: time comes in as a value. It
// is not safe for concurrent use.
type Scaler struct {
	object   ScaledObject
	born     time.Time
	active   time.Time // when a trigger was active last; zero before the first time
	failures int       // polls in a row
	replicas int
}

// NewScaler starts at no replicas, or at the least that the object has.
func NewScaler(o ScaledObject, now time.Time) *Scaler {
	s := &Scaler{object: o, born: now}
	s.replicas = s.resting()
	return s
}

// Replicas is what the last Step returned.
func (s *Scaler) Replicas() int { return s.replicas }

// Failed notes that the lag could not be read and returns how many replicas there should be: as many as before, until
// the fallback begins.
func (s *Scaler) Failed() int {
	s.failures++
	if after := s.object.FallbackAfter; after > 0 && s.failures >= after {
		s.replicas = s.object.FallbackReplicas
	}
	return s.replicas
}

// Step takes the partitions of each trigger, in the order of ScaledObject.Triggers, and returns how many replicas there
// should be.
func (s *Scaler) Step(now time.Time, partitions [][]Partition) int {
	s.failures = 0
	b := s.object.Bounds
	b.Current = s.replicas
	rs := make([]Result, 0, len(partitions))
	for i := range s.object.Triggers {
		rs = append(rs, s.object.Triggers[i].Evaluate(partitions[i], b))
	}
	r := Combine(rs, b)
	switch {
	case r.Active:
		s.active = now
		s.replicas = max(1, r.Replicas)
	case s.cooling(now):
		s.replicas = min(s.replicas, max(1, b.Min))
	default:
		s.replicas = s.resting()
	}
	return s.replicas
}

// resting is how many replicas there are when nothing is to do.
func (s *Scaler) resting() int {
	if s.object.Idle >= 0 {
		return s.object.Idle
	}
	return s.object.Bounds.Min
}

// cooling says whether the object was active so lately, or made so lately, that its replicas do not go yet.
func (s *Scaler) cooling(now time.Time) bool {
	if s.active.IsZero() {
		return now.Sub(s.born) < s.object.InitialCooldown
	}
	return now.Sub(s.active) < s.object.Cooldown
}

package kpa_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/control/kpa"
)

// applied is what the transcription of the second half of the rule answers.
type applied struct {
	want     int
	patch    bool
	mode     kpa.Mode
	activity kpa.Activity
}

// applyRule is the second half of the rule word for word: bounds, the way to zero, who carries the traffic, the Active
// condition. The only words of our own are those about a floor, and about what is known of no load.
func applyRule(p *kpa.Policy, s *kpa.State, o *kpa.Observation, desired, excess int, now time.Time) applied {
	want, patch := scaleRule(p, s, o, desired, now)
	a := applied{want: want, patch: patch, mode: kpa.Proxy}
	// serve if something is wanted and there is capacity to spare
	if want > 0 && excess >= 0 {
		a.mode = kpa.Serve
	}
	// no ready pods: proxy; no activators: serve
	if o.Ready == 0 {
		a.mode = kpa.Proxy
	} else if o.Path.Activators == 0 {
		a.mode = kpa.Serve
	}
	a.activity = activeRule(p, s, o, want)
	return a
}

func scaleRule(p *kpa.Policy, s *kpa.State, o *kpa.Observation, desired int, now time.Time) (int, bool) {
	least, most := p.MinScale, p.MaxScale
	if o.Reachability == kpa.Unreachable {
		least = 0
	} else {
		if p.InitialScale > 1 && !s.InitialReached && least < p.InitialScale {
			least = p.InitialScale
		}
		if least < o.Floor { // a floor is a lower bound
			least = o.Floor
		}
	}
	bounded := desired
	if bounded < least {
		bounded = least
	}
	if most != 0 && bounded > most {
		bounded = most
	}
	// a negative number is no decision unless activating; a lower bound counts all the same, but takes nothing away, and an
	// upper bound counts, too
	if desired < 0 && most != 0 && o.Replicas > most {
		return most, true
	}
	if desired < 0 && s.Activity != kpa.Activating && bounded <= o.Replicas {
		return desired, false
	}
	if desired < 0 && bounded < o.Replicas && (bounded > 0 || !p.ScaleToZero && o.Replicas > 1) {
		return desired, false
	}
	if bounded != 0 {
		return bounded, true
	}
	if !p.ScaleToZero {
		return 1, true
	}
	since := now.Sub(s.ActivitySince)
	switch s.Activity {
	case kpa.Activating:
		if since >= p.ProgressDeadline+30*time.Second {
			return 0, true
		}
		return -1, false
	case kpa.Active:
		if since >= p.StableWindow {
			return 0, false
		}
		return 1, true
	}
	if p.TargetBurstCapacity != -1 && o.Path.Probe != kpa.ProbeOK {
		return 0, false
	}
	retention := p.ScaleToZeroRetention
	if o.Reachability == kpa.Unreachable {
		retention = 0
	}
	if since >= p.ScaleToZeroGrace && since >= retention {
		return 0, true
	}
	if retention > 0 {
		return 0, false
	}
	return 0, !o.Path.ProxiedSince.IsZero() && now.Sub(o.Path.ProxiedSince) >= p.ScaleToZeroGrace
}

func activeRule(p *kpa.Policy, s *kpa.State, o *kpa.Observation, want int) kpa.Activity {
	minReady := p.MinScale
	if o.Reachability == kpa.Unreachable {
		minReady = 0
	}
	if !s.InitialReached {
		minReady = max(minReady, p.InitialScale)
	} else {
		minReady = max(minReady, 1)
	}
	wasInactive := s.Activity == kpa.Inactive
	if want == 0 || minReady == 0 {
		return kpa.Inactive
	}
	if o.Ready < minReady {
		if want > 0 || !wasInactive {
			return kpa.Activating
		}
		return kpa.Inactive
	}
	if want > 0 || !wasInactive {
		return kpa.Active
	}
	return kpa.Inactive
}

func TestSecondHalfAgreesWithTheRule(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		drawSequence(r, func(p *kpa.Policy, before kpa.State, s *kpa.State, o *kpa.Observation, d kpa.Decision, now time.Time) {
			want := applyRule(p, &before, o, s.Raw, s.ExcessBurstCapacity, now)
			got := applied{want: d.Want, patch: d.Desired >= 0, mode: d.Mode, activity: d.Activity}
			if got != want {
				r.Fatalf("Decide(%+v, %+v) from %v since %v = %+v, want %+v", *p, *o, before.Activity,
					now.Sub(before.ActivitySince), got, want)
			}
		})
	})
}

package kpa

import "time"

// activationSlack is what a revision gets beyond its progress deadline before its pods are given up.
const activationSlack = 30 * time.Second

// idleRecheck is how soon to look again whether a revision that is already proxied may lose its last pod.
const idleRecheck = 3 * time.Second

// Settlement is the second half of a decision: what to do about a wish.
type Settlement struct {
	// Want is the wish within its bounds and on its way to zero; -1 when nothing is known.
	Want int
	// Apply says that the scale target should be set to Want.
	Apply bool
	// Again, when not zero, is in how long the answer may be another one.
	Again time.Duration
	// ProbeActivator asks for a probe of the public address, repeated until it succeeds.
	ProbeActivator bool
	// Limit is the rule that changed the wish or holds it up.
	Limit Limit
}

// Settle bounds a wish of raw pods and takes a revision to zero step by step. It reads s and changes nothing.
func Settle(p *Policy, s *State, o *Observation, raw int, now time.Time) Settlement {
	want, limit := p.bound(s, o, raw)
	if raw < 0 {
		if set, stays := p.stay(s, o, want); stays {
			return set
		}
	}
	if want != 0 {
		return Settlement{Want: want, Apply: true, Limit: limit}
	}
	if !p.ScaleToZero {
		return Settlement{Want: 1, Apply: true, Limit: LimitNoZero}
	}
	idle := now.Sub(s.ActivitySince)
	switch s.Activity {
	case Activating:
		return p.giveUpActivation(idle)
	case Active:
		return p.deactivate(o, idle)
	default:
		return p.dropLastPod(o, idle, now)
	}
}

// stay keeps the number of pods of a revision of which no load is known, least being its lower bound: that one asks for more
// pods and never takes some away, as max-scale does. A revision that never had pods goes on to activate.
func (p *Policy) stay(s *State, o *Observation, least int) (set Settlement, stays bool) {
	if p.MaxScale != 0 && o.Replicas > p.MaxScale {
		return Settlement{Want: p.MaxScale, Apply: true, Limit: LimitMax}, true
	}
	if s.Activity == Activating {
		if !p.ScaleToZero {
			least = max(least, 1)
		}
		return Settlement{Want: -1}, 0 < least && least < o.Replicas
	}
	return Settlement{Want: -1}, least <= o.Replicas
}

// bound applies min, initial, scheduled and max scale.
func (p *Policy) bound(s *State, o *Observation, x int) (int, Limit) {
	x = max(x, 0)
	limit := LimitNone
	lift := func(least int, l Limit) {
		if x < least {
			x, limit = least, l
		}
	}
	if o.Reachability != Unreachable {
		lift(p.MinScale, LimitMin)
		if p.InitialScale > 1 && !s.InitialReached {
			lift(p.InitialScale, LimitInitial)
		}
		lift(o.Floor, LimitSchedule)
	}
	if p.MaxScale != 0 && x > p.MaxScale {
		return p.MaxScale, LimitMax
	}
	return x, limit
}

// giveUpActivation waits for the first pods until the progress deadline, and then lets them go.
func (p *Policy) giveUpActivation(waited time.Duration) Settlement {
	deadline := p.ProgressDeadline + activationSlack
	if waited >= deadline {
		return Settlement{Want: 0, Apply: true}
	}
	return Settlement{Want: -1, Again: deadline - waited, Limit: LimitActivating}
}

// deactivate keeps one pod until the revision was active for a stable window, and then wants zero without applying it:
// an activator must take over the traffic first.
func (p *Policy) deactivate(o *Observation, active time.Duration) Settlement {
	if active < p.StableWindow {
		return Settlement{Want: 1, Apply: true, Again: p.StableWindow - active, Limit: LimitIdle}
	}
	set := Settlement{Want: 0, Limit: LimitProbe}
	if !o.Path.ProxiedSince.IsZero() {
		set.Again = idleRecheck
	}
	return set
}

// dropLastPod lets the last pod go once an activator is known to be in the path and has been for long enough, and when
// that is still so.
func (p *Policy) dropLastPod(o *Observation, inactive time.Duration, now time.Time) Settlement {
	if p.TargetBurstCapacity != -1 && o.Path.Probe != ProbeOK {
		return Settlement{Want: 0, ProbeActivator: true, Limit: LimitProbe}
	}
	set := p.waitOut(o, inactive, now)
	if set.Apply && o.Path.Stale && o.Replicas > 0 { // one without pods has nothing to lose
		return Settlement{Want: 0, ProbeActivator: true, Limit: LimitProbe}
	}
	return set
}

// waitOut holds the last pod for the grace period and the retention.
func (p *Policy) waitOut(o *Observation, inactive time.Duration, now time.Time) Settlement {
	retention := p.ScaleToZeroRetention
	if o.Reachability == Unreachable {
		retention = 0
	}
	if inactive >= max(p.ScaleToZeroGrace, retention) {
		return Settlement{Want: 0, Apply: true}
	}
	if retention > 0 {
		return Settlement{Want: 0, Again: max(p.ScaleToZeroGrace, retention) - inactive, Limit: LimitRetention}
	}
	proxied := time.Duration(0)
	if !o.Path.ProxiedSince.IsZero() {
		proxied = now.Sub(o.Path.ProxiedSince)
	}
	if proxied >= p.ScaleToZeroGrace {
		return Settlement{Want: 0, Apply: true}
	}
	return Settlement{Want: 0, Again: p.ScaleToZeroGrace - max(proxied, inactive), Limit: LimitGrace}
}

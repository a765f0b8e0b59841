package kpa_test

import (
	"math"
	"time"

	"github.com/rousehq/rouse/control/kpa"
)

// oracle is the decision rule word for word, step by step, without a thought for speed or size: every wish of the
// delay window is kept for ever and searched each time.
type oracle struct {
	panicking    bool
	panicTime    time.Time
	maxPanicPods int
	delay        []delayed
}

type delayed struct {
	slot int64
	pods int
}

// scaled is the oracle's answer.
type scaled struct {
	valid, panic bool
	pods, excess int
	maxPanicPods int
}

func newOracle(_ *kpa.Policy, s *kpa.State) *oracle {
	return &oracle{panicking: !s.PanicSince.IsZero(), panicTime: s.PanicSince, maxPanicPods: s.MaxPanicPods}
}

func (o *oracle) scale(p *kpa.Policy, obs *kpa.Observation, now time.Time) scaled {
	target := p.Targets[0]
	m := obs.Metrics[target.Metric]
	if !m.Present {
		return scaled{panic: o.panicking, maxPanicPods: o.maxPanicPods}
	}
	reachable := obs.Reachability != kpa.Unreachable
	// 1. at least one pod counts as ready
	ready := math.Max(1, float64(obs.Ready))
	// 3. what the rates allow
	up := math.Ceil(p.MaxScaleUpRate * ready)
	down := 0.0
	if reachable {
		down = math.Floor(ready / p.MaxScaleDownRate)
	}
	// 4. what the load asks for
	ds := math.Ceil(m.Stable / target.Value)
	dp := math.Ceil(m.Panic / target.Value)
	// 5. within the rates
	desiredStable := math.Min(math.Max(ds, down), up)
	desiredPanic := math.Min(math.Max(dp, down), up)
	// 6. the activation scale
	if a := float64(p.ActivationScale); p.ActivationScale > 1 {
		if ds > 0 && a > desiredStable {
			desiredStable = a
		}
		if dp > 0 && a > desiredPanic {
			desiredPanic = a
		}
	}
	// 7., 8. panic
	over := dp/ready >= p.PanicThreshold
	if !o.panicking && over {
		o.panicking = true
		o.panicTime = now
	} else if o.panicking && over {
		o.panicTime = now
	} else if o.panicking && !over && o.panicTime.Add(p.StableWindow).Before(now) {
		o.panicking = false
		o.maxPanicPods = 0
	}
	// 9. in panic the number never falls
	desired := int(desiredStable)
	if o.panicking {
		if int(desiredPanic) > desired {
			desired = int(desiredPanic)
		}
		if desired > o.maxPanicPods {
			o.maxPanicPods = desired
		}
		desired = o.maxPanicPods
	}
	// 10. the scale-down delay
	if reachable && p.ScaleDownDelay > 0 {
		slot := now.Unix() / 2
		o.delay = append(o.delay, delayed{slot: slot, pods: desired})
		slots := int64(math.Ceil(p.ScaleDownDelay.Seconds() / 2))
		for _, d := range o.delay {
			if d.slot > slot-slots && d.pods > desired {
				desired = d.pods
			}
		}
	}
	// 11. excess burst capacity
	excess := 0
	if p.TargetBurstCapacity > 0 {
		excess = int(math.Floor(float64(obs.Ready)*target.Total - p.TargetBurstCapacity - m.Panic))
	} else if p.TargetBurstCapacity == -1 {
		excess = -1
	}
	return scaled{valid: true, panic: o.panicking, pods: desired, excess: excess, maxPanicPods: o.maxPanicPods}
}

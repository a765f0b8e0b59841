package kpa_test

import (
	"testing"

	"github.com/rousehq/rouse/control/kpa"
)

// TestCeiling: a consumer with ten partitions has work for ten pods, however far behind it is; load of others beside it
// is not bounded.
func TestCeiling(t *testing.T) {
	lag := func(stable float64) kpa.Sample { return kpa.Sample{Stable: stable, Panic: stable, Present: true} }
	for name, c := range map[string]struct {
		limit   int
		lag     float64
		http    float64 // requests in flight
		ceiling float64
		ready   int
		want    int
		by      kpa.Limit
	}{
		"unknown":                {1, 1000, 0, 0, 0, 100, kpa.LimitNone},
		"partitions":             {1, 1000, 0, 10, 0, 10, kpa.LimitCeiling},
		"partitions, busy":       {1, 1000, 10, 10, 0, 10, kpa.LimitCeiling},
		"pods take five each":    {5, 1000, 0, 10, 0, 2, kpa.LimitCeiling},
		"no limit":               {0, 1000, 0, 10, 0, 10, kpa.LimitCeiling},
		"less is wanted":         {1, 50, 0, 10, 0, 5, kpa.LimitNone},
		"requests of others":     {1, 1000, 40, 10, 0, 58, kpa.LimitCeiling}, // 40 at 0.7 each; the lag adds nothing
		"others, and no lag":     {1, 0, 40, 10, 0, 58, kpa.LimitNone},
		"not faster than rates":  {1, 1000, 0, 10, 40, 20, kpa.LimitScaleDown},
		"one lane keeps one pod": {1, 1000, 0, 1, 0, 1, kpa.LimitCeiling},
	} {
		t.Run(name, func(t *testing.T) {
			p := aware(max(1, c.limit))
			p.Burst, p.ContainerConcurrency = kpa.BurstDefault, c.limit
			p.Targets = append(p.Targets, kpa.Target{Metric: kpa.Lag, Value: 10, Total: 10})
			s := kpa.NewState(&p, min(c.ready, 1), at(0))
			o := crowd(c.http, kpa.Startup{})
			o.Metrics[kpa.Lag], o.Ceiling, o.Ready, o.Replicas = lag(c.lag), c.ceiling, c.ready, c.ready
			if d := kpa.Decide(&p, &s, &o, at(2)); d.Raw != c.want || d.Reasons.Limit != c.by {
				t.Errorf("Decide = %d pods by %v, want %d by %v", d.Raw, d.Reasons.Limit, c.want, c.by)
			}
		})
	}
}

// TestCeilingTakesNothingAwayInPanic: what is asked for stays until the panic is over, as ever.
func TestCeilingTakesNothingAwayInPanic(t *testing.T) {
	p := aware(1)
	p.Burst = kpa.BurstDefault
	p.Targets = append(p.Targets, kpa.Target{Metric: kpa.Lag, Value: 10, Total: 10})
	s := kpa.NewState(&p, 0, at(0))
	o := crowd(0, kpa.Startup{})
	o.Metrics[kpa.Lag] = kpa.Sample{Stable: 1000, Panic: 1000, Present: true}
	o.Ceiling = 20
	kpa.Decide(&p, &s, &o, at(2))
	o.Ready, o.Replicas, o.Ceiling = 20, 20, 3
	if d := kpa.Decide(&p, &s, &o, at(4)); d.Raw != 20 || d.Reasons.Limit != kpa.LimitPanic {
		t.Errorf("in panic, with work for 3: %d pods by %v, want the 20 that were asked for", d.Raw, d.Reasons.Limit)
	}
}

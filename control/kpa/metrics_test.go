package kpa_test

import (
	"testing"

	"github.com/rousehq/rouse/control/kpa"
)

// several has a target for each metric.
func several() kpa.Policy {
	p := kpa.DefaultPolicy()
	p.Targets = []kpa.Target{
		{Metric: kpa.Concurrency, Value: 70, Total: 100},
		{Metric: kpa.QueueLength, Value: 10, Total: 10},
		{Metric: kpa.CPU, Value: 0.5, Total: 1},
		{Metric: kpa.Lag, Value: 1000, Total: 1000},
	}
	return p
}

func TestLargestWishWins(t *testing.T) {
	type samples map[kpa.Metric]float64
	for name, c := range map[string]struct {
		samples samples
		want    int
		winner  kpa.Metric
	}{
		"concurrency":               {samples{kpa.Concurrency: 300, kpa.QueueLength: 20, kpa.CPU: 1, kpa.Lag: 10}, 5, kpa.Concurrency},
		"queue":                     {samples{kpa.Concurrency: 100, kpa.QueueLength: 75, kpa.CPU: 1, kpa.Lag: 10}, 8, kpa.QueueLength},
		"cpu":                       {samples{kpa.Concurrency: 100, kpa.QueueLength: 0, kpa.CPU: 3.2, kpa.Lag: 10}, 7, kpa.CPU},
		"lag":                       {samples{kpa.Concurrency: 1, kpa.QueueLength: 0, kpa.CPU: 0.1, kpa.Lag: 5500}, 6, kpa.Lag},
		"idle processes are no use": {samples{kpa.Concurrency: 0, kpa.QueueLength: 0, kpa.CPU: 0.01, kpa.Lag: 0}, 0, kpa.Concurrency},
	} {
		t.Run(name, func(t *testing.T) {
			p := several()
			p.MaxScaleDownRate = 1000
			s := kpa.NewState(&p, 1, at(0))
			o := kpa.Observation{Ready: 1}
			for m, v := range c.samples {
				o.Metrics[m] = kpa.Sample{Stable: v, Panic: v, Present: true}
			}
			d := kpa.Decide(&p, &s, &o, at(2))
			if d.Raw != c.want || d.Reasons.Winner != c.winner || d.Reasons.Count != 4 {
				t.Errorf("Decide(%v) = %d pods by %v of %d, want %d by %v of 4", c.samples, d.Raw, d.Reasons.Winner,
					d.Reasons.Count, c.want, c.winner)
			}
		})
	}
}

// TestMissingMetricTakesNothingAway: a metric that is gone must not look like a load that is gone.
func TestMissingMetricTakesNothingAway(t *testing.T) {
	p := several()
	p.PanicThreshold = 10
	s := kpa.NewState(&p, 1, at(0))
	o := kpa.Observation{Ready: 1}
	for _, m := range []kpa.Metric{kpa.Concurrency, kpa.QueueLength, kpa.CPU, kpa.Lag} {
		o.Metrics[m] = kpa.Sample{Stable: 0.1, Panic: 0.1, Present: true}
	}
	o.Metrics[kpa.Lag].Stable, o.Metrics[kpa.Lag].Panic = 1500, 1500
	first := kpa.Decide(&p, &s, &o, at(2))
	o.Metrics[kpa.Lag] = kpa.Sample{}
	second := kpa.Decide(&p, &s, &o, at(4))
	if second.Raw != first.Raw || second.Reasons.Limit != kpa.LimitNoData {
		t.Errorf("without lag: %d pods by %v, want the %d of before", second.Raw, second.Reasons.Limit, first.Raw)
	}
	o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: 700, Panic: 700, Present: true}
	if third := kpa.Decide(&p, &s, &o, at(6)); third.Raw != 10 {
		t.Errorf("without lag and with 700 requests: %d pods, want 10", third.Raw)
	}
}

// TestCPUAloneScalesToZero: a policy that aims at CPU only follows the demand to zero and back.
func TestCPUAloneScalesToZero(t *testing.T) {
	p := kpa.DefaultPolicy()
	p.Targets = []kpa.Target{{Metric: kpa.CPU, Value: 0.7, Total: 1}}
	p.MaxScaleDownRate = 1000
	s := kpa.NewState(&p, 1, at(0))
	o := kpa.Observation{Ready: 1}
	o.Metrics[kpa.CPU] = kpa.Sample{Stable: 0.02, Panic: 0.02, Present: true}
	o.Metrics[kpa.Concurrency] = kpa.Sample{Present: true}
	if d := kpa.Decide(&p, &s, &o, at(2)); d.Raw != 0 {
		t.Errorf("idle: %d pods, want 0", d.Raw)
	}
	o.Metrics[kpa.CPU] = kpa.Sample{Present: true}
	o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: 1, Panic: 1, Present: true}
	if d := kpa.Decide(&p, &s, &o, at(4)); d.Raw != 1 {
		t.Errorf("one request and no CPU yet: %d pods, want 1", d.Raw)
	}
}

func TestScheduleIsAFloor(t *testing.T) {
	p := kpa.DefaultPolicy()
	p.MaxScale = 4
	s := kpa.NewState(&p, 0, at(0))
	o := kpa.Observation{Floor: 3}
	o.Metrics[kpa.Concurrency] = kpa.Sample{Present: true}
	if d := kpa.Decide(&p, &s, &o, at(2)); d.Desired != 3 || d.Reasons.Limit != kpa.LimitSchedule {
		t.Errorf("Decide = %d by %v, want 3 by schedule", d.Desired, d.Reasons.Limit)
	}
	o.Floor = 9
	if d := kpa.Decide(&p, &s, &o, at(4)); d.Desired != 4 || d.Reasons.Limit != kpa.LimitMax {
		t.Errorf("Decide = %d by %v, want 4 by max-scale", d.Desired, d.Reasons.Limit)
	}
}

// TestBoundsNeedNoData: a revision that nobody has asked anything of yet gets its floor, and nothing else.
func TestBoundsNeedNoData(t *testing.T) {
	p := kpa.DefaultPolicy()
	p.InitialScale = 0
	s := kpa.NewState(&p, 0, at(0))
	var o kpa.Observation
	for i, c := range []struct{ floor, min, want int }{{0, 0, -1}, {0, 0, -1}, {2, 0, 2}, {2, 3, 3}} {
		o.Floor, p.MinScale = c.floor, c.min
		if d := kpa.Decide(&p, &s, &o, at(2+2*float64(i))); d.Desired != c.want && (c.want >= 0 || d.Desired > 0) {
			t.Errorf("step %d: Decide = %d, want %d", i, d.Desired, c.want)
		}
	}
}

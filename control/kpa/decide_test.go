package kpa_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rousehq/rouse/control/kpa"
)

// drawPolicy draws any policy with one of Knative's two metrics.
func drawPolicy(r *rapid.T) kpa.Policy {
	p := kpa.DefaultPolicy()
	total := rapid.SampledFrom([]float64{0.7, 1, 10, 100, 1000}).Draw(r, "total")
	p.Targets = []kpa.Target{{
		Metric: kpa.Metric(rapid.IntRange(0, 1).Draw(r, "metric")),
		Total:  total,
		Value:  max(kpa.MinTarget, total*rapid.Float64Range(0.01, 1).Draw(r, "utilisation")),
	}}
	p.TargetBurstCapacity = rapid.SampledFrom([]float64{-1, 0, 1, 211, 5000}).Draw(r, "tbc")
	p.PanicThreshold = rapid.SampledFrom([]float64{1.1, 2, 10}).Draw(r, "threshold")
	p.MaxScaleUpRate = rapid.SampledFrom([]float64{1.1, 2, 10, 1000}).Draw(r, "up")
	p.MaxScaleDownRate = rapid.SampledFrom([]float64{1.1, 2, 10}).Draw(r, "down")
	p.StableWindow = seconds(rapid.SampledFrom([]float64{6, 60, 300}).Draw(r, "window"))
	p.ScaleDownDelay = seconds(rapid.SampledFrom([]float64{0, 0, 1, 5, 61}).Draw(r, "delay"))
	p.ActivationScale = rapid.SampledFrom([]int{0, 0, 2, 7}).Draw(r, "activation")
	p.MinScale = rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(r, "min")
	p.MaxScale = rapid.SampledFrom([]int{0, 0, 5, 50}).Draw(r, "max")
	p.InitialScale = rapid.SampledFrom([]int{0, 1, 1, 4}).Draw(r, "initial")
	p.ScaleToZero = rapid.Bool().Draw(r, "toZero")
	p.ScaleToZeroRetention = seconds(rapid.SampledFrom([]float64{0, 0, 90}).Draw(r, "retention"))
	return p
}

func drawObservation(r *rapid.T, p *kpa.Policy, now time.Time) kpa.Observation {
	load := rapid.SampledFrom([]float64{0, 0, 1, 50, 4000}).Draw(r, "load")
	o := kpa.Observation{
		Ready:        rapid.IntRange(0, 60).Draw(r, "ready"),
		Replicas:     rapid.IntRange(0, 60).Draw(r, "replicas"),
		Reachability: kpa.Reachability(rapid.IntRange(0, 2).Draw(r, "reachability")),
		Floor:        rapid.SampledFrom([]int{0, 0, 2}).Draw(r, "floor"),
	}
	o.Path.Activators = rapid.IntRange(0, 3).Draw(r, "activators")
	o.Path.Probe = kpa.ProbeResult(rapid.IntRange(0, 2).Draw(r, "probe"))
	if rapid.Bool().Draw(r, "proxied") {
		o.Path.ProxiedSince = now.Add(-seconds(rapid.Float64Range(0, 90).Draw(r, "proxyFor")))
	}
	o.Metrics[p.Targets[0].Metric] = kpa.Sample{
		Stable:  load * rapid.Float64Range(0, 1).Draw(r, "stable"),
		Panic:   load * rapid.Float64Range(0, 3).Draw(r, "panic"),
		Present: rapid.IntRange(0, 9).Draw(r, "present") > 0,
	}
	return o
}

// drawSequence feeds any policy any observations and hands each decision to check.
func drawSequence(r *rapid.T, check func(p *kpa.Policy, before kpa.State, s *kpa.State, o *kpa.Observation,
	d kpa.Decision, now time.Time)) {
	p := drawPolicy(r)
	now := at(0)
	s := kpa.NewState(&p, rapid.IntRange(0, 5).Draw(r, "atFirst"), now)
	for range rapid.IntRange(1, 40).Draw(r, "steps") {
		now = now.Add(seconds(rapid.SampledFrom([]float64{0, 0.3, 2, 2, 2, 7, 70}).Draw(r, "step")))
		o := drawObservation(r, &p, now)
		before := s.Clone()
		check(&p, before, &s, &o, kpa.Decide(&p, &s, &o, now), now)
	}
}

func TestDecideAgreesWithTheFormula(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var slow *oracle
		drawSequence(r, func(p *kpa.Policy, before kpa.State, _ *kpa.State, o *kpa.Observation, d kpa.Decision, now time.Time) {
			if slow == nil {
				slow = newOracle(p, &before)
			}
			want := slow.scale(p, o, now)
			got := scaled{d.Valid, d.Panic, d.Raw, d.ExcessBurstCapacity, d.MaxPanicPods}
			if !want.valid {
				want.pods, want.excess = before.Raw, before.ExcessBurstCapacity
			}
			if got != want {
				r.Fatalf("Decide = %+v, want %+v", got, want)
			}
		})
	})
}

// TestDecisionsStayInBounds states what no load may break.
func TestDecisionsStayInBounds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		drawSequence(r, func(p *kpa.Policy, before kpa.State, s *kpa.State, o *kpa.Observation, d kpa.Decision, _ time.Time) {
			switch {
			case d.Desired < -1 || d.Want < -1:
				r.Fatalf("Desired %d, Want %d", d.Desired, d.Want)
			case p.MaxScale > 0 && max(d.Desired, d.Want) > p.MaxScale:
				r.Fatalf("Desired %d over the limit %d", d.Desired, p.MaxScale)
			case d.Desired == 0 && (!p.ScaleToZero || p.MinScale > 0 && o.Reachability != kpa.Unreachable):
				r.Fatalf("Desired 0 against the policy")
			case d.Desired == 0 && before.Activity == kpa.Active:
				r.Fatalf("an active revision lost its last pod before an activator took over")
			case d.Desired == 0 && before.Activity == kpa.Inactive && p.TargetBurstCapacity != -1 && o.Path.Probe != kpa.ProbeOK:
				r.Fatalf("the last pod went without an activator in the path")
			case d.Mode == kpa.Serve && o.Ready == 0:
				r.Fatalf("mode serve without a ready pod")
			case d.Mode == kpa.Proxy && o.Path.Activators == 0 && o.Ready > 0:
				r.Fatalf("mode proxy without an activator")
			case d.Panic && d.Valid && !before.PanicSince.IsZero() && d.Raw < before.MaxPanicPods:
				r.Fatalf("%d pods in a panic that had asked for %d", d.Raw, before.MaxPanicPods)
			case s.Activity == kpa.Active && d.Want > 0 && o.Ready == 0:
				r.Fatalf("active without a ready pod")
			}
		})
	})
}

// TestStateSurvivesHandover goes on from JSON after any step: the successor decides the same.
func TestStateSurvivesHandover(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		drawSequence(r, func(p *kpa.Policy, before kpa.State, _ *kpa.State, o *kpa.Observation, d kpa.Decision, now time.Time) {
			raw, err := json.Marshal(before)
			if err != nil {
				r.Fatal(err)
			}
			var heir kpa.State
			if err := json.Unmarshal(raw, &heir); err != nil {
				r.Fatal(err)
			}
			got := kpa.Decide(p, &heir, o, now)
			if diff := cmp.Diff(d, got); diff != "" {
				r.Fatalf("after %s the successor decides otherwise:\n%s", raw, diff)
			}
		})
	})
}

func TestCloneSharesNothing(t *testing.T) {
	p := kpa.DefaultPolicy()
	p.ScaleDownDelay = time.Minute
	s := kpa.NewState(&p, 3, at(0))
	o := kpa.Observation{Ready: 3}
	o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: 300, Panic: 300, Present: true}
	kpa.Decide(&p, &s, &o, at(2))
	c := s.Clone()
	want := s.Clone()
	o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: 100, Panic: 100, Present: true}
	for i := range 50 {
		kpa.Decide(&p, &c, &o, at(4+2*float64(i)))
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("decisions of the clone changed the original:\n%s", diff)
	}
}

// TestWayToZero follows a revision from its last request to its last pod and back, with Knative's shipped settings.
func TestWayToZero(t *testing.T) {
	p := kpa.DefaultPolicy()
	s := kpa.NewState(&p, 1, at(0))
	o := kpa.Observation{Ready: 1, Replicas: 1, Path: kpa.Path{Activators: 2}}
	load := func(v float64) { o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: v, Panic: v, Present: true} }
	for _, step := range []struct {
		at       float64
		what     string
		do       func()
		desired  int
		activity kpa.Activity
		limit    kpa.Limit
	}{
		{2, "busy", func() { load(1) }, 1, kpa.Active, kpa.LimitNone},
		{20, "idle, but not for a window yet", func() { load(0) }, 1, kpa.Active, kpa.LimitIdle},
		{62, "idle for a window: let the activator take over", func() {}, -1, kpa.Inactive, kpa.LimitProbe},
		{64, "ask the public address", func() { o.Path.ProxiedSince = at(62) }, -1, kpa.Inactive, kpa.LimitProbe},
		{66, "it answers: wait for the grace period", func() { o.Path.Probe = kpa.ProbeOK }, -1, kpa.Inactive, kpa.LimitGrace},
		{92, "let the last pod go", func() {}, 0, kpa.Inactive, kpa.LimitNone},
		{100, "stay at zero", func() { o.Ready, o.Replicas = 0, 0 }, 0, kpa.Inactive, kpa.LimitNone},
		{103, "wake", func() { load(1) }, 1, kpa.Activating, kpa.LimitNone},
		{104, "awake", func() { o.Ready, o.Replicas = 1, 1 }, 1, kpa.Active, kpa.LimitNone},
	} {
		step.do()
		d := kpa.Decide(&p, &s, &o, at(step.at))
		if d.Desired != step.desired || d.Activity != step.activity || d.Reasons.Limit != step.limit {
			t.Errorf("%v s, %s: desired %d, %v, %v; want %d, %v, %v", step.at, step.what, d.Desired, d.Activity,
				d.Reasons.Limit, step.desired, step.activity, step.limit)
		}
	}
}

func TestLimitSinceIsWhenItBegan(t *testing.T) {
	p := kpa.DefaultPolicy()
	p.MaxScale = 2
	s := kpa.NewState(&p, 1, at(0))
	o := kpa.Observation{Ready: 2, Replicas: 2}
	o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: 900, Panic: 900, Present: true}
	kpa.Decide(&p, &s, &o, at(2))
	d := kpa.Decide(&p, &s, &o, at(30))
	if d.Reasons.Limit != kpa.LimitMax || !d.Reasons.Since.Equal(at(2)) {
		t.Errorf("limit %v since %v, want max-scale since %v", d.Reasons.Limit, d.Reasons.Since, at(2))
	}
}

func TestWakesANewRevisionAtOnce(t *testing.T) {
	if !kpa.WakesNow(-1, 0, 1) {
		t.Error("WakesNow(-1, 0, 1) = false, want a new revision without pods to wake at once")
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	p := kpa.DefaultPolicy()
	p.ScaleDownDelay = time.Minute
	s := kpa.NewState(&p, 1, at(0))
	o := kpa.Observation{Ready: 3}
	now := at(0)
	n := testing.AllocsPerRun(500, func() {
		now = now.Add(2 * time.Second)
		o.Metrics[kpa.Concurrency] = kpa.Sample{Stable: float64(now.Unix() % 400), Panic: 100, Present: true}
		kpa.Decide(&p, &s, &o, now)
	})
	if n != 0 {
		t.Errorf("Decide allocates %v times, want 0", n)
	}
}

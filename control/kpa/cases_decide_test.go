package kpa_test

import (
	"encoding/json"
	"time"

	"github.com/rousehq/rouse/control/kpa"
)

type caseSpec struct {
	Metric          string  `json:"metric"`
	Target          float64 `json:"target_value"`
	Total           float64 `json:"total_value"`
	BurstCapacity   float64 `json:"target_burst_capacity"`
	PanicThreshold  float64 `json:"panic_threshold"`
	UpRate          float64 `json:"max_scale_up_rate"`
	DownRate        float64 `json:"max_scale_down_rate"`
	StableWindow    float64 `json:"stable_window_s"`
	ScaleDownDelay  float64 `json:"scale_down_delay_s"`
	ActivationScale int     `json:"activation_scale"`
	Reachable       bool    `json:"reachable"`
}

func (s *caseSpec) metric() kpa.Metric {
	if s.Metric == "rps" {
		return kpa.RPS
	}
	return kpa.Concurrency
}

func (s *caseSpec) policy() kpa.Policy {
	p := kpa.DefaultPolicy()
	p.Targets = []kpa.Target{{Metric: s.metric(), Value: s.Target, Total: s.Total}}
	p.TargetBurstCapacity = s.BurstCapacity
	p.PanicThreshold = s.PanicThreshold
	p.MaxScaleUpRate, p.MaxScaleDownRate = s.UpRate, s.DownRate
	p.StableWindow = seconds(s.StableWindow)
	p.ScaleDownDelay = seconds(s.ScaleDownDelay)
	p.ActivationScale = s.ActivationScale
	return p
}

func (s *caseSpec) reachability() kpa.Reachability {
	if s.Reachable {
		return kpa.Reachable
	}
	return kpa.Unreachable
}

type decideCase struct {
	ID        string `json:"id"`
	InitReady int    `json:"init_ready_pods"`
	InitPanic *struct {
		At      float64 `json:"panic_time_s"`
		MaxPods int     `json:"max_panic_pods"`
	} `json:"init_panic"`
	Spec  caseSpec `json:"spec"`
	Steps []struct {
		At         float64         `json:"t_s"`
		Ready      int             `json:"ready_pods"`
		Stable     float64         `json:"stable"`
		Panic      float64         `json:"panic"`
		NoData     bool            `json:"no_data"`
		SpecUpdate json.RawMessage `json:"spec_update"`
		Want       struct {
			Valid   bool `json:"valid"`
			Desired int  `json:"desired"`
			EBC     int  `json:"ebc"`
			InPanic bool `json:"in_panic"`
			MaxPods int  `json:"max_panic_pods"`
		} `json:"want"`
	} `json:"steps"`
}

// replayDecide feeds a recorded sequence to Decide, and to the slow transcription of the rule as well.
func replayDecide(c *tally, row json.RawMessage) {
	k := read[decideCase](c, row)
	policy := k.Spec.policy()
	state := kpa.NewState(&policy, k.InitReady, at(0))
	if k.InitPanic != nil {
		state.PanicSince, state.MaxPanicPods = at(k.InitPanic.At), k.InitPanic.MaxPods
	}
	slow := newOracle(&policy, &state)
	for i, step := range k.Steps {
		if step.SpecUpdate != nil {
			if err := json.Unmarshal(step.SpecUpdate, &k.Spec); err != nil {
				c.t.Fatal(err)
			}
			policy = k.Spec.policy()
		}
		o := kpa.Observation{Ready: step.Ready, Reachability: k.Spec.reachability()}
		o.Metrics[k.Spec.metric()] = kpa.Sample{Stable: step.Stable, Panic: step.Panic, Present: !step.NoData}
		now := at(step.At)
		d := kpa.Decide(&policy, &state, &o, now)
		w := step.Want
		ok := d.Valid == w.Valid && d.Panic == w.InPanic && d.MaxPanicPods == w.MaxPods
		if w.Valid {
			ok = ok && d.Raw == w.Desired && d.ExcessBurstCapacity == w.EBC
		}
		c.check(ok, "decide %s step %d at %v: Decide = valid %v, %d pods, excess %d, panic %v %d, want %+v", k.ID, i,
			step.At, d.Valid, d.Raw, d.ExcessBurstCapacity, d.Panic, d.MaxPanicPods, w)
		if got := slow.scale(&policy, &o, now); got.valid != w.Valid || w.Valid && got.pods != w.Desired {
			c.t.Errorf("decide %s step %d: the transcription gives %+v, want %+v", k.ID, i, got, w)
		}
	}
}

type toZeroCase struct {
	ID               string   `json:"id"`
	Replicas         int      `json:"replicas"`
	Desired          int      `json:"decider_desired"`
	Min              int      `json:"min_scale"`
	Max              int      `json:"max_scale"`
	Initial          int      `json:"initial_scale"`
	InitialReached   bool     `json:"initial_reached"`
	Reachability     string   `json:"reachability"`
	Active           *string  `json:"active_condition"`
	ActiveAge        *float64 `json:"active_condition_age_s"`
	StableWindow     float64  `json:"stable_window_s"`
	Grace            float64  `json:"grace_s"`
	Retention        float64  `json:"retention_s"`
	BurstCapacity    float64  `json:"tbc"`
	ScaleToZero      bool     `json:"scale_to_zero_enabled"`
	ProgressDeadline float64  `json:"progress_deadline_s"`
	Mode             string   `json:"sks_mode"`
	ProxyFor         float64  `json:"sks_proxy_for_s"`
	Probe            string   `json:"activator_probe"`
	WantScale        int      `json:"want_scale"`
	WantPatch        bool     `json:"want_patch"`
	WantRequeues     int      `json:"want_requeues"`
	WantProbes       int      `json:"want_async_probes"`
}

func (k *toZeroCase) policy() kpa.Policy {
	p := kpa.DefaultPolicy()
	p.MinScale, p.MaxScale, p.InitialScale = k.Min, k.Max, k.Initial
	p.StableWindow, p.ScaleToZeroGrace = seconds(k.StableWindow), seconds(k.Grace)
	p.ScaleToZeroRetention = seconds(k.Retention)
	p.TargetBurstCapacity, p.ScaleToZero = k.BurstCapacity, k.ScaleToZero
	p.ProgressDeadline = seconds(k.ProgressDeadline)
	return p
}

func (k *toZeroCase) state(now time.Time) kpa.State {
	s := kpa.State{InitialReached: k.InitialReached, Activity: kpa.Activating, ActivitySince: now}
	if k.Active != nil {
		s.Activity = map[string]kpa.Activity{
			"True": kpa.Active, "False": kpa.Inactive, "Unknown": kpa.Activating}[*k.Active]
	}
	if k.ActiveAge != nil {
		s.ActivitySince = now.Add(-seconds(*k.ActiveAge))
	}
	return s
}

func (k *toZeroCase) observation(now time.Time) kpa.Observation {
	o := kpa.Observation{Replicas: k.Replicas, Ready: k.Replicas}
	o.Reachability = map[string]kpa.Reachability{
		"reachable": kpa.Reachable, "unreachable": kpa.Unreachable, "unknown": kpa.ReachabilityUnknown}[k.Reachability]
	if k.Mode == "proxy" {
		o.Path.ProxiedSince = now.Add(-seconds(k.ProxyFor))
	}
	switch k.Probe {
	case "ok":
		o.Path.Probe = kpa.ProbeOK
	case "must_not_be_called":
		o.Path.Probe = kpa.ProbeUnknown
	default:
		o.Path.Probe = kpa.ProbeFailed
	}
	return o
}

func replayToZero(c *tally, row json.RawMessage) {
	k := read[toZeroCase](c, row)
	now := at(1000)
	policy, state, o := k.policy(), k.state(now), k.observation(now)
	set := kpa.Settle(&policy, &state, &o, k.Desired, now)
	patch := set.Apply && set.Want != k.Replicas
	requeues, probes := 0, 0
	if set.Again > 0 {
		requeues = 1
	}
	if set.ProbeActivator {
		probes = 1
	}
	c.check(set.Want == k.WantScale && patch == k.WantPatch && requeues == k.WantRequeues && probes == k.WantProbes,
		"to_zero %s: Settle = want %d, patch %v, requeues %d, probes %d; want %d, %v, %d, %d", k.ID, set.Want, patch,
		requeues, probes, k.WantScale, k.WantPatch, k.WantRequeues, k.WantProbes)
}

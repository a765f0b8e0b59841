package kpa_test

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/metrics"
)

func replayTarget(c *tally, row json.RawMessage) {
	k := read[struct {
		ID          string
		Metric      string
		CC          float64  `json:"container_concurrency"`
		Fraction    float64  `json:"cfg_cc_fraction"`
		Default     float64  `json:"cfg_cc_default"`
		RPSDefault  float64  `json:"cfg_rps_default"`
		RPSFraction float64  `json:"cfg_rps_utilization"`
		Target      *float64 `json:"ann_target"`
		Utilisation *float64 `json:"ann_utilization_pct"`
		WantTarget  float64  `json:"want_target"`
		WantTotal   float64  `json:"want_total"`
	}](c, row)
	cfg := kpa.TargetConfig{Metric: kpa.Concurrency, ContainerConcurrency: k.CC, Utilisation: k.Fraction, Default: k.Default}
	if k.Metric == "rps" {
		cfg.Metric, cfg.Utilisation, cfg.Default = kpa.RPS, k.RPSFraction, k.RPSDefault
	}
	if k.Target != nil {
		cfg.Target = *k.Target
	}
	if k.Utilisation != nil {
		cfg.TargetUtilisation = *k.Utilisation / 100
	}
	got := cfg.Resolve()
	c.check(near(got.Value, k.WantTarget, 1e-12) && near(got.Total, k.WantTotal, 1e-12),
		"target %s: Resolve = %v/%v, want %v/%v", k.ID, got.Value, got.Total, k.WantTarget, k.WantTotal)
}

func replayPanicWindow(c *tally, row json.RawMessage) {
	k := read[struct {
		Stable     float64 `json:"stable_window_s"`
		Percentage float64 `json:"panic_window_pct"`
		Want       float64 `json:"want_panic_window_s"`
	}](c, row)
	got := metrics.PanicWindow(seconds(k.Stable), k.Percentage)
	c.check(got == seconds(k.Want), "PanicWindow(%v s, %v %%) = %v, want %v s", k.Stable, k.Percentage, got, k.Want)
}

func replayNumActivators(c *tally, row json.RawMessage) {
	k := read[struct {
		ID       string
		Ready    int     `json:"ready"`
		Total    float64 `json:"total_value"`
		TBC      float64 `json:"tbc"`
		Capacity float64 `json:"activator_capacity"`
		Want     int     `json:"want"`
	}](c, row)
	p := kpa.DefaultPolicy()
	p.Targets = []kpa.Target{{Metric: kpa.Concurrency, Value: k.Total, Total: k.Total}}
	p.TargetBurstCapacity, p.ActivatorCapacity = k.TBC, k.Capacity
	got := kpa.NumActivators(&p, k.Ready)
	c.check(got == k.Want, "num_activators %s: NumActivators = %d, want %d", k.ID, got, k.Want)
}

func replayInitial(c *tally, row json.RawMessage) {
	k := read[struct {
		TBC         float64 `json:"tbc"`
		Initial     int     `json:"initial_scale"`
		Total       float64 `json:"total_value"`
		WantDesired int     `json:"want_initial_desired"`
		WantEBC     int     `json:"want_initial_ebc"`
	}](c, row)
	p := kpa.DefaultPolicy()
	p.Targets = []kpa.Target{{Metric: kpa.Concurrency, Value: k.Total, Total: k.Total}}
	p.TargetBurstCapacity, p.InitialScale = k.TBC, k.Initial
	s := kpa.NewState(&p, 0, at(0))
	c.check(s.Raw == k.WantDesired && s.ExcessBurstCapacity == k.WantEBC, "initial %s: NewState = %d, %d", row, s.Raw,
		s.ExcessBurstCapacity)
}

func replayMode(c *tally, row json.RawMessage) {
	k := read[struct {
		Want     int    `json:"want_scale"`
		EBC      int    `json:"ebc"`
		WantMode string `json:"want_mode"`
	}](c, row)
	got := kpa.WantedMode(k.Want, k.EBC)
	c.check(got.String() == k.WantMode, "WantedMode(%d, %d) = %v, want %s", k.Want, k.EBC, got, k.WantMode)
}

func replayInform(c *tally, row json.RawMessage) {
	k := read[struct {
		OldDesired int  `json:"old_desired"`
		OldEBC     int  `json:"old_ebc"`
		NewDesired int  `json:"new_desired"`
		NewEBC     int  `json:"new_ebc"`
		Want       bool `json:"want_reconcile"`
	}](c, row)
	got := kpa.Changed(k.OldDesired, k.OldEBC, k.NewDesired, k.NewEBC)
	c.check(got == k.Want, "inform %s: Changed = %v", row, got)
}

// replayPoke passes one replica: a new revision that has none wakes at once, which the original's does not
// (docs/differences.md).
func replayPoke(c *tally, row json.RawMessage) {
	k := read[struct {
		Latest      int     `json:"latest_desired"`
		Concurrency float64 `json:"stat_concurrency"`
		Want        bool    `json:"want_immediate_tick"`
	}](c, row)
	got := kpa.WakesNow(k.Latest, 1, k.Concurrency)
	c.check(got == k.Want, "WakesNow(%d, 1, %v) = %v, want %v", k.Latest, k.Concurrency, got, k.Want)
}

func replayActivity(c *tally, row json.RawMessage) {
	k := read[struct {
		Want      int    `json:"want"`
		Ready     int    `json:"ready"`
		MinReady  int    `json:"min_ready"`
		State     string `json:"state"`
		WantState string `json:"want_state"`
	}](c, row)
	from := map[string]kpa.Activity{"active": kpa.Active, "activating": kpa.Activating, "inactive": kpa.Inactive}
	a, ok := from[k.State]
	got := kpa.NextActivity(a, k.Want, k.Ready, k.MinReady)
	c.check(ok && got.String() == k.WantState, "active_condition %s: NextActivity = %v", row, got)
}

func replaySampleSize(c *tally, row json.RawMessage) {
	k := read[struct {
		Pods int
		Want int `json:"want_sample"`
	}](c, row)
	c.check(kpa.SampleSize(k.Pods) == k.Want, "SampleSize(%d) = %d, want %d", k.Pods, kpa.SampleSize(k.Pods), k.Want)
}

func replayBuckets(c *tally, row json.RawMessage) {
	k := read[struct {
		ID          string
		Algorithm   string
		Window      float64 `json:"window_s"`
		Granularity float64 `json:"granularity_s"`
		Ops         []struct {
			Op        string
			At        float64 `json:"t_s"`
			V         float64
			Want      float64
			WantEmpty bool `json:"want_empty"`
		}
	}](c, row)
	cfg := metrics.WindowConfig{Stable: seconds(k.Window), Panic: seconds(k.Window), Granularity: seconds(k.Granularity)}
	if k.Algorithm == metrics.Weighted.String() {
		cfg.Algorithm = metrics.Weighted
	}
	// The same trace is looked at through the panic window of a larger one, which shares its ring.
	cfg2 := cfg
	cfg2.Stable = 7 * cfg.Stable
	w, shared := metrics.NewWindow(cfg), metrics.NewWindow(cfg2)
	for i, op := range k.Ops {
		now := at(op.At)
		switch op.Op {
		case "rec":
			w.Record(now, op.V)
			shared.Record(now, op.V)
		case "avg":
			stable, panicking, _ := w.Averages(now)
			_, part, _ := shared.Averages(now)
			ok := near(stable, op.Want, 1e-9) && stable == panicking && near(part, op.Want, 1e-9)
			c.check(ok, "buckets %s op %d: Averages(%v) = %v, %v, as a part %v, want %v", k.ID, i, op.At, stable,
				panicking, part, op.Want)
		case "empty":
			_, _, ok := w.Averages(now)
			c.check(ok != op.WantEmpty, "buckets %s op %d: data %v, want empty %v", k.ID, i, ok, op.WantEmpty)
		default:
			c.t.Errorf("buckets %s: operation %q is not known", k.ID, op.Op)
		}
	}
}

// counters is what RequestStats and its shared sibling have in common.
type counters interface {
	In(now time.Time, proxied bool)
	Out(now time.Time, proxied bool)
	Report(now time.Time) metrics.Report
}

func replayRequestStats(c *tally, row json.RawMessage) {
	k := read[struct {
		ID  string
		Ops []struct {
			At   float64 `json:"t_s"`
			Ev   string
			Want []float64
		}
	}](c, row)
	for _, s := range []counters{metrics.NewRequestStats(at(0)), metrics.NewSharedRequestStats(at(0))} {
		for i, op := range k.Ops {
			now := at(op.At)
			switch op.Ev {
			case "in", "pin":
				s.In(now, op.Ev == "pin")
			case "out", "pout":
				s.Out(now, op.Ev == "pout")
			case "report":
				r := s.Report(now)
				got := []float64{r.AverageConcurrency, r.AverageProxiedConcurrency, r.RequestCount, r.ProxiedRequestCount}
				ok := slices.EqualFunc(got, op.Want, func(a, b float64) bool { return near(a, b, 1e-9) })
				c.check(ok, "request_stats %s op %d: %T.Report = %v, want %v", k.ID, i, s, got, op.Want)
			default:
				c.t.Errorf("request_stats %s: event %q is not known", k.ID, op.Ev)
			}
		}
	}
}

func replaySlices(c *tally, row json.RawMessage) {
	k := read[struct{ Activators, Begin, End, Index, Pods, Remnants int }](c, row)
	got := kpa.SlicePods(k.Pods, k.Index, k.Activators)
	want := kpa.PodSlice{Begin: k.Begin, End: k.End, Remnants: k.Remnants}
	c.check(got == want, "SlicePods(%d, %d, %d) = %+v, want %+v", k.Pods, k.Index, k.Activators, got, want)
}

func replayAssign(c *tally, row json.RawMessage) {
	k := read[struct {
		Activators, Index, Pods int
		Want                    []int `json:"assigned_pod_indices"`
	}](c, row)
	got := kpa.AssignPods(k.Pods, k.Index, k.Activators)
	c.check(slices.Equal(got, k.Want), "AssignPods(%d, %d, %d) = %v, want %v", k.Pods, k.Index, k.Activators, got, k.Want)
}

func replayCapacity(c *tally, row json.RawMessage) {
	k := read[struct {
		Activators int
		Assigned   int `json:"assigned_trackers"`
		Capacity   int
		Limit      int `json:"container_concurrency"`
		Backends   int `json:"ready_backends"`
	}](c, row)
	got := kpa.ActivatorCapacity(k.Limit, k.Assigned, k.Backends, k.Activators)
	c.check(got == k.Capacity, "ActivatorCapacity(%d, %d, %d, %d) = %d, want %d", k.Limit, k.Assigned, k.Backends,
		k.Activators, got, k.Capacity)
}

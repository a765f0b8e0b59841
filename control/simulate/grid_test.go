package simulate_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/control/simulate"
)

// burstCase is a service and a burst: that many requests, three times with a sleep between, over 40 ms each.
type burstCase struct {
	shared             bool // all pods run on one machine
	limit, requests    int
	work, base, perPod time.Duration
}

// burstOutcome is what one of the three cost.
type burstOutcome struct {
	pods int
	p99  float64
}

func (c burstCase) run(t *testing.T, rule kpa.Burst, most int) []burstOutcome {
	t.Helper()
	p := limited(c.limit)
	p.Burst, p.InitialScale, p.MaxScale = rule, 0, most
	p.StableWindow, p.PanicWindow = 6*time.Second, time.Second
	cfg := simulate.Config{
		Load:    simulate.Load{Rates: make([]float64, 150)},
		Service: simulate.Service{Work: simulate.Constant(c.work), Startup: simulate.Constant(c.base), StartupPerPod: c.perPod},
		Policy:  p, Growth: 1.25, Rows: 3,
	}
	if c.shared {
		// Two cores: measured with processes of 4 ms each, a request takes 0.3 ms longer for each that is starting.
		cfg.AtOnce, cfg.Service.WorkPerStart = 4, c.perPod/15
	}
	const steps = 20
	for _, at := range []time.Duration{5 * time.Second, 55 * time.Second, 105 * time.Second} {
		for i := range time.Duration(steps) {
			b := simulate.Burst{At: at + i*2*time.Millisecond, Requests: c.requests / steps}
			cfg.Load.Bursts = append(cfg.Load.Bursts, b)
		}
	}
	out := make([]burstOutcome, 0, 3)
	for _, row := range run(t, cfg).Rows {
		out = append(out, burstOutcome{row.Started, float64(row.Latency.P99)})
	}
	return out
}

func burstCases() (all []burstCase) {
	ms := time.Millisecond
	for _, shared := range []bool{true, false} {
		for _, limit := range []int{1, 10} {
			for _, requests := range []int{100, 500, 2000} {
				for _, work := range []time.Duration{10 * ms, 50 * ms, 200 * ms} {
					for _, base := range []time.Duration{30 * ms, 300 * ms, 1200 * ms} {
						for _, per := range []time.Duration{2 * ms, 5 * ms, 20 * ms} {
							all = append(all, burstCase{shared, limit, requests, work, base, per})
						}
					}
				}
			}
		}
	}
	return all
}

// TestDrainAwareOverAGrid: wherever a third of the default rule's pods could do as well, the drain-aware rule does with
// no more than that, most of the time exactly as well or better, and nowhere much worse. The first burst of a service
// that nobody has seen counts like the later ones.
func TestDrainAwareOverAGrid(t *testing.T) {
	var ratios []float64
	more := 0
	for _, c := range burstCases() {
		plain := c.run(t, kpa.BurstDefault, 0)
		if third := c.run(t, kpa.BurstDefault, plain[0].pods/3); third[0].p99 > plain[0].p99 {
			continue // every pod counts
		}
		for i, aware := range c.run(t, kpa.BurstDrainAware, 0) {
			ratio := aware.p99 / plain[i].p99
			ratios = append(ratios, ratio)
			if 3*aware.pods > plain[i].pods {
				more++
			}
			if i > 0 && 2*aware.pods > plain[i].pods || ratio > 1.25 {
				t.Errorf("%+v, burst %d: drain-aware %+v, default %+v", c, i, aware, plain[i])
			}
		}
	}
	slices.Sort(ratios)
	at := func(q float64) float64 { return ratios[int(q*float64(len(ratios)-1))] }
	t.Logf("%d bursts: p99 against the default rule's: median %.3f, 9 of 10 %.3f, worst %.3f; %d with more than a third of the pods",
		len(ratios), at(0.5), at(0.9), at(1), more)
	if len(ratios) < 500 || at(0.5) > 1 || at(0.9) > 1.05 || more > len(ratios)/25 {
		t.Error("want no worse than 1 in the median, 1.05 in 9 of 10, and hardly ever more than a third of the pods")
	}
}

// TestDrainAwareOnAMachine is the burst of `rouse bench burst`, on machines of which the slowest starts a process in
// 20 ms and the fastest in 4: at most a third of the pods, and no later, from the first burst on.
func TestDrainAwareOnAMachine(t *testing.T) {
	for _, per := range []time.Duration{4, 5, 7, 10, 20} {
		for _, base := range []time.Duration{15, 30, 60} {
			c := burstCase{true, 1, 500, 50 * time.Millisecond, base * time.Millisecond, per * time.Millisecond}
			plain := c.run(t, kpa.BurstDefault, 200)
			for i, aware := range c.run(t, kpa.BurstDrainAware, 200) {
				if 3*aware.pods > plain[i].pods || aware.p99 > plain[i].p99 {
					t.Errorf("%+v, burst %d: drain-aware %+v, default %+v", c, i, aware, plain[i])
				}
			}
		}
	}
}

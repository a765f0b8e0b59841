package simulate_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/control/simulate"
)

// limited is Knative's shipped policy for pods that take so many requests at once.
func limited(limit int) kpa.Policy {
	p := kpa.DefaultPolicy()
	p.ContainerConcurrency = limit
	p.Targets = []kpa.Target{{Metric: kpa.Concurrency, Value: 0.7 * float64(limit), Total: float64(limit)}}
	return p
}

func run(t testing.TB, cfg simulate.Config) simulate.Report {
	t.Helper()
	r, err := simulate.Run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// burst is many requests at once for a service that sleeps, and again when it sleeps once more.
func burst(requests int, policy kpa.Policy) simulate.Config {
	policy.InitialScale = 0
	return simulate.Config{
		Load: simulate.Load{
			Rates:  make([]float64, 120),
			Bursts: []simulate.Burst{{At: 5 * time.Second, Requests: requests}, {At: 100 * time.Second, Requests: requests}},
		},
		Service: simulate.Service{
			Work: simulate.Constant(50 * time.Millisecond), Startup: simulate.Constant(80 * time.Millisecond),
			StartupPerPod: 20 * time.Millisecond,
		},
		Policy: policy,
	}
}

func dayOf(t testing.TB, requests int) simulate.Config {
	t.Helper()
	day := 24 * time.Hour
	load, err := simulate.Shape{Kind: "sine", Rate: float64(requests) / day.Seconds(), Period: day, Duration: day}.Load()
	if err != nil {
		t.Fatal(err)
	}
	return simulate.Config{
		Load: load, Seed: 7,
		Service: simulate.Service{
			Work:    simulate.LogNormal{Median: 100 * time.Millisecond, Sigma: 0.5},
			Startup: simulate.Uniform{Low: 500 * time.Millisecond, High: time.Second},
		},
		Policy: limited(10),
	}
}

func TestSameSeedSameBytes(t *testing.T) {
	write := func(seed uint64) string {
		cfg := dayOf(t, 5_000)
		cfg.Seed = seed
		var b bytes.Buffer
		if err := simulate.WriteJSON(&b, run(t, cfg)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if a, b := write(1), write(1); a != b {
		t.Errorf("two runs of one seed differ:\n%.500s\n%.500s", a, b)
	}
	if write(1) == write(2) {
		t.Error("two seeds give the same bytes")
	}
}

// TestPoliciesMeetTheSameRequests: what arrives must not depend on what is decided.
func TestPoliciesMeetTheSameRequests(t *testing.T) {
	a := dayOf(t, 5000)
	b := dayOf(t, 5000)
	b.Policy = limited(1)
	ra, rb := run(t, a), run(t, b)
	for i := range ra.Rows {
		if ra.Rows[i].Arrived != rb.Rows[i].Arrived {
			t.Fatalf("row %d: %d and %d requests arrived, want the same", i, ra.Rows[i].Arrived, rb.Rows[i].Arrived)
		}
	}
}

func TestDrainAwareBurst(t *testing.T) {
	for _, requests := range []int{300, 500, 2000} {
		p := limited(1)
		plain := run(t, burst(requests, p)).Total
		p.Burst = kpa.BurstDrainAware
		aware := run(t, burst(requests, p)).Total
		if 3*aware.PodsStarted > plain.PodsStarted || aware.Latency.P99 > plain.Latency.P99 {
			t.Errorf("%d requests: drain-aware starts %d pods, p99 %v; the default %d, p99 %v; want at most a third, and no later",
				requests, aware.PodsStarted, aware.Latency.P99, plain.PodsStarted, plain.Latency.P99)
		}
	}
}

// TestEveryRequestIsAccountedFor under any load, limit and queue.
func TestEveryRequestIsAccountedFor(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		cfg := simulate.Config{
			Seed: rapid.Uint64().Draw(r, "seed"),
			Rows: rapid.IntRange(1, 20).Draw(r, "rows"),
			Load: simulate.Load{
				Rates:  rapid.SliceOfN(rapid.Float64Range(0, 30), 1, 20).Draw(r, "rates"),
				Bursts: []simulate.Burst{{At: 3 * time.Second, Requests: rapid.IntRange(0, 300).Draw(r, "burst")}},
			},
			Service: simulate.Service{
				Work:       simulate.Exponential(time.Duration(rapid.IntRange(1, 2000).Draw(r, "work")) * time.Millisecond),
				Startup:    simulate.Constant(time.Duration(rapid.IntRange(0, 3000).Draw(r, "startup")) * time.Millisecond),
				QueueLimit: rapid.IntRange(1, 200).Draw(r, "queue"), QueueDeadline: 5 * time.Second,
			},
			Policy:     limited(rapid.SampledFrom([]int{1, 3, 50}).Draw(r, "limit")),
			DirectPath: rapid.Bool().Draw(r, "direct"),
		}
		cfg.Policy.MaxScale = rapid.SampledFrom([]int{0, 1, 3}).Draw(r, "max")
		cfg.Policy.Burst = kpa.Burst(rapid.IntRange(0, 1).Draw(r, "rule"))
		rep, err := simulate.Run(cfg)
		if err != nil {
			r.Fatal(err)
		}
		got := rep.Total
		if got.Requests != got.Answered+got.Rejected+got.Expired {
			r.Fatalf("%+v: answered, rejected and expired do not add up", got)
		}
		if got.QueueMost > cfg.Service.QueueLimit || len(rep.Rows) > cfg.Rows || got.PodsUsed > got.PodsStarted {
			r.Fatalf("%+v with %d rows: a bound is broken", got, len(rep.Rows))
		}
		if cfg.Policy.MaxScale > 0 && rep.Rows[len(rep.Rows)-1].Ready > cfg.Policy.MaxScale {
			r.Fatalf("%+v: more pods than max-scale", rep.Rows)
		}
		arrived := 0
		for _, row := range rep.Rows {
			arrived += row.Arrived
		}
		if arrived != got.Requests {
			r.Fatalf("%d requests in the rows, %d in all", arrived, got.Requests)
		}
	})
}

// TestReplayReproducesTheRun records a simulated run and plays the recording: the same pods at every decision.
func TestReplayReproducesTheRun(t *testing.T) {
	cfg := burst(300, limited(5))
	var file bytes.Buffer
	cfg.Recorder = simulate.NewRecorder(&file, simulate.Epoch())
	cfg.Service.Work = simulate.Exponential(200 * time.Millisecond)
	first := run(t, cfg)
	if err := cfg.Recorder.Close(); err != nil {
		t.Fatal(err)
	}
	rec, err := simulate.ReadRecording(&file)
	if err != nil {
		t.Fatal(err)
	}
	again := run(t, simulate.Config{Load: simulate.Load{Recording: rec}, Policy: cfg.Policy, Duration: 120 * time.Second})
	if m := again.Recorded; m == nil || m.Worst > 1 || m.Decisions < 5 {
		t.Errorf("the replay differs from its recording: %+v", m)
	}
	if again.Total.Requests != first.Total.Requests || again.Total.Answered != first.Total.Answered {
		t.Errorf("the replay has %+v, want %+v", again.Total, first.Total)
	}
}

func TestSleepsAndWakes(t *testing.T) {
	rep := run(t, burst(1, limited(100)))
	if rep.Total.ColdStarts != 2 || rep.Total.PodsMost != 1 {
		t.Errorf("%+v: want two cold starts with one pod each", rep.Total)
	}
	if got := rep.Total.Latency.Max; got < 0.129 || got > 0.135 {
		t.Errorf("a cold request took %v, want start-up and work: 130ms", got)
	}
	// 5 s + stable window 60 s: nothing exists between the bursts.
	for _, row := range rep.Rows {
		if row.At > 72 && row.At < 95 && row.Pods > 0 {
			t.Errorf("at %v there are %v pods, want none", row.At, row.Pods)
		}
	}
}

// TestGrowthDecidesEarlier: a burst that has to wait for the next tick is answered sooner with decisions on growth.
func TestGrowthDecidesEarlier(t *testing.T) {
	cfg := burst(300, limited(1))
	cfg.Load.Bursts = []simulate.Burst{{At: 4100 * time.Millisecond, Requests: 300}}
	plain := run(t, cfg).Total
	cfg.Growth = 2
	if eager := run(t, cfg).Total; eager.Latency.P99 > plain.Latency.P99-0.5 {
		t.Errorf("p99 %v with decisions on growth, %v without, want it half a second sooner", eager.Latency.P99, plain.Latency.P99)
	}
}

// officeHours asks for three pods in the second minute.
type officeHours struct{ start time.Time }

func (o officeHours) At(now time.Time) (pods int, until time.Time) {
	switch open, shut := o.start.Add(time.Minute), o.start.Add(2*time.Minute); {
	case now.Before(open):
		return 0, open
	case now.Before(shut):
		return 3, shut
	}
	return 0, o.start.Add(time.Hour)
}

func TestScheduleKeepsPods(t *testing.T) {
	cfg := burst(1, limited(100))
	cfg.Load = simulate.Load{Rates: make([]float64, 180)}
	cfg.Rows = 180
	cfg.Start = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	cfg.Floors = officeHours{cfg.Start}
	rows := run(t, cfg).Rows
	for at, want := range map[int]int{50: 0, 65: 3, 118: 3} {
		if got := rows[at].Ready; got != want {
			t.Errorf("%d s: %d pods are ready, want %d", at, got, want)
		}
	}
}

func TestGracePeriodOnTheDirectPath(t *testing.T) {
	cfg := burst(1, limited(100))
	cfg.Policy.TargetBurstCapacity = 10
	near := run(t, cfg).Total.PodSeconds
	cfg.DirectPath = true
	far := run(t, cfg).Total.PodSeconds
	if far-near < 25 || far-near > 35 {
		t.Errorf("pods exist for %v s when always proxied and %v s on the direct path, want the grace period of 30 s between",
			float64(near), float64(far))
	}
}

func TestFaultsAreNamed(t *testing.T) {
	_, err := simulate.Run(simulate.Config{Rows: -1})
	for _, want := range []string{"load", "work", "target", "rows"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run of nothing = %v, want a fault about %q", err, want)
		}
	}
}

func TestJSONKeepsNumbers(t *testing.T) {
	cfg := burst(10, limited(1))
	cfg.KeepDecisions = true
	want := run(t, cfg)
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got simulate.Report
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.Total != want.Total || len(got.Decisions) != want.Total.Decisions {
		t.Errorf("after JSON: %+v, want %+v", got.Total, want.Total)
	}
}

// BenchmarkDay is a day with a million requests.
func BenchmarkDay(b *testing.B) {
	cfg := dayOf(b, 1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		if r := run(b, cfg); r.Total.Answered == 0 {
			b.Fatal("nobody was answered")
		}
	}
}

package simulate_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

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

func dayOf(requests int) simulate.Config {
	day := 24 * time.Hour
	load, err := simulate.Shape{Kind: "sine", Rate: float64(requests) / day.Seconds(), Period: day, Duration: day}.Load()
	if err != nil {
		panic(err)
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
	var last []byte
	for range 2 {
		raw, err := json.Marshal(run(t, dayOf(50_000)))
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && !bytes.Equal(raw, last) {
			t.Errorf("two runs of one seed differ:\n%.500s\n%.500s", last, raw)
		}
		last = raw
	}
}

func BenchmarkDay(b *testing.B) {
	cfg := dayOf(1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		if r := run(b, cfg); r.Total.Answered == 0 {
			b.Fatal("nobody was answered")
		}
	}
}

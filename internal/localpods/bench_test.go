package localpods_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods"
)

// BenchmarkListenToReady measures how long after listen(2) a pod is published as ready, by the program's own clock, and
// the CPU that probing takes per start.
func BenchmarkListenToReady(b *testing.B) {
	for _, delay := range []string{"0", "100", "500"} {
		b.Run("delay="+delay+"ms", func(b *testing.B) { benchmarkReady(b, delay) })
	}
}

func benchmarkReady(b *testing.B, delay string) {
	book, ready := new(endpoint.Book), make(chan endpoint.Endpoint, 1)
	cfg := localpods.Default()
	cfg.BaseEnv = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "DELAY_MS="+delay)
	r, err := localpods.New(cfg, localpods.Deps{Book: book})
	if err != nil {
		b.Fatal(err)
	}
	rev := identity.Revision{Namespace: "default", Name: "bench"}
	if err := r.Add(localpods.Spec{Revision: rev, Argv: []string{os.Args[0]}, Env: []string{roleEnv + "=serve"}}); err != nil {
		b.Fatal(err)
	}
	var at time.Time
	gone := make(chan struct{}, 1)
	defer book.Subscribe(rev, func(u endpoint.Update) {
		for _, e := range u.Delta.Upserted {
			if e.State == endpoint.Ready {
				at = time.Now()
				ready <- e
			}
		}
		if len(u.Delta.Removed) > 0 {
			gone <- struct{}{}
		}
	})()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	<-r.Started()
	var gaps []time.Duration
	for b.Loop() {
		if err := r.Apply(ctx, rev, 1, nil); err != nil {
			b.Fatal(err)
		}
		e := <-ready
		var s story
		body, err := get(e.Pod.Addr, "/")
		if err == nil {
			err = json.Unmarshal([]byte(body), &s)
		}
		if err != nil {
			b.Fatal(err)
		}
		gaps = append(gaps, at.Sub(time.Unix(0, s.Listen)))
		if err := r.Apply(ctx, rev, 0, nil); err != nil {
			b.Fatal(err)
		}
		<-gone
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	slices.Sort(gaps)
	stats := r.Stats()
	b.ReportMetric(float64(gaps[len(gaps)/2].Microseconds()), "p50-listen-to-ready-us")
	b.ReportMetric(float64(gaps[len(gaps)-1].Microseconds()), "max-listen-to-ready-us")
	b.ReportMetric(float64(stats.ProbeCPU.Microseconds())/float64(stats.Started), "probe-cpu-us/start")
	b.ReportMetric(float64(stats.Probes)/float64(stats.Started), "probes/start")
	b.ReportMetric(float64(stats.ProbeCPU.Microseconds())/float64(stats.Probes), "cpu-us/probe")
}

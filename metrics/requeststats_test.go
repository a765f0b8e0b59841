package metrics_test

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/metrics"
)

// counters is what RequestStats and SharedRequestStats have in common.
type counters interface {
	In(now time.Time, proxied bool)
	Out(now time.Time, proxied bool)
	Report(now time.Time) metrics.Report
}

func TestSharedAgreesWithClear(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		plain := metrics.NewRequestStats(base)
		shared := metrics.NewSharded(base, rapid.SampledFrom([]int{1, 2, 8}).Draw(r, "shards"))
		now := base
		open := [2]int{}
		for range rapid.IntRange(1, 200).Draw(r, "events") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(r, "step")))
			kind := rapid.IntRange(0, 1).Draw(r, "proxied")
			switch op := rapid.IntRange(0, 4).Draw(r, "op"); {
			case op == 4:
				a, b := plain.Report(now), shared.Report(now)
				if !alike(a, b) {
					r.Fatalf("Report = %+v, want %+v", b, a)
				}
			case op >= 2 && open[kind] > 0:
				open[kind]--
				plain.Out(now, kind == 1)
				shared.Out(now, kind == 1)
			default:
				open[kind]++
				plain.In(now, kind == 1)
				shared.In(now, kind == 1)
			}
			if got := shared.InFlight(); got != int64(open[0]+open[1]) {
				r.Fatalf("InFlight = %d, want %d", got, open[0]+open[1])
			}
		}
	})
}

func alike(a, b metrics.Report) bool {
	near := func(x, y float64) bool { return math.Abs(x-y) <= 1e-9*max(1, math.Abs(x)) }
	return near(a.AverageConcurrency, b.AverageConcurrency) &&
		near(a.AverageProxiedConcurrency, b.AverageProxiedConcurrency) &&
		a.RequestCount == b.RequestCount && a.ProxiedRequestCount == b.ProxiedRequestCount
}

// TestSharedCountsEveryone lets goroutines count at fixed instants: the reports over all periods add up exactly, however
// the goroutines interleave.
func TestSharedCountsEveryone(t *testing.T) {
	const workers, each = 8, 500
	s := metrics.NewSharded(base, 4)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range each {
				s.In(after(float64(i)/1000), i%2 == 0)
				s.Out(after(float64(i)/1000+0.25), i%2 == 0)
			}
		})
	}
	wg.Wait()
	r := s.Report(after(1))
	want := metrics.Report{
		AverageConcurrency: workers * each * 0.25, AverageProxiedConcurrency: workers * each * 0.125,
		RequestCount: workers * each, ProxiedRequestCount: workers * each / 2,
	}
	if !alike(want, r) || s.InFlight() != 0 {
		t.Errorf("Report = %+v with %d in flight, want %+v and 0", r, s.InFlight(), want)
	}
}

func TestSharedAllocatesNothing(t *testing.T) {
	s := metrics.NewSharedRequestStats(base)
	if n := testing.AllocsPerRun(100, func() { s.In(base, true); s.Out(base, true); s.Report(base) }); n != 0 {
		t.Errorf("In, Out and Report allocate %v times, want 0", n)
	}
}

// locked is the honest rival: the clear version behind one lock, as Knative has it.
type locked struct {
	mu sync.Mutex // guards stats
	s  metrics.RequestStats
}

func (l *locked) In(now time.Time, proxied bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.In(now, proxied)
}

func (l *locked) Out(now time.Time, proxied bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.Out(now, proxied)
}

func (l *locked) Report(now time.Time) metrics.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.s.Report(now)
}

// BenchmarkRequestStats counts one request in and out per operation.
func BenchmarkRequestStats(b *testing.B) {
	for _, c := range []struct {
		name string
		s    counters
	}{{"shared", metrics.NewSharedRequestStats(base)}, {"locked", &locked{s: *metrics.NewRequestStats(base)}}} {
		b.Run(c.name+"/alone", func(b *testing.B) {
			b.ReportAllocs()
			now := base
			for b.Loop() {
				now = now.Add(100)
				c.s.In(now, false)
				c.s.Out(now, false)
			}
		})
		b.Run(c.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				now := base
				for pb.Next() {
					now = now.Add(100)
					c.s.In(now, false)
					c.s.Out(now, false)
				}
			})
		})
	}
}

func ExampleRequestStats() {
	start := time.Unix(0, 0)
	s := metrics.NewRequestStats(start)
	s.In(start, false)
	s.Out(start.Add(500*time.Millisecond), false)
	r := s.Report(start.Add(time.Second))
	fmt.Printf("%.1f in flight on average, %.0f arrived\n", r.AverageConcurrency, r.RequestCount)
	// Output: 0.5 in flight on average, 1 arrived
}

func ExampleWindow() {
	w := metrics.NewWindow(metrics.WindowConfig{Stable: 60 * time.Second, Panic: 6 * time.Second})
	start := time.Unix(1600000000, 0)
	for i := range 60 {
		w.Record(start.Add(time.Duration(i)*time.Second), float64(i/54)*10) // a burst in the last six seconds
	}
	stable, panicking, _ := w.Averages(start.Add(59 * time.Second))
	fmt.Println(stable, panicking)
	// Output: 1 10
}

func ExampleDecoder_Messages() {
	wire := metrics.AppendMessages(nil, []metrics.Message{{
		Namespace: "default", Name: "hello-00001",
		Stat: metrics.Stat{PodName: "activator", AverageConcurrency: 3, RequestCount: 20},
	}})
	var d metrics.Decoder
	msgs, err := d.Messages(wire, nil)
	fmt.Println(msgs[0].Key(), msgs[0].Stat.AverageConcurrency, err)
	// Output: default/hello-00001 3 <nil>
}

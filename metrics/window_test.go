package metrics_test

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/metrics"
)

var base = time.Unix(1600000000, 0)

func after(seconds float64) time.Time { return base.Add(time.Duration(seconds * float64(time.Second))) }

// naive is a window that keeps every sample for ever and looks at all of them each time: what its average means,
// without a ring.
type naive struct {
	size    int64
	buckets map[int64]float64
	last    int64
	first   int64
	any     bool
}

func (n *naive) record(at int64, v float64) {
	if n.any && at <= n.last-n.size {
		return
	}
	switch {
	case !n.any, at-n.last >= n.size:
		n.first = at
		n.buckets = map[int64]float64{}
	case at < n.first:
		n.first = at
	}
	n.last = max(n.last, at)
	n.any = true
	n.buckets[at] += v
}

func (n *naive) average(now int64, weighted bool) float64 {
	oldest := max(now, n.last) - n.size + 1
	if !n.any || oldest > n.last {
		return 0
	}
	total, alpha := 0.0, max(0.2, 1-math.Pow(0.0001, 1/float64(n.size)))
	for at, v := range n.buckets {
		switch {
		case at < oldest:
		case weighted:
			total += v * alpha * math.Pow(1-alpha, float64(max(now, n.last)-at))
		default:
			total += v
		}
	}
	if weighted {
		return total
	}
	return total / float64(min(n.last-oldest+1, n.last-n.first+1))
}

func TestWindowAgreesWithNaive(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		stable := rapid.Int64Range(1, 70).Draw(r, "stable")
		short := rapid.Int64Range(1, stable).Draw(r, "panic")
		alg := metrics.Algorithm(rapid.IntRange(0, 1).Draw(r, "algorithm"))
		w := metrics.NewWindow(metrics.WindowConfig{
			Stable: time.Duration(stable) * time.Second, Panic: time.Duration(short) * time.Second, Algorithm: alg})
		long, quick := naive{size: stable}, naive{size: short}
		now := int64(0)
		for range rapid.IntRange(1, 120).Draw(r, "steps") {
			now += rapid.SampledFrom([]int64{0, 0, 1, 1, 1, 2, 5, short, stable, stable + 1}).Draw(r, "step")
			if rapid.Bool().Draw(r, "record") {
				at := now - rapid.SampledFrom([]int64{0, 0, 0, 1, 3, short, stable}).Draw(r, "late")
				v := rapid.Float64Range(0, 1000).Draw(r, "v")
				w.Record(base.Add(time.Duration(at)*time.Second), v)
				long.record(base.Unix()+at, v)
				quick.record(base.Unix()+at, v)
			}
			gotLong, gotQuick, ok := w.Averages(base.Add(time.Duration(now) * time.Second))
			wantOK := long.any && base.Unix()+now-long.last <= stable
			wantLong := long.average(base.Unix()+now, alg == metrics.Weighted)
			wantQuick := quick.average(base.Unix()+now, alg == metrics.Weighted)
			if ok != wantOK || math.Abs(gotLong-wantLong) > 1e-6 || math.Abs(gotQuick-wantQuick) > 1e-6 {
				r.Fatalf("Averages(%d) = %v, %v, %v, want %v, %v, %v", now, gotLong, gotQuick, ok, wantLong, wantQuick, wantOK)
			}
		}
	})
}

// TestSnapshotMovesNoAverage hands a window over through JSON at any moment: the successor goes on as if nothing had
// happened.
func TestSnapshotMovesNoAverage(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		cfg := metrics.WindowConfig{Stable: 20 * time.Second, Panic: 3 * time.Second}
		old := metrics.NewWindow(cfg)
		now := 0.0
		move := func(w ...*metrics.Window) {
			now += rapid.SampledFrom([]float64{0, 0.4, 1, 2, 3, 7, 25}).Draw(r, "step")
			v := rapid.Float64Range(0, 10).Draw(r, "v")
			for _, w := range w {
				w.Record(after(now), v)
			}
		}
		for range rapid.IntRange(0, 40).Draw(r, "before") {
			move(old)
		}
		raw, err := json.Marshal(old.Snapshot())
		if err != nil {
			r.Fatal(err)
		}
		var s metrics.WindowSnapshot
		if err := json.Unmarshal(raw, &s); err != nil {
			r.Fatal(err)
		}
		heir := metrics.NewWindow(cfg)
		heir.Restore(s)
		for range rapid.IntRange(0, 40).Draw(r, "after") {
			move(old, heir)
			a1, a2, ok1 := old.Averages(after(now + 1))
			b1, b2, ok2 := heir.Averages(after(now + 1))
			if a1 != b1 || a2 != b2 || ok1 != ok2 {
				r.Fatalf("after %s the successor averages %v, %v, %v, want %v, %v, %v", raw, b1, b2, ok2, a1, a2, ok1)
			}
		}
	})
}

// TestResizeKeepsASteadyAverage changes the windows under a steady load: the average stays what it was.
func TestResizeKeepsASteadyAverage(t *testing.T) {
	for _, to := range []metrics.WindowConfig{
		{Stable: 10 * time.Second, Panic: time.Second},
		{Stable: 600 * time.Second, Panic: 60 * time.Second},
		{Stable: 60 * time.Second, Panic: 30 * time.Second},
		{Stable: 60 * time.Second, Panic: 6 * time.Second},
	} {
		t.Run(fmt.Sprint(to.Stable, to.Panic), func(t *testing.T) {
			w := metrics.NewWindow(metrics.WindowConfig{})
			for i := range 100 {
				w.Record(after(float64(i)), 7)
			}
			w.Resize(to)
			if stable, panicking, ok := w.Averages(after(99)); stable != 7 || panicking != 7 || !ok {
				t.Errorf("Averages after Resize(%v) = %v, %v, %v, want 7, 7", to, stable, panicking, ok)
			}
			w.Record(after(100), 7)
			if stable, panicking, _ := w.Averages(after(100)); stable != 7 || panicking != 7 {
				t.Errorf("Averages one second after Resize(%v) = %v, %v, want 7, 7", to, stable, panicking)
			}
		})
	}
}

func TestRestoreOfForeignSnapshots(t *testing.T) {
	w := metrics.NewWindow(metrics.WindowConfig{})
	for name, s := range map[string]metrics.WindowSnapshot{
		"empty":               {},
		"other granularity":   {Granularity: 2, Last: base.Unix() / 2, Buckets: []float64{1}},
		"before time":         {Granularity: 1, Last: -5, Buckets: []float64{1, 2}},
		"history in the past": {Granularity: 1, Last: 1, Buckets: []float64{1, 2, 3}},
	} {
		w.Record(base, 5)
		w.Restore(s)
		if _, _, ok := w.Averages(base); ok {
			t.Errorf("%s: the window has data, want none", name)
		}
	}
}

func TestWindowAllocatesNothing(t *testing.T) {
	w := metrics.NewWindow(metrics.WindowConfig{})
	now := base
	n := testing.AllocsPerRun(200, func() {
		now = now.Add(700 * time.Millisecond)
		w.Record(now, 1)
		w.Averages(now)
	})
	if n != 0 {
		t.Errorf("Record and Averages allocate %v times, want 0", n)
	}
}

// BenchmarkWindow stands beside a map of buckets that is swept on each read.
func BenchmarkWindow(b *testing.B) {
	b.Run("record", func(b *testing.B) {
		w := metrics.NewWindow(metrics.WindowConfig{})
		now := base
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(100 * time.Millisecond)
			w.Record(now, 3)
		}
	})
	for _, alg := range []metrics.Algorithm{metrics.Linear, metrics.Weighted} {
		b.Run("average/"+alg.String(), func(b *testing.B) {
			w := metrics.NewWindow(metrics.WindowConfig{Algorithm: alg})
			for i := range 100 {
				w.Record(after(float64(i)), float64(i))
			}
			now := after(100)
			b.ReportAllocs()
			for b.Loop() {
				w.Averages(now)
			}
		})
	}
	b.Run("average/naive", func(b *testing.B) {
		n := naive{size: 60}
		for i := range int64(100) {
			n.record(i, float64(i))
		}
		b.ReportAllocs()
		for b.Loop() {
			n.average(100, false)
		}
	})
}

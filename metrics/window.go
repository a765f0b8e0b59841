package metrics

import (
	"math"
	"time"
)

// Defaults of WindowConfig: Knative's.
const (
	DefaultStableWindow = 60 * time.Second
	DefaultPanicWindow  = 6 * time.Second
	DefaultGranularity  = time.Second
)

// Algorithm says how a window averages its buckets.
type Algorithm uint8

// The averaging algorithms of the annotation metric-aggregation-algorithm.
const (
	Linear   Algorithm = iota // every second weighs the same
	Weighted                  // exponentially more weight to newer seconds: weighted-exponential
)

// String returns the value of the annotation.
func (a Algorithm) String() string { return [...]string{"linear", "weighted-exponential"}[a] }

// WindowConfig sizes a Window. Zero fields take their defaults.
type WindowConfig struct {
	// Stable is the long window, whole seconds. Default 60 s.
	Stable time.Duration
	// Panic is the short window, at most Stable; PanicWindow computes it. Default 6 s.
	Panic time.Duration
	// Granularity is the width of a bucket, whole seconds. Default 1 s.
	Granularity time.Duration
	// Algorithm is how both averages weigh the buckets. Default Linear.
	Algorithm Algorithm
}

// PanicWindow returns the panic window for a stable window: that percentage of it, rounded to the second, at least
// one second.
func PanicWindow(stable time.Duration, percentage float64) time.Duration {
	d := time.Duration(float64(stable) * percentage / 100).Round(time.Second)
	return max(d, time.Second)
}

// Window holds the samples of one metric of one revision for a stable and a panic average. It is not safe for
// concurrent use.
//
// Both windows look at one ring: the panic window is its newest part. They differ in where their history begins, since
// each forgets it after a silence of its own length. Buckets are cut at whole Unix seconds of the instants that the
// caller passes; derive these from one reading of the wall clock and the monotonic clock after it, and a step of the
// wall clock moves no sample.
type Window struct {
	ring        []float64 // bucket i of time lives at i % len(ring)
	last        int64     // the newest bucket written, in granules since 1970
	stable      view
	panic       view
	granularity int64 // seconds
	span        int64 // the stable window in seconds, which need not be whole granules
	algorithm   Algorithm
	written     bool
}

// view is one of the two windows over the ring.
type view struct {
	size  int64   // buckets
	first int64   // the bucket in which its history begins
	alpha float64 // the smoothing coefficient of the weighted average
}

// NewWindow returns an empty window.
func NewWindow(cfg WindowConfig) *Window {
	w := &Window{}
	w.configure(cfg)
	w.ring = make([]float64, w.stable.size)
	return w
}

func (w *Window) configure(cfg WindowConfig) {
	w.granularity = int64(orDefault(cfg.Granularity, DefaultGranularity) / time.Second)
	stable := int64(orDefault(cfg.Stable, DefaultStableWindow) / time.Second)
	short := int64(orDefault(cfg.Panic, DefaultPanicWindow) / time.Second)
	w.span = max(stable, 1)
	w.stable.resize(w.buckets(w.span))
	w.panic.resize(w.buckets(min(max(short, 1), w.span)))
	w.algorithm = cfg.Algorithm
}

// buckets is how many buckets cover so many seconds.
func (w *Window) buckets(seconds int64) int64 { return (seconds + w.granularity - 1) / w.granularity }

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// resize also computes the coefficient with which the last bucket of the window weighs 0.01 % of the first, but which
// never counts a new sample less than a fifth.
func (v *view) resize(size int64) {
	v.size = size
	v.alpha = max(0.2, 1-math.Pow(0.0001, 1/float64(size)))
}

// Record adds v to the bucket of now. Values of the same second are summed: they come from different producers. A
// sample older than a window does not count in it.
func (w *Window) Record(now time.Time, v float64) {
	b := w.bucket(now)
	switch {
	case !w.written:
		w.written = true
		w.last, w.stable.first, w.panic.first = b, b, b
	case b > w.last:
		w.advance(b)
	case b <= w.last-w.stable.size:
		return
	default:
		w.stable.reach(b, w.last)
		w.panic.reach(b, w.last)
	}
	w.ring[w.index(b)] += v
}

// advance makes b the newest bucket and clears those that it pushes out.
func (w *Window) advance(b int64) {
	gap := b - w.last
	w.stable.skip(b, gap)
	w.panic.skip(b, gap)
	if gap >= w.stable.size {
		clear(w.ring)
	} else {
		for i := w.last + 1; i <= b; i++ {
			w.ring[w.index(i)] = 0
		}
	}
	w.last = b
}

// skip begins a new history at b after a silence of the length of the window.
func (v *view) skip(b, gap int64) {
	if gap >= v.size {
		v.first = b
	}
}

// reach extends the history back to a late sample that is still in the window.
func (v *view) reach(b, last int64) {
	if b > last-v.size && b < v.first {
		v.first = b
	}
}

// Averages returns the stable and the panic average at now. ok is false when there was no sample for longer than the
// stable window.
func (w *Window) Averages(now time.Time) (stable, panicking float64, ok bool) {
	b := w.bucket(now)
	if !w.written || (b-w.last)*w.granularity > w.span {
		return 0, 0, false
	}
	if w.algorithm == Weighted {
		return w.weighted(&w.stable, b), w.weighted(&w.panic, b), true
	}
	return w.linear(&w.stable, b), w.linear(&w.panic, b), true
}

// linear divides the sum of what is still in the window by the part of the window that has a history.
func (w *Window) linear(v *view, now int64) float64 {
	oldest := max(now, w.last) - v.size + 1
	if oldest > w.last {
		return 0
	}
	n := w.last - oldest + 1
	return math.Round(w.sum(oldest, n)/float64(min(n, w.last-v.first+1))*1e6) / 1e6
}

// sum adds n buckets from one on. Four sums run side by side, since one would wait for each addition in turn.
func (w *Window) sum(from, n int64) float64 {
	i := w.index(from)
	head := w.ring[i:min(i+n, int64(len(w.ring)))]
	return sum(head) + sum(w.ring[:n-int64(len(head))])
}

func sum(v []float64) float64 {
	var a, b, c, d float64
	for len(v) >= 4 {
		a += v[0]
		b += v[1]
		c += v[2]
		d += v[3]
		v = v[4:]
	}
	for _, x := range v {
		a += x
	}
	return a + b + c + d
}

// weighted gives the bucket of age k the weight alpha·(1-alpha)^k; seconds without a sample are zeros. The weights of
// a window that is not full do not sum to one: a fresh window reports too little, as Knative's does.
func (w *Window) weighted(v *view, now int64) float64 {
	age := max(now-w.last, 0)
	if age > v.size {
		return 0
	}
	weight := v.alpha * math.Pow(1-v.alpha, float64(age))
	total := 0.0
	for i, k := w.index(w.last), v.size-age; k > 0; k-- {
		total += w.ring[i] * weight
		weight *= 1 - v.alpha
		if i--; i < 0 {
			i = int64(len(w.ring)) - 1
		}
	}
	return total
}

func (w *Window) bucket(now time.Time) int64 { return now.Unix() / w.granularity }

func (w *Window) index(bucket int64) int64 { return bucket % int64(len(w.ring)) }

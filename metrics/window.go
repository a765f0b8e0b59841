package metrics

import "time"

// Algorithm says how a window averages its buckets.
type Algorithm uint8

// The averaging algorithms of the annotation metric-aggregation-algorithm.
const (
	Linear   Algorithm = iota // every second weighs the same
	Weighted                  // exponentially more weight to newer seconds: weighted-exponential
)

// String returns the value of the annotation.
func (a Algorithm) String() string { return [...]string{"linear", "weighted-exponential"}[a] }

// WindowConfig sizes a Window.
type WindowConfig struct {
	// Stable is the long window, a whole number of granules. Default 60 s.
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
func PanicWindow(stable time.Duration, percentage float64) time.Duration { panic("not built yet") }

// Window holds the samples of one metric of one revision for a stable and a panic average. It is not safe for
// concurrent use.
type Window struct{}

// NewWindow returns an empty window; zero fields of cfg take their defaults.
func NewWindow(cfg WindowConfig) *Window { panic("not built yet") }

// Record adds v to the bucket of now. Values of the same second are summed: they come from different producers. A
// sample older than the window is ignored.
func (w *Window) Record(now time.Time, v float64) { panic("not built yet") }

// Averages returns the stable and the panic average at now. ok is false when there was no sample for longer than the
// stable window.
func (w *Window) Averages(now time.Time) (stable, panicking float64, ok bool) {
	panic("not built yet")
}

// Resize changes the windows and the algorithm and keeps the samples that still fit.
func (w *Window) Resize(cfg WindowConfig) { panic("not built yet") }

// Snapshot returns the samples for a successor, and Restore puts them back, so that a restart loses no window.
func (w *Window) Snapshot() WindowSnapshot { panic("not built yet") }

// Restore replaces the content of the window by s.
func (w *Window) Restore(s WindowSnapshot) { panic("not built yet") }

// WindowSnapshot is the content of a Window, as plain values for JSON.
type WindowSnapshot struct {
	// Last is the Unix second in which the newest bucket starts, 0 when the window is empty.
	Last int64 `json:"last"`
	// First and PanicFirst are the Unix seconds in which the history of the stable and the panic window began.
	First      int64 `json:"first"`
	PanicFirst int64 `json:"panicFirst"`
	// Buckets are the values, oldest first, the last one at Last.
	Buckets []float64 `json:"buckets"`
}

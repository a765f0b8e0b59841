package metrics_test

import (
	"runtime"
	"testing"

	"github.com/rousehq/rouse/metrics"
)

// TestWindowIsSmall holds the memory of a window with Knative's default sizes: 60 buckets and what goes with them. Two of
// them, for concurrency and requests per second, do the work of four windows.
func TestWindowIsSmall(t *testing.T) {
	const n, budget = 2000, 700
	windows := make([]*metrics.Window, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range windows {
		windows[i] = metrics.NewWindow(metrics.WindowConfig{})
	}
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - before.TotalAlloc) / n
	t.Logf("%d bytes per window", each)
	if each > budget {
		t.Errorf("a window takes %d bytes, want at most %d", each, budget)
	}
	runtime.KeepAlive(windows)
}

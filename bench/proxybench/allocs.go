//go:build linux

package proxybench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rousehq/rouse/bench/load"
)

// mallocsMetric is the runtime's count of heap objects allocated, under the name that Prometheus' Go collector gives
// to runtime/metrics' /gc/heap/allocs:objects.
const mallocsMetric = "go_memstats_mallocs_total"

// countAllocs measures heap allocations per request over n requests on real connections, and leaves the figure at -1
// for contenders whose metrics page does not tell. Reading the page allocates too: that cost is measured and taken off.
func (c *contest) countAllocs(ctx context.Context, n int) error {
	first, ok, err := c.mallocs(ctx)
	if !ok || err != nil {
		return err
	}
	few := load.Config{Addr: c.addr(), Request: load.Get("/"), Conns: 32, Duration: time.Minute, Warmup: 50 * time.Millisecond, MaxRequests: n, Dial: c.arena.dial}
	warm := few
	warm.MaxRequests = n / 10
	if _, err := load.Run(ctx, warm); err != nil {
		return fmt.Errorf("allocations of %s: %w", c.Name, err)
	}
	before, _, err := c.mallocs(ctx)
	if err != nil {
		return err
	}
	again, _, err := c.mallocs(ctx)
	if err != nil {
		return err
	}
	few.Warmup = 0
	result, err := load.Run(ctx, few)
	if err != nil {
		return fmt.Errorf("allocations of %s: %w", c.Name, err)
	}
	after, _, err := c.mallocs(ctx)
	if err != nil || after < first || result.Requests == 0 {
		return err
	}
	c.memory.allocs = max(0, (after-again)-(again-before)) / float64(result.Requests)
	return nil
}

// mallocs reads the count, and reports whether the contender tells it.
func (c *contest) mallocs(ctx context.Context) (float64, bool, error) {
	if !c.ours {
		return 0, false, nil
	}
	page, err := c.arena.get(ctx, loopback(metricsPort), "/metrics")
	if err != nil {
		return 0, false, fmt.Errorf("metrics of %s: %w", c.Name, err)
	}
	return findMetric(page, mallocsMetric)
}

// findMetric reads a metric without labels from a page in Prometheus' text format.
func findMetric(page []byte, name string) (float64, bool, error) {
	for line := range bytes.Lines(page) {
		if value, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			v, err := strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
			return v, err == nil, err
		}
	}
	return 0, false, nil
}

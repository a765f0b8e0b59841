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

// countAllocs measures heap allocations per request on real connections: small requests whose bodies are buffered, and
// a tenth as many whose responses stream. It leaves the figures at -1 for contenders whose metrics page does not tell.
func (c *contest) countAllocs(ctx context.Context, n int) error {
	_, ok, err := c.mallocs(ctx)
	if !ok || err != nil {
		return err
	}
	if c.memory.allocs, err = c.allocsPer(ctx, load.Get("/"), n); err != nil {
		return fmt.Errorf("allocations of %s: %w", c.Name, err)
	}
	if c.memory.streamed, err = c.allocsPer(ctx, load.Get("/64k"), n/10); err != nil {
		return fmt.Errorf("allocations of %s, streaming: %w", c.Name, err)
	}
	return nil
}

// allocsPer warms the connections and counts. Reading the count allocates too: that is measured and taken off.
func (c *contest) allocsPer(ctx context.Context, request []byte, n int) (float64, error) {
	cfg := load.Config{Addr: c.addr(), Request: request, Conns: 32, Duration: time.Minute, MaxRequests: max(n/10, 500), Dial: c.arena.dial}
	if _, err := load.Run(ctx, cfg); err != nil {
		return 0, err
	}
	var counts [3]float64
	for i := range counts {
		if i == 2 { // between the second and the third reading
			cfg.MaxRequests = n
			result, err := load.Run(ctx, cfg)
			if err != nil {
				return 0, err
			}
			n = max(1, result.Requests)
		}
		var err error
		if counts[i], _, err = c.mallocs(ctx); err != nil {
			return 0, err
		}
	}
	return max(0, (counts[2]-counts[1])-(counts[1]-counts[0])) / float64(n), nil
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

//go:build linux

package proxybench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/rousehq/rouse/bench/load"
)

const maxWarm = 5 * time.Second

// target is a contender as the runner sees it.
type target interface {
	// row carries the contender's name, version, hash and memory figures.
	row() Row
	addr() netip.AddrPort
	dial(netip.AddrPort) (int, error)
	// begin and end bracket a turn.
	begin(ctx context.Context) error
	end()
	// cpu is the proxy's on-CPU time so far.
	cpu() (time.Duration, error)
}

// plan is how long and how often.
type plan struct {
	rounds   int
	warmup   time.Duration
	duration time.Duration
	requests int // ends a turn early; 0 means no limit but time
}

// run measures every target in every scenario, interleaved: the targets of one scenario follow each other directly,
// so that what the machine does meanwhile hits all of them alike. Direct is the backend without a proxy.
func run(ctx context.Context, p plan, scenarios []scenario, targets []target, direct target, progress io.Writer) ([]Row, error) {
	var rows []Row
	for round := 1; round <= p.rounds; round++ {
		for _, s := range scenarios {
			base, err := baseline(ctx, p, s, direct)
			if err != nil {
				return rows, err
			}
			for i := range targets {
				t := targets[(i+round-1)%len(targets)] // nobody is always first
				r, err := turn(ctx, p, s, t)
				if err != nil {
					return rows, fmt.Errorf("%s, %s, round %d: %w", r.Contender, s.Name, round, err)
				}
				r.Round, r.DirectP50 = round, base
				rows = append(rows, r)
			}
		}
		fmt.Fprintf(progress, "round %d of %d is done\n", round, p.rounds)
	}
	return rows, nil
}

// baseline is the median latency without a proxy, for scenarios whose latency means something: the open loops.
func baseline(ctx context.Context, p plan, s scenario, direct target) (float64, error) {
	if s.rate == 0 {
		return 0, nil
	}
	r, err := turn(ctx, p, s, direct)
	if err != nil {
		return 0, fmt.Errorf("backend alone, %s: %w", s.Name, err)
	}
	return r.P50, nil
}

// turn measures one target in one scenario.
func turn(ctx context.Context, p plan, s scenario, t target) (Row, error) {
	row := t.row()
	row.Scenario = s.Name
	if err := t.begin(ctx); err != nil {
		return row, err
	}
	defer t.end()
	var marks []time.Duration
	var faults error
	result, err := load.Run(ctx, load.Config{
		Addr: t.addr(), Request: s.request, Conns: s.conns, Rate: s.rate, Warmup: p.warmup, Duration: p.duration, MaxRequests: p.requests, Dial: t.dial,
		Mark: func() {
			d, err := t.cpu()
			marks, faults = append(marks, d), errors.Join(faults, err)
		},
	})
	row.Requests, row.Errors, row.FirstError = result.Requests, result.Errors, result.FirstError
	row.RPS, row.WindowNanos = result.RPS(), int64(result.Elapsed)
	row.P50, row.P99 = micros(result.Quantile(50)), micros(result.Quantile(99))
	if err := errors.Join(err, faults); err != nil {
		return row, err
	}
	if result.Requests == 0 {
		return row, fmt.Errorf("no request was answered: %s", result.FirstError)
	}
	row.CPUMicros = micros(marks[1]-marks[0]) / float64(result.Requests)
	return row, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

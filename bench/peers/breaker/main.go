// Command breaker measures one acquire and release of our breaker beside Knative's: interleaved rounds, medians and
// ratios. Run it in its directory: it is a module of its own.
//
//	go run . -rounds 10
//
// The same workloads are Go benchmarks for benchstat: go test -bench . -count 10.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 11, "interleaved rounds")
	n := flag.Int("n", 500_000, "acquisitions per round")
	gates := flag.Bool("gates", false, "fail when a ratio is beyond its bound")
	flag.Parse()
	missed, err := compare(os.Stdout, max(1, *rounds), max(1, *n))
	if err != nil {
		fmt.Fprintln(os.Stderr, "breaker:", err)
		os.Exit(1)
	}
	if *gates && missed > 0 {
		fmt.Fprintf(os.Stderr, "breaker: %d ratios are beyond their bounds\n", missed)
		os.Exit(1)
	}
}

// compare prints a line per workload and returns how many miss their bound.
func compare(out io.Writer, rounds, n int) (missed int, err error) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "ns per acquire and release\trouse\tknative\tratio\tbound\t\n")
	for _, w := range workloads() {
		a, b := ours(w.capacity), knative(w.capacity)
		var own, theirs []time.Duration
		for range rounds {
			own = append(own, w.measure(a, n))
			theirs = append(theirs, w.measure(b, n))
		}
		x, y := middle(own), middle(theirs)
		ratio, verdict := float64(x)/float64(y), "ok"
		if ratio > w.bound {
			missed, verdict = missed+1, "MISSED"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%.2f×\t%.2f×\t%s\n", w.name, x.Nanoseconds(), y.Nanoseconds(), ratio, w.bound, verdict)
	}
	return missed, t.Flush()
}

func middle(v []time.Duration) time.Duration {
	slices.Sort(v)
	return v[len(v)/2]
}

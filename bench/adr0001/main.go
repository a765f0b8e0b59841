//go:build linux

// Command adr0001 repeats the measurements of docs/adr/0001-forwarding-engine.md: the CPU that each design of the
// HTTP/1.1 path costs per request, in interleaved rounds beside HAProxy.
//
//	go run ./bench/adr0001                      # all designs, all scenarios
//	go run ./bench/adr0001 -contenders onepass,haproxy -scenarios c64 -rounds 3
//	go run ./bench/adr0001 -fidelity            # what each design keeps of the wire
//
// A contender is a process of its own on one core; load generator and backend share the other. CPU time is what the
// process's CPU clock says, so a noisy machine moves it less than it moves the request rate.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	if name := os.Getenv("ADR0001_SERVE"); name != "" {
		if err := serve(name, os.Getenv("LISTEN"), os.Getenv("UP")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := compare(); err != nil {
		fmt.Fprintln(os.Stderr, "adr0001:", err)
		os.Exit(1)
	}
}

func compare() error {
	rounds := flag.Int("rounds", 5, "interleaved rounds")
	length := flag.Duration("duration", 2*time.Second, "length of one measurement")
	only := flag.String("contenders", "onepass,parsers,fasthttp,haproxy", "which designs; NAME=PROGRAM adds one that reads LISTEN and UP")
	which := flag.String("scenarios", "c1,c64,c512,post1k,get64k", "which scenarios")
	faithful := flag.Bool("fidelity", false, "try what each design keeps of the wire, instead of measuring")
	flag.Parse()
	if *faithful {
		return fidelity(strings.Split(*only, ","))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a, err := newArena(ctx)
	if err != nil {
		return err
	}
	defer a.close()
	names := strings.Split(*only, ",")
	for _, n := range names {
		if err := a.start(n); err != nil {
			return fmt.Errorf("start %s: %w", n, err)
		}
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "CPU µs per request, median (minimum)\t%s\t\n", strings.Join(names, "\t"))
	for _, s := range strings.Split(*which, ",") {
		if err := a.scenario(ctx, t, s, names, *rounds, *length); err != nil {
			return err
		}
	}
	return t.Flush()
}

func (a *arena) scenario(ctx context.Context, t *tabwriter.Writer, s string, names []string, rounds int, length time.Duration) error {
	figures := map[string][]float64{}
	for range rounds {
		for _, n := range names {
			us, err := a.measure(ctx, n, s, length)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", n, s, err)
			}
			figures[n] = append(figures[n], us)
		}
	}
	fmt.Fprintf(t, "%s\t", s)
	for _, n := range names {
		v := figures[n]
		slices.Sort(v)
		fmt.Fprintf(t, "%.1f (%.1f)\t", v[len(v)/2], v[0])
	}
	fmt.Fprintln(t)
	return t.Flush()
}

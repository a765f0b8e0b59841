//go:build linux

package parked

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/rousehq/rouse/internal/cmdline"
)

// roleEnv makes a copy of this program a server or a client.
const roleEnv = "ROUSE_BENCH_PARKED_ROLE"

// spare descriptors of a process, beside its connections.
const spare = 200

type options struct {
	requests int
	steps    int
	json     bool
	profile  string
	most     int // bytes per request that still pass
}

// Step is the memory with so many requests parked, in bytes.
type Step struct {
	Parked   int   `json:"parked"`
	RSS      int64 `json:"rss"`
	PSS      int64 `json:"pss"`
	Per      int64 `json:"rssPerParked"` // growth since nothing was parked
	Marginal int64 `json:"rssPerFurther"`
	Heap     int64 `json:"heapInUse"`
	Stacks   int64 `json:"stacksInUse"`
}

// Main runs the benchmark. Arguments are flags; -h lists them.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if err := raiseLimit(); err != nil {
		return err
	}
	switch os.Getenv(roleEnv) {
	case "server":
		return serve(ctx, os.Stdin, stdout)
	case "client":
		return hold(os.Stdin, stdout)
	}
	o, err := parse(args, descriptors(), stderr)
	if err != nil {
		return err
	}
	return o.run(ctx, stdout, stderr)
}

// parse reads the flags for a process that may open so many descriptors.
func parse(args []string, have int, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("rouse bench parked", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.requests, "requests", 50_000, "how many requests are parked at the end")
	fs.IntVar(&o.steps, "steps", 5, "how many times memory is read on the way there")
	fs.BoolVar(&o.json, "json", false, "one JSON object per step")
	fs.StringVar(&o.profile, "heapprofile", "", "write a heap profile of the activator, with everything parked, to this file")
	fs.IntVar(&o.most, "most", 9000, "fail when a parked request costs more bytes than this; 0 for no bound")
	if err := cmdline.Parse(fs, args); err != nil {
		return o, err
	}
	if o.requests < 1 || o.requests > 500_000 {
		return o, cmdline.Misusef("--requests %d: choose 1 to 500000", o.requests)
	}
	if o.steps < 1 || o.steps > o.requests {
		return o, cmdline.Misusef("--steps %d: choose 1 to --requests", o.steps)
	}
	if o.requests > have-spare {
		return o, cmdline.Misusef("--requests %d: this process may open %d descriptors; raise the hard limit (ulimit -Hn %d), or choose at most %d",
			o.requests, have, o.requests+spare, have-spare)
	}
	return o, nil
}

// raiseLimit takes as many descriptors as the hard limit allows.
func raiseLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	if want := (syscall.Rlimit{Cur: max(l.Max, 500_000+spare), Max: max(l.Max, 500_000+spare)}); l.Max < want.Max &&
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return nil // the superuser may raise it
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	return nil
}

func descriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(l.Cur, 1<<30))
}

func (o options) run(ctx context.Context, stdout, stderr io.Writer) error {
	a, err := startActivator(ctx, stderr, listeners(o.requests))
	if err != nil {
		return err
	}
	defer a.close()
	base, err := a.memory(0)
	if err != nil {
		return err
	}
	if !o.json {
		fmt.Fprintf(stdout, "%10s %12s %12s %14s %18s %12s %12s\n", "parked", "RSS MB", "PSS MB", "RSS B/request", "B/further request", "heap MB", "stacks MB")
	}
	var clients []*client
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	last := base
	for i := range o.steps {
		n := o.requests*(i+1)/o.steps - o.requests*i/o.steps
		c, err := startClient(ctx, stderr, a.addrs, last.Parked, n)
		if err != nil {
			return err
		}
		clients = append(clients, c)
		now, err := a.memory(last.Parked + n)
		if err != nil {
			return err
		}
		now.Per = (now.RSS - base.RSS) / int64(now.Parked)
		now.Marginal = (now.RSS - last.RSS) / int64(n)
		o.print(stdout, now)
		last = now
	}
	if o.profile != "" {
		if _, err := a.ask("profile " + o.profile); err != nil {
			return err
		}
	}
	if err := answerAll(a, clients, o.requests, stdout, o.json); err != nil {
		return err
	}
	if o.most > 0 && last.Per > int64(o.most) {
		return fmt.Errorf("a parked request costs %d bytes of resident memory, more than --most %d", last.Per, o.most)
	}
	return nil
}

func (o options) print(stdout io.Writer, s Step) {
	if o.json {
		_ = json.NewEncoder(stdout).Encode(s)
		return
	}
	mb := func(n int64) float64 { return float64(n) / 1e6 }
	fmt.Fprintf(stdout, "%10d %12.1f %12.1f %14d %18d %12.1f %12.1f\n", s.Parked, mb(s.RSS), mb(s.PSS), s.Per, s.Marginal, mb(s.Heap), mb(s.Stacks))
}

// answerAll lets pods come, and counts the answers that the clients received.
func answerAll(a *server, clients []*client, want int, stdout io.Writer, quiet bool) error {
	if _, err := a.ask("pods"); err != nil {
		return err
	}
	got := 0
	for _, c := range clients {
		n, err := c.collect()
		if err != nil {
			return err
		}
		got += n
	}
	if got != want {
		return fmt.Errorf("%d of %d parked requests were answered", got, want)
	}
	if !quiet {
		fmt.Fprintf(stdout, "all %d were answered when pods came\n", got)
	}
	return nil
}

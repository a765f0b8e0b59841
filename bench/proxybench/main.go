//go:build linux

package proxybench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/cmdline"
)

// options are the command line.
type options struct {
	quick      bool
	json, html string
	scenarios  []string
	contenders []string
	plan       plan
	limit      int
	held       int
	allocs     int
	source     string
	cache      string
	gates      bool
	budget     time.Duration // of the whole run, 0 for none
}

// quickBudget keeps a quick run below 45 s on a machine that others use too.
const quickBudget = 38 * time.Second

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("rouse bench proxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.quick, "quick", false, "one short round: a look, not a measurement; ends within 45 s once the peers are built")
	flags.StringVar(&o.json, "json", "", "write rows to this file")
	flags.StringVar(&o.html, "html", "", "write a page with plots to this file")
	list := func(into *[]string, name, usage string) {
		flags.Func(name, usage, func(v string) error {
			*into = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
			return nil
		})
	}
	list(&o.scenarios, "scenarios", "comma-separated, of c1, c64, c512, post1k, get64k, sleep10ms, open6000 (default all)")
	list(&o.contenders, "contenders", "comma-separated, of rouse, series, knative, haproxy, nginx, reverseproxy (default all)")
	flags.IntVar(&o.plan.rounds, "rounds", 6, "interleaved rounds")
	flags.DurationVar(&o.plan.duration, "duration", 1500*time.Millisecond, "counted time of one turn")
	flags.DurationVar(&o.plan.warmup, "warmup", 300*time.Millisecond, "time before it")
	flags.IntVar(&o.limit, "limit", 100, "container concurrency of the queue-proxies, at least 1")
	flags.IntVar(&o.held, "held", 1000, "parked requests and idle connections for the memory figures; 0 leaves them out")
	flags.IntVar(&o.allocs, "alloc-requests", 100_000, "requests over which allocations are counted")
	flags.StringVar(&o.source, "source", ".", "the source tree, or a directory inside it: contenders are built from it")
	flags.StringVar(&o.cache, "cache", "", "where built contenders are kept (default the user's cache directory)")
	flags.BoolVar(&o.gates, "gates", false, "fail when ours misses a bound")
	if err := cmdline.Parse(flags, args); err != nil {
		return o, err
	}
	if o.quick {
		set := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
		o.hurry(set)
	}
	return o, cmdline.Misuse(o.validate())
}

// hurry shortens what was not chosen by hand.
func (o *options) hurry(set map[string]bool) {
	if !set["rounds"] {
		o.plan.rounds = 1
	}
	if !set["duration"] {
		o.plan.duration = 500 * time.Millisecond
	}
	if !set["warmup"] {
		o.plan.warmup = 100 * time.Millisecond
	}
	if !set["alloc-requests"] {
		o.allocs = 20_000
	}
	if !set["duration"] && !set["rounds"] {
		o.budget = quickBudget
	}
}

// fit shortens turns so that all of them end within the time that is left. What a turn costs beyond its load
// (connecting, draining) is allowed for.
func (p plan) fit(left time.Duration, turns int) plan {
	const around, least = 150 * time.Millisecond, 100 * time.Millisecond
	each := left/time.Duration(max(1, turns*p.rounds)) - p.warmup - around
	p.duration = max(least, min(p.duration, each))
	return p
}

func (o *options) validate() error {
	var faults []error
	for _, f := range []struct {
		bad  bool
		text string
	}{
		{o.plan.rounds < 1 || o.plan.rounds > 100, "--rounds: choose 1 to 100"},
		{o.plan.duration < 50*time.Millisecond || o.plan.duration > time.Minute, "--duration: choose 50ms to 1m"},
		{o.plan.warmup < 0 || o.plan.warmup > time.Minute, "--warmup: choose 0 to 1m"},
		{o.limit < 1, "--limit: choose at least 1: a queue-proxy without its limit would look cheaper than it is in service"},
		{o.held < 0 || o.held > 4000, "--held: choose 0 to 4000"},
		{o.held > 11*max(o.limit, 1), "--held: Knative's queue-proxy holds no more than 11 times its limit; raise --limit"},
		{o.allocs < 1000, "--alloc-requests: choose at least 1000"},
	} {
		if f.bad {
			faults = append(faults, errors.New(f.text))
		}
	}
	return errors.Join(faults...)
}

// Main runs the proxy benchmark as the command line args says, prints a report to stdout and progress to stderr. It
// pins the calling process to one core for good. It fails when a contender cannot be built or started, ours fails its
// checks, or ctx ends.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	began := time.Now()
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	wanted, err := chosenScenarios(o.scenarios)
	if err != nil {
		return err
	}
	b, err := newBuilder(o.source, o.cache, stderr)
	if err != nil {
		return err
	}
	contenders, err := chosen(ctx, o.contenders, b, o.limit)
	if err != nil {
		return err
	}
	backend, err := b.ours(ctx, "bench/cmd/backend")
	if err != nil {
		return err
	}
	rows, err := compete(ctx, o, began, wanted, contenders, backend, stderr)
	if err != nil {
		return err
	}
	return publish(o, rows, stdout)
}

// compete runs everything that needs processes.
func compete(ctx context.Context, o options, began time.Time, wanted []scenario, contenders []contender, backend string, stderr io.Writer) ([]Row, error) {
	at, err := allowedCores()
	if err != nil {
		return nil, err
	}
	if at.proxy == at.rest {
		fmt.Fprintln(stderr, "only one core is allowed: proxies share it with the load, and latencies mean little")
	}
	if err := pinSelf(at.rest); err != nil {
		return nil, err
	}
	runtime.GOMAXPROCS(1)
	dir, err := os.MkdirTemp("", "rouse-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // temporary, whatever is left

	var contests []*contest
	defer func() {
		for _, c := range contests {
			c.close()
		}
	}()
	for _, c := range append(contenders, direct(backend)) {
		one, err := newContest(c, backend, dir, at)
		if err != nil {
			return nil, err
		}
		contests = append(contests, one)
	}
	proxies, alone := contests[:len(contenders)], contests[len(contenders)]
	if err := prepare(ctx, o, proxies, stderr); err != nil {
		return nil, err
	}
	var targets []target
	for _, c := range proxies {
		targets = append(targets, proxied{c})
	}
	if o.budget > 0 {
		o.plan = o.plan.fit(o.budget-time.Since(began), len(wanted)*len(targets)+1)
	}
	return run(ctx, o.plan, wanted, targets, proxied{alone}, stderr)
}

// prepare checks ours, then takes the figures that no load may disturb.
func prepare(ctx context.Context, o options, proxies []*contest, stderr io.Writer) error {
	for _, c := range proxies {
		if err := c.qualify(ctx, stderr); err != nil {
			return err
		}
	}
	if o.held > 0 {
		if err := weighAll(ctx, proxies, o.held); err != nil {
			return err
		}
	}
	for _, c := range proxies {
		if !c.ours {
			continue
		}
		if err := c.up(ctx); err != nil {
			return err
		}
		err := c.countAllocs(ctx, o.allocs)
		c.down()
		if err != nil {
			return err
		}
	}
	return nil
}

// weighAll measures memory, at once where nobody's ports collide: memory does not depend on who else runs.
func weighAll(ctx context.Context, proxies []*contest, n int) error {
	var (
		mu     sync.Mutex
		faults error // guarded by mu
		wg     sync.WaitGroup
	)
	for _, c := range proxies {
		if c.proxies != nil {
			continue // several processes: each is weighed by itself, here or elsewhere
		}
		one := func() {
			err := c.weigh(ctx, n)
			mu.Lock()
			defer mu.Unlock()
			faults = errors.Join(faults, err)
		}
		if c.arena.isolated {
			wg.Go(one)
		} else {
			one()
		}
	}
	wg.Wait()
	return faults
}

// publish writes the results wherever they were asked for.
func publish(o options, rows []Row, stdout io.Writer) error {
	s := summarise(rows)
	if err := writeReport(stdout, s); err != nil {
		return err
	}
	err := errors.Join(
		writeFile(o.json, func(w io.Writer) error { return writeJSON(w, rows) }),
		writeFile(o.html, func(w io.Writer) error { return writeHTML(w, s, time.Now()) }),
	)
	if err != nil {
		return err
	}
	for _, g := range s.gates() {
		if o.gates && g.Verdict() == "MISSED" {
			return fmt.Errorf("%s is %.2f%s: the bound is %.4g%s", g.Metric, g.Got, g.Unit, g.Gate, g.Unit)
		}
	}
	return nil
}

// writeFile does nothing without a path.
func writeFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

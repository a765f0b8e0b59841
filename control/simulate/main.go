package simulate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/cmdline"
)

const usage = `rouse simulate plays a load against a scaling configuration in virtual time.

  rouse simulate -f app.yaml --shape sine --rate 12 --duration 24h
  rouse simulate -f app.yaml --shape burst --rate 500 --period 5m --duration 10m --compare other.yaml --html out.html
  rouse simulate -f app.yaml --recorded run.csv

`

// options are the command line.
type options struct {
	file, compare, curve, recorded, shape string
	jsonTo, htmlTo                        string
	rate                                  float64
	period, duration, perPod, deadline    time.Duration
	perStart                              time.Duration
	atOnce                                int
	work, startup                         string
	seed                                  uint64
	rows, queue                           int
	direct, decisions                     bool
	set, setOther                         list
	growth                                float64
	start                                 time.Time
}

// list is a flag that may be given several times.
type list []string

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, " ") }

// Set implements flag.Value.
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// Judge warns on stderr of what is misspelt in a manifest. What nobody could run is an error.
type Judge func(stderr io.Writer, path string, text []byte) error

// Main is the command `rouse simulate`. It reads its own flags from args and writes a table to stdout, or what --json
// and --html ask for. The files of configurations are held to judge. For -h it prints the help and returns
// flag.ErrHelp.
func Main(ctx context.Context, args []string, judge Judge, stdout, stderr io.Writer) error {
	var o options
	flags := o.flags(stderr)
	if err := cmdline.Parse(flags, args); err != nil {
		return err
	}
	if err := o.judged(judge, stderr); err != nil {
		return err
	}
	configs, err := o.configs()
	if err != nil {
		return err
	}
	sayUnmodelled(stderr, append(o.set, o.setOther...))
	var reports []Report
	for _, cfg := range configs {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := Run(cfg)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	return o.write(stdout, reports)
}

// judged warns of what is misspelt in the files with configurations.
func (o *options) judged(judge Judge, stderr io.Writer) error {
	var faults []error
	for i, path := range []string{o.file, o.compare} {
		if path == "" || i > 0 && path == o.file {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if faults = append(faults, judge(stderr, path, text)); errors.Join(faults...) == nil {
			warnOfWorkload(stderr, path)
		}
	}
	return errors.Join(faults...)
}

func (o *options) flags(stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("rouse simulate", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, usage); f.PrintDefaults() }
	f.StringVar(&o.file, "f", "", "`file` with a Knative Service, or an annotated Deployment or StatefulSet, and the ConfigMap config-autoscaler if it is not the shipped one; without, the shipped defaults")
	f.Var(&o.set, "set", "`key=value`: a setting over those of the file, such as target=10 or containerConcurrency=1; may be repeated")
	f.StringVar(&o.compare, "compare", "", "another `file`, to be simulated beside the first with the same requests")
	f.Var(&o.setOther, "compare-set", "`key=value` over those of the other file, or of the same one without --compare; may be repeated")
	f.StringVar(&o.curve, "load", "", "load as a CSV `file`: seconds, requests per second")
	f.StringVar(&o.recorded, "recorded", "", "load and start-ups as a `file` that `rouse up --record` wrote")
	f.StringVar(&o.shape, "shape", "sine", "load as a `shape`: burst, sine, step, spiky")
	f.Float64Var(&o.rate, "rate", 10, "requests per second on average; for bursts, requests per burst")
	f.DurationVar(&o.period, "period", time.Hour, "length of a wave or round, or time between bursts")
	f.DurationVar(&o.duration, "duration", 0, "length of the load (default that of the file, or one day)")
	f.StringVar(&o.work, "work", "lognormal:100ms,0.5", "`time` per request: 50ms, exp:50ms, uniform:10ms-90ms, lognormal:50ms,0.5")
	f.StringVar(&o.startup, "startup", "1s", "`time` from asking for a pod to its readiness, written as for --work")
	f.DurationVar(&o.perPod, "startup-per-pod", 0, "how long after the one before it a starting pod is ready at the earliest")
	f.DurationVar(&o.perStart, "work-per-start", 0, "by how much each pod that is starting delays a request taken up meanwhile")
	f.IntVar(&o.atOnce, "at-once", 0, "pods that their one machine can start at the same time; 0: they have many machines")
	f.IntVar(&o.queue, "queue-limit", 0, "requests that may wait (default that of the configuration, 10000)")
	f.DurationVar(&o.deadline, "queue-deadline", 0, "how long they may wait (default that of the configuration, 1m0s)")
	f.BoolVar(&o.direct, "direct", false, "let requests go past the activator when there is spare capacity, as in Kubernetes")
	f.Float64Var(&o.growth, "growth", 0, "decide at once when a report shows this many times the load of the last decision; 0: at the ticks only")
	f.TextVar(&o.start, "start", epoch, "when the load begins, for schedules, as 2026-03-02T08:00:00Z")
	f.Uint64Var(&o.seed, "seed", 1, "of the random numbers")
	f.IntVar(&o.rows, "rows", defaultRows, "intervals of the report")
	f.BoolVar(&o.decisions, "decisions", false, "put every decision into the JSON")
	f.StringVar(&o.jsonTo, "json", "", "write JSON to the `file`, - for standard output instead of the table")
	f.StringVar(&o.htmlTo, "html", "", "write a page with plots to the `file`")
	return f
}

// configs makes a simulation of each policy, with the same load.
func (o *options) configs() ([]Config, error) {
	load, err := o.load()
	if err != nil {
		return nil, err
	}
	svc := Service{StartupPerPod: o.perPod, WorkPerStart: o.perStart, QueueLimit: o.queue, QueueDeadline: o.deadline}
	if svc.Work, err = ParseDistribution(o.work); err != nil {
		return nil, cmdline.Misusef("--work: %w", err)
	}
	if svc.Startup, err = ParseDistribution(o.startup); err != nil {
		return nil, cmdline.Misusef("--startup: %w", err)
	}
	base := Config{Load: load, Service: svc, Duration: o.duration, Seed: o.seed, Rows: o.rows, DirectPath: o.direct,
		KeepDecisions: o.decisions, Growth: o.growth, AtOnce: o.atOnce, Start: o.start}
	first, err := base.with(o.file, o.set)
	if err != nil || o.compare == "" && len(o.setOther) == 0 {
		return []Config{first}, err
	}
	other := o.compare
	if other == "" {
		other = o.file
		o.setOther = append(append(list(nil), o.set...), o.setOther...)
	}
	second, err := base.with(other, o.setOther)
	return []Config{first, second}, err
}

// with completes the configuration by the policy of a file and what was set over it.
func (c Config) with(file string, set list) (Config, error) {
	var s settings
	var err error
	if file != "" {
		if s, err = readSettings(file); err != nil {
			return c, err
		}
	}
	if err = s.set(set); err != nil {
		return c, cmdline.Misuse(err)
	}
	c.Label = strings.TrimSpace(strings.Join(append([]string{filepath.Base(file)}, set...), " "))
	if file == "" {
		c.Label = strings.Join(append([]string{"defaults"}, set...), " ")
	}
	return c, s.resolve(&c)
}

func (o *options) load() (Load, error) {
	switch {
	case o.recorded != "":
		return readFile(o.recorded, func(r io.Reader) (Load, error) {
			rec, err := ReadRecording(r)
			return Load{Recording: rec}, err
		})
	case o.curve != "":
		return readFile(o.curve, ReadCurve)
	}
	d := o.duration
	if d == 0 {
		d = 24 * time.Hour
	}
	load, err := Shape{Kind: o.shape, Rate: o.rate, Period: o.period, Duration: d, Seed: o.seed}.Load()
	return load, cmdline.Misuse(err)
}

func readFile(path string, read func(io.Reader) (Load, error)) (Load, error) {
	f, err := os.Open(path)
	if err != nil {
		return Load{}, err
	}
	defer f.Close()
	l, err := read(f)
	if err != nil {
		return Load{}, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

func (o *options) write(stdout io.Writer, reports []Report) error {
	if o.htmlTo != "" {
		if err := writeFile(o.htmlTo, reports, WriteHTML); err != nil {
			return err
		}
	}
	if o.jsonTo == "-" {
		return WriteJSON(stdout, reports...)
	}
	if o.jsonTo != "" {
		if err := writeFile(o.jsonTo, reports, WriteJSON); err != nil {
			return err
		}
	}
	return WriteTable(stdout, reports...)
}

func writeFile(path string, reports []Report, write func(io.Writer, ...Report) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f, reports...), f.Close())
}

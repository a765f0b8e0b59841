package controlbench

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/rousehq/rouse/internal/cmdline"
)

// options are what the command line says.
type options struct {
	revisions int
	pods      int
	streams   int
	warmup    time.Duration
	duration  time.Duration
	json      string
	knative   bool
	peers     string
	scrape    int    // revisions whose pods Knative scrapes over HTTP
	producers string // role of a child: where to connect to
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("rouse bench control", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.revisions, "revisions", 10_000, "how many revisions")
	fs.IntVar(&o.pods, "pods", 3, "pods per revision; each reports once per second")
	fs.IntVar(&o.streams, "streams", 1000, "websockets that carry the reports, each those of an equal share of the pods")
	fs.DurationVar(&o.warmup, "warmup", 5*time.Second, "how long each contender runs before measuring")
	fs.DurationVar(&o.duration, "duration", 10*time.Second, "how long each contender is measured")
	fs.StringVar(&o.json, "json", "", "write the result to this file as JSON")
	fs.BoolVar(&o.knative, "knative", true, "run Knative's autoscaler on the same work too; the first time its module is downloaded and built")
	fs.StringVar(&o.peers, "peers", "bench/peers/autoscaler", "where the module with Knative's autoscaler is")
	fs.IntVar(&o.scrape, "scrape", 300, "revisions whose pods Knative scrapes over HTTP; all would not fit this machine")
	fs.StringVar(&o.producers, "producers", "", "internal: play the producers and connect to this address")
	if err := cmdline.Parse(fs, args); err != nil {
		return o, err
	}
	return o, cmdline.Misuse(o.validate())
}

func (o options) validate() error {
	var errs []error
	if o.revisions < 1 {
		errs = append(errs, errors.New("--revisions must be at least 1"))
	}
	if o.pods < 1 {
		errs = append(errs, errors.New("--pods must be at least 1"))
	}
	if o.streams < 1 || o.streams > o.revisions*o.pods {
		errs = append(errs, fmt.Errorf("--streams must be in [1, %d], the number of pods", o.revisions*o.pods))
	}
	if o.scrape < 1 {
		errs = append(errs, errors.New("--scrape must be at least 1"))
	}
	if o.duration < time.Second {
		errs = append(errs, errors.New("--duration must be at least 1s"))
	}
	if o.warmup < 0 {
		errs = append(errs, errors.New("--warmup must not be negative"))
	}
	return errors.Join(errs...)
}

// childArgs returns the arguments of the process that plays the producers.
func (o options) childArgs(addr string) []string {
	return []string{
		fmt.Sprintf("--revisions=%d", o.revisions), fmt.Sprintf("--pods=%d", o.pods), fmt.Sprintf("--streams=%d", o.streams),
		"--producers=" + addr,
	}
}

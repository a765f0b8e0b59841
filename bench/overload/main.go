package overload

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/rousehq/rouse/internal/cmdline"
)

// options are the flags.
type options struct {
	seconds    int
	rate       int
	queue      int
	activators int
	deadline   time.Duration
	giveUp     time.Duration
	every      time.Duration
	source     string
	sidecar    string
	self       string
}

func parse(self string, args []string, stderr io.Writer) (options, error) {
	o := options{self: self}
	fs := flag.NewFlagSet("rouse bench overload", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.seconds, "seconds", 600, "how long")
	fs.IntVar(&o.rate, "rate", 200, "requests per second; the service does 2")
	fs.IntVar(&o.queue, "queue", 100, "requests that may be parked (rouse.dev/queue-limit)")
	fs.DurationVar(&o.deadline, "deadline", time.Minute, "how long a request may be parked (rouse.dev/queue-deadline); clients that give up earlier leave little to serve")
	fs.IntVar(&o.activators, "activators", 0, "activator processes; 0 has rouse up itself take the requests")
	fs.DurationVar(&o.giveUp, "give-up", time.Second, "when a client gives up")
	fs.DurationVar(&o.every, "every", 10*time.Second, "time between two lines")
	fs.StringVar(&o.source, "source", ".", "the source tree, to build the queue-proxy from")
	fs.StringVar(&o.sidecar, "sidecar", "", "queue-proxy binary, instead of one that is built")
	if err := cmdline.Parse(fs, args); err != nil {
		return o, err
	}
	return o, cmdline.Misuse(o.validate())
}

func (o *options) validate() error {
	var errs []error
	for _, f := range []struct {
		bad  bool
		text string
	}{
		{o.seconds < 1 || o.seconds > 24*3600, "-seconds: choose 1 to 86400"},
		{o.rate < 1 || o.rate > 10_000, "-rate: choose 1 to 10000"},
		{o.queue < 1, "-queue: choose at least 1"},
		{o.deadline < time.Millisecond || o.deadline > time.Hour, "-deadline: choose 1ms to 1h"},
		{o.activators < 0 || o.activators > 10, "-activators: choose 0 to 10"},
		{o.giveUp <= 0, "-give-up: choose more than 0"},
		{o.every < 100*time.Millisecond, "-every: choose at least 100ms"},
	} {
		if f.bad {
			errs = append(errs, errors.New(f.text))
		}
	}
	return errors.Join(errs...)
}

// Main is `rouse bench overload`. self is the rouse program. It prints a line per -every to stdout, and fails when a bound
// of the package comment does not hold, or ctx ends.
func Main(ctx context.Context, self string, args []string, stdout, stderr io.Writer) error {
	o, err := parse(self, args, stderr)
	if err != nil {
		return err
	}
	h, err := open(ctx, &o)
	if err != nil {
		return err
	}
	defer h.close()
	r := &report{o: &o, out: stdout, bases: map[string]int64{}, most: map[string]int64{}}
	if err := r.watch(ctx, h, newCrowd(h.addr, &o)); err != nil {
		return fmt.Errorf("%w\nrouse up said:\n%s", err, h.log)
	}
	return nil
}

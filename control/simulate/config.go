package simulate

import (
	"errors"
	"fmt"
	"time"

	"github.com/rousehq/rouse/control/kpa"
)

// Service is the model of what runs in the pods.
type Service struct {
	// Work is how long the application works on a request. Required.
	Work Distribution
	// Startup is how long a pod takes from being asked for to being ready when it starts alone.
	Startup Distribution
	// StartupPerPod is how long after the one before it a starting pod is ready at the earliest: the share of a start-up
	// that only one pod at a time can do, such as that which needs the CPU of one machine. 0: starts do not disturb each
	// other.
	StartupPerPod time.Duration
	// WorkPerStart is by how much each pod that is starting delays a request that a pod takes up meanwhile, because both
	// need the same CPU. 0: starts do not disturb requests.
	WorkPerStart time.Duration
	// QueueLimit is how many requests wait at most, and QueueDeadline for how long. Defaults 10,000 and 60 s.
	QueueLimit    int
	QueueDeadline time.Duration
}

// Config is one simulation.
type Config struct {
	// Label names it in reports. Default "policy".
	Label string
	// Load is what arrives. Required.
	Load Load
	// Service is the model of the service.
	Service Service
	// Policy is the configuration to try, its ContainerConcurrency included.
	Policy kpa.Policy
	// Duration is how long the load lasts, in virtual time. Default: the length of the load.
	Duration time.Duration
	// Seed begins the random numbers. Loads, work times and start-ups draw from sequences of their own, so that two
	// policies with one seed meet the same requests.
	Seed uint64
	// Rows is into how many intervals the report divides the time. Default 48.
	Rows int
	// DirectPath lets requests go past the activator when there is enough excess burst capacity, as in Kubernetes; it
	// delays the way to zero by the grace period. Off, every request comes through the activator, as in `rouse up`.
	DirectPath bool
	// Growth, when not 0, reports a queue that grows or shrinks by so much at once, and adds a decision when it is this
	// many times what was in flight at the last one, as the settings of that name of activator and loop do.
	Growth float64
	// AtOnce is how many pods their one machine can start at the same time, 0 when they have many machines: a
	// drain-aware burst heeds it ([control.Target]).
	AtOnce int
	// Floors, when not nil, gives the floor of a schedule; virtual time begins at Start, by default at Epoch.
	Floors Floors
	Start  time.Time
	// Recorder, when not nil, gets the run as if it were a real one. The caller closes it.
	Recorder *Recorder
	// KeepDecisions puts every decision into the report, not only the rows.
	KeepDecisions bool
}

// Floors tells the least number of pods at an instant, and until when that holds.
type Floors interface {
	At(now time.Time) (pods int, until time.Time)
}

// Defaults of Config and Service.
const (
	defaultRows          = 48
	defaultQueueLimit    = 10_000
	defaultQueueDeadline = 60 * time.Second
	maxDuration          = 366 * 24 * time.Hour
)

// withDefaults fills zero fields.
func (c Config) withDefaults() Config {
	setDefault(&c.Label, "policy")
	setDefault(&c.Rows, defaultRows)
	setDefault(&c.Start, epoch)
	setDefault(&c.Duration, c.Load.length())
	setDefault(&c.Service.QueueLimit, defaultQueueLimit)
	setDefault(&c.Service.QueueDeadline, defaultQueueDeadline)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate names every field that is out of range.
func (c *Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("simulate: "+format, args...))
		}
	}
	check(c.Duration > 0, "the load is empty: give a curve, a shape or a recording, and a duration")
	check(c.Duration <= maxDuration, "duration %v is more than a year", c.Duration)
	check(c.Service.Work != nil || c.Load.Recording != nil, "work: say how long a request takes")
	check(c.Service.QueueLimit > 0, "queue limit %d: allowed are 1 and more", c.Service.QueueLimit)
	check(c.Service.QueueDeadline > 0, "queue deadline %v: allowed is more than 0", c.Service.QueueDeadline)
	check(c.Service.StartupPerPod >= 0, "start-up per pod %v: allowed are 0 and more", c.Service.StartupPerPod)
	check(c.Service.WorkPerStart >= 0, "work per start %v: allowed are 0 and more", c.Service.WorkPerStart)
	check(c.AtOnce >= 0, "at once %d: allowed are 0 and more", c.AtOnce)
	check(len(c.Policy.Targets) > 0, "the policy has no target")
	check(c.Growth == 0 || c.Growth > 1, "growth %v: allowed are 0 and more than 1", c.Growth)
	check(c.Rows > 0, "rows %d: allowed are 1 and more", c.Rows)
	check(c.Policy.StableWindow >= time.Second, "stable window %v: allowed is 1s and more", c.Policy.StableWindow)
	for _, t := range c.Policy.Targets {
		known := t.Metric == kpa.Concurrency || t.Metric == kpa.RPS || t.Metric == kpa.QueueLength
		check(known, "metric %v is not simulated: allowed are concurrency, rps, queue-length", t.Metric)
		check(t.Value > 0, "target %v of %v: allowed is more than 0", t.Value, t.Metric)
	}
	return errors.Join(errs...)
}

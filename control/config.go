package control

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config of a [Loop]. The zero value of a field means its default.
type Config struct {
	// Period is how often each revision is decided about. Default 2 s, as in Knative.
	Period time.Duration
	// Slots is into how many parts a period is divided to spread the work. Default 64.
	Slots int
	// Workers is how many scale requests, and as many mode changes, run at the same time. Default 16.
	Workers int
	// ApplyTimeout bounds one call of a target. Default 30 s.
	ApplyTimeout time.Duration
	// ReportTTL is how long the last report of a producer describes what it has in flight. Default 3 s.
	ReportTTL time.Duration
	// Activators is how many activators there are, when no ModeTarget knows better. Default 1.
	Activators int
	// Growth, when not 0, adds a decision as soon as a report shows this many times what was in flight at the last
	// decision, and more than the pods that were asked for should carry; at most one per 20 ms and revision. Default
	// 0: Knative decides at its ticks only, and at once from zero.
	Growth float64
	// Events is how many events are kept for a slow observer. Default 4096.
	Events int
}

// Default returns the configuration with every zero field replaced by its default.
func (c Config) Default() Config {
	set(&c.Period, 2*time.Second)
	set(&c.Slots, 64)
	set(&c.Workers, 16)
	set(&c.ApplyTimeout, 30*time.Second)
	set(&c.ReportTTL, 3*time.Second)
	set(&c.Activators, 1)
	set(&c.Events, 4096)
	return c
}

func set[T comparable](field *T, fallback T) {
	var zero T
	if *field == zero {
		*field = fallback
	}
}

// Validate names every field that is out of range.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New("control: "+text))
		}
	}
	check(c.Slots >= 1, "Slots must be at least 1")
	check(c.Period >= time.Duration(max(c.Slots, 1))*time.Millisecond, "Period must give each of the Slots at least 1ms")
	check(c.Workers >= 1, "Workers must be at least 1")
	check(c.ApplyTimeout > 0, "ApplyTimeout must be positive")
	check(c.ReportTTL > 0, "ReportTTL must be positive")
	check(c.Activators >= 1, "Activators must be at least 1")
	check(c.Growth == 0 || c.Growth > 1, "Growth must be 0 or greater than 1")
	check(c.Events >= 1, "Events must be at least 1")
	return errors.Join(errs...)
}

// Deps are what a [Loop] works with.
type Deps struct {
	// Pods tells which pods there are. Required.
	Pods PodSource
	// Ownership says which revisions are ours; nil for all.
	Ownership Ownership
	// Activators tells what activators have in hand when their reports stay out; nil when they can't, or when reports of
	// theirs do not get lost: then what one said last holds.
	Activators ActivatorSource
	// Observer is told of events; nil for nobody.
	Observer Observer
	// Log gets one line per change; nil for none.
	Log *slog.Logger
	// Registerer gets the loop's metrics; nil for none.
	Registerer prometheus.Registerer
	// Lag, when not nil, is told how late each decision of the wheel is. It must return at once.
	Lag func(time.Duration)
}

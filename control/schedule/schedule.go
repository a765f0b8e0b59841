// Package schedule turns cron expressions into floors: the least number of pods that a service should have at an instant.
//
// The fields and their meaning are those of KEDA's cron trigger: a window opens whenever start fires and closes whenever
// end fires, in a time zone. Where windows overlap, the largest floor wins. Like a min-scale, a floor only lifts: load
// may ask for more, max-scale still caps it.
//
// A Schedule is immutable and safe for concurrent use. It reads no clock.
package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Window is one trigger as it is written.
type Window struct {
	// Timezone is a name of the IANA database, such as "Europe/Paris". Required, as in KEDA.
	Timezone string
	// Start and End are cron expressions of five fields: when the window opens and when it closes. They must differ.
	Start, End string
	// Desired is the floor while the window is open, as text: a whole number from 0 on.
	Desired string
}

// Schedule is any number of windows. The zero value has none.
type Schedule struct{ windows []window }

type window struct {
	zone       *time.Location
	start, end cron.Schedule
	floor      int
}

// maxFloor is the most replicas that Kubernetes counts.
const maxFloor = 1<<31 - 1

// Parse returns the schedule of the windows. It reports all faults at once, each with its window, field and value.
func Parse(windows ...Window) (*Schedule, error) {
	s := &Schedule{}
	var errs []error
	for i, w := range windows {
		parsed, err := w.parse()
		if err != nil {
			errs = append(errs, fmt.Errorf("schedule %d: %w", i+1, err))
			continue
		}
		s.windows = append(s.windows, parsed)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func (w Window) parse() (window, error) {
	var errs []error
	fault := func(field, value string, allowed string) {
		errs = append(errs, fmt.Errorf("%s %q: allowed is %s", field, value, allowed))
	}
	const expression = `a cron expression of five fields, such as "30 8 * * 1-5"`
	var p window
	var err error
	if p.zone, err = time.LoadLocation(w.Timezone); err != nil || w.Timezone == "" {
		fault("timezone", w.Timezone, `the name of a time zone, such as "Europe/Paris"`)
	}
	if p.start, err = parseCron(w.Start); err != nil {
		fault("start", w.Start, expression)
	}
	if p.end, err = parseCron(w.End); err != nil {
		fault("end", w.End, expression)
	}
	if strings.TrimSpace(w.Start) == strings.TrimSpace(w.End) {
		fault("end", w.End, "another expression than start")
	}
	n, err := strconv.ParseInt(w.Desired, 10, 64)
	if err != nil || n < 0 || n > maxFloor {
		fault("desiredReplicas", w.Desired, fmt.Sprintf("a whole number in [0, %d]", maxFloor))
	}
	p.floor = int(n)
	return p, errors.Join(errs...)
}

// parseCron leaves the time zone to the timezone field.
func parseCron(s string) (cron.Schedule, error) {
	if strings.Contains(s, "TZ=") {
		return nil, errors.New("a time zone in the expression")
	}
	return cron.ParseStandard(s)
}

// Floor returns the least number of pods at now and when that may change next; a zero time for never.
func (s *Schedule) Floor(now time.Time) (pods int, until time.Time) {
	if s == nil {
		return 0, time.Time{}
	}
	for _, w := range s.windows {
		local := now.In(w.zone)
		opens, closes := w.start.Next(local), w.end.Next(local)
		if w.open(opens, closes) {
			pods = max(pods, w.floor)
		}
		until = earlier(earlier(until, opens), closes)
	}
	return pods, until
}

// open says whether the window is open before its next events: it is when it closes before it opens again. A cron
// expression that never fires again gives a zero time.
func (w *window) open(opens, closes time.Time) bool {
	switch {
	case closes.IsZero():
		return false
	case opens.IsZero():
		return true
	}
	return closes.Before(opens)
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

package config

import (
	"time"

	"github.com/robfig/cron/v3"
)

// Times are recurring times of a zone's clock. Where that clock skips one, as in the night when summer time begins, it
// comes when the clock goes on; where it shows one twice it comes twice, as with KEDA's cron trigger. The library that
// reads them leaves out those that are skipped, and knows no last one.
type Times struct{ spec *cron.SpecSchedule }

// horizon is how far one is looked for: leap days are eight years apart at most.
const horizon = 8 * 366 * 24 * time.Hour

// occurrence is when one of the times comes, and what the clock should have shown then, written as UTC.
type occurrence struct{ at, clock time.Time }

// before orders what comes at the same instant, when the clock goes on, by what it has skipped.
func (o occurrence) before(p occurrence) bool {
	return o.at.Before(p.at) || o.at.Equal(p.at) && o.clock.Before(p.clock)
}

// period is a time during which a zone's clock is set in one way.
type period struct {
	start, end time.Time // zero when there is none
	// offset is what the clock is ahead of UTC, before and after what it was and will be in the adjacent periods.
	offset, before, after time.Duration
}

func periodAt(t time.Time) period {
	p := period{offset: offsetAt(t)}
	p.before, p.after = p.offset, p.offset
	if p.start, p.end = t.ZoneBounds(); !p.start.IsZero() {
		p.before = offsetAt(p.start.Add(-1))
	}
	if !p.end.IsZero() {
		p.after = offsetAt(p.end)
	}
	return p
}

func offsetAt(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

// occurs returns when the clock shows a time in this period; one that it skipped just before comes at the start.
func (p period) occurs(clock time.Time) occurrence {
	o := occurrence{clock.Add(-p.offset), clock}
	if o.at.Before(p.start) {
		o.at = p.start
	}
	return o
}

// zone returns whose clock counts. Without one in the text that is the caller's.
func (t Times) zone(now time.Time) *time.Location {
	if t.spec.Location == time.Local {
		return now.Location()
	}
	return t.spec.Location
}

// last returns the latest occurrence that is not after now.
func (t Times) last(now time.Time) (occurrence, bool) {
	oldest := now.Add(-horizon)
	p := periodAt(now.In(t.zone(now)))
	for end := now.UTC().Add(p.offset + 1); ; {
		first := oldest.UTC().Add(p.offset)
		if p.start.After(oldest) {
			first = p.start.UTC().Add(min(p.before, p.offset))
		}
		if clock, ok := t.latest(first, end); ok {
			return p.occurs(clock), true
		}
		if !p.start.After(oldest) {
			return occurrence{}, false
		}
		p = periodAt(p.start.Add(-1))
		end = p.end.UTC().Add(p.offset)
	}
}

// next returns the earliest occurrence after now.
func (t Times) next(now time.Time) (occurrence, bool) {
	newest := now.Add(horizon)
	p := periodAt(now.In(t.zone(now)))
	for first := now.UTC().Add(p.offset + 1); ; {
		end := newest.UTC().Add(p.offset)
		ends := !p.end.IsZero() && p.end.Before(newest)
		if ends {
			end = p.end.UTC().Add(p.offset)
		}
		if clock, ok := t.earliest(first, end); ok {
			return p.occurs(clock), true
		}
		if !ends {
			return occurrence{}, false
		}
		first = p.end.UTC().Add(min(p.offset, p.after))
		p = periodAt(p.end)
	}
}

const day = 24 * time.Hour

// latest returns the latest of the times that a clock shows from first on and before end, both as UTC.
func (t Times) latest(first, end time.Time) (clock time.Time, ok bool) {
	for d := end.Add(-1).Truncate(day); d.After(first.Add(-day)); d = d.Add(-day) {
		if !t.onDay(d) {
			continue
		}
		for minute := 24*60 - 1; minute >= 0; minute-- {
			if !t.atMinute(minute) {
				continue
			}
			if clock = d.Add(time.Duration(minute) * time.Minute); clock.Before(end) {
				return clock, !clock.Before(first)
			}
		}
	}
	return clock, false
}

// earliest returns the earliest of them.
func (t Times) earliest(first, end time.Time) (clock time.Time, ok bool) {
	for d := first.Truncate(day); d.Before(end); d = d.Add(day) {
		if !t.onDay(d) {
			continue
		}
		for minute := range 24 * 60 {
			if !t.atMinute(minute) {
				continue
			}
			if clock = d.Add(time.Duration(minute) * time.Minute); !clock.Before(first) {
				return clock, clock.Before(end)
			}
		}
	}
	return clock, false
}

func (t Times) atMinute(minute int) bool {
	return t.spec.Hour>>(minute/60)&1 == 1 && t.spec.Minute>>(minute%60)&1 == 1
}

// anyDay is how the library marks a field for the day that is a star.
const anyDay = 1 << 63

// onDay says whether there are times on a day: when both the day of the month and the weekday are restricted, one of them
// is enough, as cron has it.
func (t Times) onDay(d time.Time) bool {
	if t.spec.Month>>d.Month()&1 == 0 {
		return false
	}
	inMonth, inWeek := t.spec.Dom>>d.Day()&1 == 1, t.spec.Dow>>d.Weekday()&1 == 1
	if t.spec.Dom&anyDay != 0 || t.spec.Dow&anyDay != 0 {
		return inMonth && inWeek
	}
	return inMonth || inWeek
}

package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule is a list of floors: at least so many pods between two recurring times. It is immutable.
type Schedule []Floor

// Floor keeps at least Pods pods from each time that From gives until the next one that To gives: a time that is both
// begins anew.
type Floor struct {
	Pods     int
	From, To Times
}

// scheduleForm is what a schedule looks like.
const scheduleForm = `"PODS from CRON to CRON [in ZONE]", several divided by ";", such as ` +
	`"3 from 0 8 * * 1-5 to 0 18 * * 1-5 in Europe/Berlin"`

// ParseSchedule reads floors, each written as "PODS from CRON to CRON [in ZONE]" and divided by ";". CRON is five
// fields or a word such as @daily, ZONE a name of the time zone database; without it the process's zone counts,
// which is UTC in our images. A program that reads schedules imports time/tzdata: images have no database of their own.
func ParseSchedule(text string) (Schedule, error) {
	var s Schedule
	for part := range strings.SplitSeq(text, ";") {
		f, err := parseFloor(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		s = append(s, f)
	}
	return s, nil
}

func parseFloor(text string) (Floor, error) {
	pods, times, ok1 := strings.Cut(text, " from ")
	from, to, ok2 := strings.Cut(times, " to ")
	if !ok1 || !ok2 {
		return Floor{}, fmt.Errorf("%q does not say from when to when", text)
	}
	to, zone, zoned := strings.Cut(to, " in ")
	if zoned {
		if _, err := time.LoadLocation(zone); err != nil {
			return Floor{}, fmt.Errorf("%q is no time zone that is known here, write it like Europe/Berlin or UTC", zone)
		}
		zone = "CRON_TZ=" + zone + " "
	}
	n, err := strconv.ParseInt(pods, 10, 32)
	if err != nil || n < 1 {
		return Floor{}, fmt.Errorf("%q is not a number of pods of at least 1", pods)
	}
	f := Floor{Pods: int(n)}
	for _, c := range []struct {
		spec string
		into *Times
	}{{from, &f.From}, {to, &f.To}} {
		if strings.Contains(c.spec, "TZ=") || strings.HasPrefix(c.spec, "@every") {
			return Floor{}, fmt.Errorf("%q is no time of day: write five cron fields, and the zone after \" in \"", c.spec)
		}
		parsed, err := cron.ParseStandard(zone + c.spec)
		if err != nil {
			return Floor{}, fmt.Errorf("%q: %w", c.spec, err)
		}
		spec, ok := parsed.(*cron.SpecSchedule)
		if !ok {
			return Floor{}, fmt.Errorf("%q is no time of day: write five cron fields", c.spec)
		}
		*c.into = Times{spec}
	}
	return f, nil
}

// At returns the largest floor at a time, 0 when there is none, and until when that certainly holds. It takes some
// microseconds, and more for times that are months apart: who asks often keeps the answer.
func (s Schedule) At(now time.Time) (pods int, until time.Time) {
	until = now.Add(24 * time.Hour)
	for _, f := range s {
		for _, times := range []Times{f.From, f.To} {
			if next, ok := times.next(now); ok && next.at.Before(until) {
				until = next.at.In(now.Location())
			}
		}
		if f.on(now) {
			pods = max(pods, f.Pods)
		}
	}
	return pods, until
}

// on says whether the floor has begun and not ended since.
func (f Floor) on(now time.Time) bool {
	from, begun := f.From.last(now)
	to, ended := f.To.last(now)
	return begun && (!ended || !from.before(to))
}

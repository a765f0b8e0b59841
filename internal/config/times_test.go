package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// inZone returns a time as a clock of a zone shows it; of two that look the same the first.
func inZone(t testing.TB, zone, text string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation("2006-01-02 15:04", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	if first := at.Add(-time.Hour); first.Format("2006-01-02 15:04") == text {
		return first
	}
	return at
}

// TestWhenClocksChange: a floor is there as on any other night, also when it begins or ends at a time that there is not,
// and floors may begin again before they end.
func TestWhenClocksChange(t *testing.T) {
	const berlin, apia = "Europe/Berlin", "Pacific/Apia"
	for _, tc := range []struct {
		schedule, zone, now string
		want                int
		until               string
	}{
		// Clocks go forward on Sunday, 2026-03-29: there is no 02:30.
		{"3 from 0 20 * * * to 30 2 * * *", berlin, "2026-03-27 21:00", 3, "2026-03-28 02:30"},
		{"3 from 0 20 * * * to 30 2 * * *", berlin, "2026-03-28 21:00", 3, "2026-03-29 03:00"},
		{"3 from 0 20 * * * to 30 2 * * *", berlin, "2026-03-29 01:00", 3, "2026-03-29 03:00"},
		{"3 from 0 20 * * * to 30 2 * * *", berlin, "2026-03-29 03:00", 0, "2026-03-29 20:00"},
		{"3 from 30 2 * * * to 0 18 * * *", berlin, "2026-03-28 19:00", 0, "2026-03-29 03:00"},
		{"3 from 30 2 * * * to 0 18 * * *", berlin, "2026-03-29 01:00", 0, "2026-03-29 03:00"},
		{"3 from 30 2 * * * to 0 18 * * *", berlin, "2026-03-29 03:00", 3, "2026-03-29 18:00"},
		{"3 from 15 2 * * * to 45 2 * * *", berlin, "2026-03-29 03:00", 0, "2026-03-30 02:15"}, // all of it is skipped
		{"3 from 45 2 * * * to 15 2 * * *", berlin, "2026-03-29 03:00", 3, "2026-03-30 02:15"},
		{"3 from 30 2 * * 0 to 0 4 * * 0", berlin, "2026-03-29 03:30", 3, "2026-03-29 04:00"},
		// Clocks go back on Sunday, 2026-10-25: 02:30 is there twice.
		{"3 from 0 20 * * * to 30 2 * * *", berlin, "2026-10-25 02:29", 3, "2026-10-25 02:30"},
		{"3 from 0 20 * * * to 30 2 * * *", berlin, "2026-10-25 03:00", 0, "2026-10-25 20:00"},
		{"3 from 30 2 * * * to 0 18 * * *", berlin, "2026-10-25 03:00", 3, "2026-10-25 18:00"},
		// There was no 2011-12-30 on Samoa.
		{"3 from 0 8 * * * to 0 18 * * *", apia, "2011-12-29 19:00", 0, "2011-12-31 00:00"},
		{"3 from 0 8 * * * to 0 18 * * *", apia, "2011-12-31 07:00", 0, "2011-12-31 08:00"},
		{"3 from 0 8 30 12 * to 0 18 31 12 *", apia, "2011-12-31 07:00", 3, "2011-12-31 18:00"},
		// It begins anew before it has ended.
		{"3 from 0 8 * * 1-5 to 0 18 * * 5", berlin, "2026-06-08 07:00", 0, "2026-06-08 08:00"},
		{"3 from 0 8 * * 1-5 to 0 18 * * 5", berlin, "2026-06-09 09:00", 3, ""},
		{"3 from 0 8 * * 1-5 to 0 18 * * 5", berlin, "2026-06-12 09:00", 3, "2026-06-12 18:00"},
		{"3 from 0 8 * * 1-5 to 0 18 * * 5", berlin, "2026-06-12 18:00", 0, ""},
		{"3 from 0 0 * * * to 0 0 * * 1", berlin, "2026-06-08 09:00", 3, ""},
		// They are far apart, or never there.
		{"3 from 0 8 29 2 * to 0 8 1 3 *", "UTC", "2100-06-01 00:00", 0, ""},
		{"3 from 0 8 29 2 * to 0 8 29 3 *", "UTC", "2028-03-20 00:00", 3, ""},
		{"3 from 0 8 1 3 * to 0 8 29 2 *", "UTC", "2103-03-02 00:00", 3, ""},
		{"3 from 0 8 31 2 * to 0 18 31 2 *", "UTC", "2026-06-01 00:00", 0, ""},
		{"3 from 0 8 1 6 * to 0 8 31 2 *", "UTC", "2026-05-01 00:00", 3, ""},
		// The day of the month or the weekday.
		{"3 from 0 8 15 * 1 to 0 18 * * *", "UTC", "2026-06-15 09:00", 3, "2026-06-15 18:00"},
		{"3 from 0 8 16 * 1 to 0 18 * * *", "UTC", "2026-06-15 09:00", 3, "2026-06-15 18:00"},
		{"3 from 0 8 16 * 1 to 0 18 * * *", "UTC", "2026-06-17 09:00", 0, "2026-06-17 18:00"},
	} {
		s, err := ParseSchedule(tc.schedule + " in " + tc.zone)
		if err != nil {
			t.Fatal(err)
		}
		now := inZone(t, tc.zone, tc.now)
		until := now.Add(24 * time.Hour)
		if tc.until != "" {
			until = inZone(t, tc.zone, tc.until)
		}
		pods, got := s.At(now.UTC())
		if tc.until == "" {
			until = got
		}
		if pods != tc.want || !got.Equal(until) {
			t.Errorf("%s, in %s at %s: %d pods until %s, want %d until %s", tc.schedule, tc.zone, tc.now, pods, got.In(now.Location()), tc.want, until)
		}
	}
}

// fields are the times of a cron expression whose day is a weekday or any.
type fields struct{ minutes, hours, weekdays []int }

func drawFields(t *rapid.T, name string) fields {
	some := func(field string, least, most int) []int {
		all := rapid.SliceOfNDistinct(rapid.IntRange(0, most), least, max(least, 3), rapid.ID[int]).Draw(t, name+" "+field)
		slices.Sort(all)
		return all
	}
	f := fields{some("minutes", 1, 59), some("hours", 0, 23), some("weekdays", 0, 6)}
	if near := rapid.IntRange(-1, 3).Draw(t, name+" at night"); near >= 0 { // where clocks change
		f.hours = []int{near}
	}
	return f
}

func (f fields) String() string {
	field := func(all []int) string {
		if len(all) == 0 {
			return "*"
		}
		return strings.ReplaceAll(strings.Trim(fmt.Sprint(all), "[]"), " ", ",")
	}
	return field(f.minutes) + " " + field(f.hours) + " * * " + field(f.weekdays)
}

func (f fields) shown(clock time.Time) bool {
	in := func(all []int, n int) bool { return len(all) == 0 || slices.Contains(all, n) }
	return in(f.minutes, clock.Minute()) && in(f.hours, clock.Hour()) && in(f.weekdays, int(clock.Weekday()))
}

// slowFloor watches a clock minute by minute from long before now, and enters what it shows and what it skips.
func slowFloor(from, to fields, now time.Time) (on bool) {
	shows := func(at time.Time) time.Time {
		_, offset := at.Zone()
		return at.UTC().Add(time.Duration(offset) * time.Second)
	}
	at := now.Truncate(time.Minute).Add(-9 * 24 * time.Hour)
	for before := shows(at); !at.After(now); at = at.Add(time.Minute) {
		clock := shows(at)
		first := before.Add(time.Minute)
		if clock.Before(first) {
			first = clock // it was put back
		}
		for ; !first.After(clock); first = first.Add(time.Minute) {
			on = on && !to.shown(first) || from.shown(first)
		}
		before = clock
	}
	return on
}

// TestScheduleAgainstAClock: the floor is what somebody says who looks at the clock each minute, now and until it is said
// to change.
func TestScheduleAgainstAClock(t *testing.T) {
	// Each with a day near which its clocks change.
	changes := []struct{ zone, day string }{
		{"Europe/Berlin", "2026-03-29 00:00"}, {"Europe/Berlin", "2026-10-25 00:00"}, {"America/New_York", "2026-03-08 00:00"}, {"America/New_York", "2026-11-01 00:00"},
		{"Australia/Lord_Howe", "2026-04-05 00:00"}, {"Australia/Lord_Howe", "2026-10-04 00:00"}, {"Australia/Sydney", "2026-04-05 00:00"}, {"Australia/Sydney", "2026-10-04 00:00"},
		{"America/Sao_Paulo", "2018-11-04 12:00"}, {"America/Sao_Paulo", "2018-02-18 00:00"}, {"Pacific/Apia", "2011-12-29 12:00"}, {"Asia/Kolkata", "2026-06-01 00:00"},
	}
	rapid.Check(t, func(rt *rapid.T) {
		where := rapid.SampledFrom(changes).Draw(rt, "change")
		from, to := drawFields(rt, "from"), drawFields(rt, "to")
		text := fmt.Sprintf("1 from %s to %s in %s", from, to, where.zone)
		s, err := ParseSchedule(text)
		if err != nil {
			rt.Fatal(err)
		}
		now := inZone(t, where.zone, where.day).Add(time.Duration(rapid.IntRange(-36*3600, 72*3600).Draw(rt, "second")) * time.Second)
		pods, until := s.At(now)
		if !until.After(now) || until.After(now.Add(24*time.Hour)) {
			rt.Fatalf("%s at %s: until %s", text, now, until)
		}
		for at := now; at.Before(until); at = at.Add(max(until.Sub(now)/2, time.Minute)) {
			if on := slowFloor(from, to, at); on != (pods == 1) {
				rt.Fatalf("%s at %s: %d pods until %s, by the clock at %s on: %t", text, now, pods, until, at, on)
			}
		}
		if before := until.Add(-1); slowFloor(from, to, before) != (pods == 1) {
			rt.Fatalf("%s at %s: %d pods, which ends before %s", text, now, pods, until)
		}
	})
}

func BenchmarkScheduleAt(b *testing.B) {
	for name, text := range map[string]string{
		"weekdays": "3 from 0 8 * * 1-5 to 0 18 * * 1-5 in Europe/Berlin", "leap days": "3 from 0 8 29 2 * to 0 8 1 3 * in Europe/Berlin",
		"never": "3 from 0 8 31 2 * to 0 18 31 2 * in Europe/Berlin",
	} {
		b.Run(name, func(b *testing.B) {
			s, err := ParseSchedule(text)
			if err != nil {
				b.Fatal(err)
			}
			now := inZone(b, "Europe/Berlin", "2026-06-13 12:34")
			b.ReportAllocs()
			for b.Loop() {
				s.At(now)
			}
		})
	}
}

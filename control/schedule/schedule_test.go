package schedule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/control/schedule"
)

var office = schedule.Window{Timezone: "Europe/Paris", Start: "30 8 * * 1-5", End: "0 18 * * 1-5", Desired: "5"}

func parse(t testing.TB, windows ...schedule.Window) *schedule.Schedule {
	t.Helper()
	s, err := schedule.Parse(windows...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func instant(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestFloor(t *testing.T) {
	lunch := schedule.Window{Timezone: "UTC", Start: "0 11 * * *", End: "0 13 * * *", Desired: "8"}
	night := schedule.Window{Timezone: "UTC", Start: "0 22 * * *", End: "0 6 * * *", Desired: "2"}
	s := parse(t, office, lunch, night)
	for _, c := range []struct {
		at    string
		want  int
		until string
	}{
		{"2026-03-02T07:29:59Z", 0, "2026-03-02T07:30:00Z"}, // Monday, winter: 8:29:59 in Paris
		{"2026-03-02T07:30:00Z", 5, "2026-03-02T11:00:00Z"},
		{"2026-03-02T12:00:00Z", 8, "2026-03-02T13:00:00Z"}, // the larger of two open windows
		{"2026-03-02T13:00:00Z", 5, "2026-03-02T17:00:00Z"},
		{"2026-03-02T17:00:00Z", 0, "2026-03-02T22:00:00Z"},
		{"2026-03-02T23:00:00Z", 2, "2026-03-03T06:00:00Z"}, // across midnight
		{"2026-03-07T09:00:00Z", 0, "2026-03-07T11:00:00Z"}, // Saturday
		{"2026-07-06T06:30:00Z", 5, "2026-07-06T11:00:00Z"}, // summer time: 8:30 in Paris
	} {
		got, until := s.Floor(instant(t, c.at))
		if got != c.want || !until.Equal(instant(t, c.until)) {
			t.Errorf("Floor(%s) = %d until %v, want %d until %s", c.at, got, until.UTC(), c.want, c.until)
		}
	}
}

func TestNoScheduleIsNoFloor(t *testing.T) {
	var none *schedule.Schedule
	for _, s := range []*schedule.Schedule{none, parse(t)} {
		if pods, until := s.Floor(time.Unix(0, 0)); pods != 0 || !until.IsZero() {
			t.Errorf("Floor = %d until %v, want 0 for ever", pods, until)
		}
	}
}

func TestFaultsAreAllNamed(t *testing.T) {
	_, err := schedule.Parse(office, schedule.Window{Timezone: "Mars/Base", Start: "soon", End: "61 * * * *", Desired: "-1"},
		schedule.Window{Timezone: "UTC", Start: "0 1 * * *", End: "0 1 * * *", Desired: "many"},
		schedule.Window{Start: "TZ=UTC 0 1 * * *", End: "0 2 * * *", Desired: "1"})
	if err == nil {
		t.Fatal("Parse of bad windows = nil")
	}
	for _, want := range []string{
		`schedule 2: timezone "Mars/Base"`, `start "soon"`, `end "61 * * * *"`, `desiredReplicas "-1"`,
		`schedule 3: end "0 1 * * *": allowed is another`, `desiredReplicas "many"`, `schedule 4: timezone ""`, `start "TZ=UTC`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

// TestFloorHoldsUntilItSays: between an instant and what Floor returns with it, the floor is the same.
func TestFloorHoldsUntilItSays(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		hour := rapid.IntRange(0, 23)
		window := func(name string) schedule.Window {
			a, b := hour.Draw(r, name+"a"), hour.Draw(r, name+"b")
			return schedule.Window{
				Timezone: rapid.SampledFrom([]string{"UTC", "Europe/Paris", "America/New_York"}).Draw(r, name+"zone"),
				Start:    fmt.Sprintf("15 %d * * *", a), End: fmt.Sprintf("45 %d * * *", b),
				Desired: fmt.Sprint(rapid.IntRange(0, 9).Draw(r, name+"pods")),
			}
		}
		s, err := schedule.Parse(window("first"), window("second"))
		if err != nil {
			r.Fatal(err)
		}
		now := time.Unix(1_600_000_000+rapid.Int64Range(0, 4*365*86400).Draw(r, "at"), 0)
		pods, until := s.Floor(now)
		if !until.After(now) {
			r.Fatalf("Floor(%v) holds until %v", now, until)
		}
		between := now.Add(time.Duration(rapid.Int64Range(0, int64(until.Sub(now))-1).Draw(r, "between")))
		if got, _ := s.Floor(between); got != pods {
			r.Fatalf("Floor(%v) = %d until %v, but %d at %v", now, pods, until, got, between)
		}
	})
}

func BenchmarkFloor(b *testing.B) {
	s := parse(b, office)
	now := time.Unix(1_600_000_000, 0)
	b.ReportAllocs()
	for b.Loop() {
		s.Floor(now)
	}
}

func ExampleSchedule_Floor() {
	s, err := schedule.Parse(schedule.Window{Timezone: "UTC", Start: "0 8 * * 1-5", End: "0 18 * * 1-5", Desired: "3"})
	if err != nil {
		fmt.Println(err)
		return
	}
	pods, until := s.Floor(time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC))
	fmt.Println(pods, "until", until.Format("15:04"))
	// Output: 3 until 18:00
}

package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/control/kpa"
)

func TestSchedule(t *testing.T) {
	s, err := ParseSchedule("3 from 0 8 * * 1-5 to 0 18 * * 1-5 in Europe/Berlin; 5 from 0 12 * * * to 0 13 * * * in Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 6, day, hour, minute, 0, 0, berlin) } // the 1st is a Monday
	tests := []struct {
		now   time.Time
		pods  int
		until time.Time
	}{
		{at(1, 7, 59), 0, at(1, 8, 0)},
		{at(1, 8, 0), 3, at(1, 12, 0)},
		{at(1, 12, 30), 5, at(1, 13, 0)},
		{at(1, 18, 0), 0, at(2, 8, 0)},
		{at(6, 12, 0), 5, at(6, 13, 0)},
		{at(6, 14, 0), 0, at(7, 12, 0)},
	}
	for _, tt := range tests {
		pods, until := s.At(tt.now.UTC())
		if pods != tt.pods || !until.Equal(tt.until) {
			t.Errorf("At(%s) = %d until %s, want %d until %s", tt.now, pods, until.In(berlin), tt.pods, tt.until)
		}
	}
}

func TestScheduleRefusesNonsense(t *testing.T) {
	for _, text := range []string{"", "3", "3 from x to y", "0 from 0 8 * * * to 0 9 * * *", "3 from 0 8 * * * to", "3 from 0 8 * * * to 0 9 * * * in Nowhere/Land", "3 from @every 1h to @every 2h", "3 from TZ=x 0 8 * * * to 0 9 * * *"} {
		if s, err := ParseSchedule(text); err == nil {
			t.Errorf("ParseSchedule(%q) = %v", text, s)
		}
		_, faults := Resolve(Input{ID: hello, Annotations: map[string]string{PrefixRouse + "schedule": text}})
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), "PODS from CRON to CRON") {
			t.Errorf("annotation %q: faults %v", text, faults)
		}
	}
}

// TestFaultsSayWhatTheParserSays: the form alone misleads who has misspelt one word of it.
func TestFaultsSayWhatTheParserSays(t *testing.T) {
	for _, tc := range []struct{ key, value, want string }{
		{"schedule", "3 from 0 8 * * 1-5 to 0 18 * * 1-5 in Europe/Berln", `"Europe/Berln" is no time zone that is known here`},
		{"schedule", "3 from 0 8 * * 9 to 0 18 * * 1-5 in UTC", `"0 8 * * 9": `},
		{"schedule", "three from 0 8 * * * to 0 18 * * *", `"three" is not a number of pods`},
		{"metrics", "rps=50, rps=60", "rps is there twice"},
		{"metrics", "concurrency=5", "concurrency is the metric that autoscaling.knative.dev/metric names"},
	} {
		_, faults := Resolve(Input{ID: hello, Annotations: map[string]string{PrefixRouse + tc.key: tc.value}})
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), tc.want) || !strings.Contains(faults[0].Error(), "must be") {
			t.Errorf("%s = %q: faults %v, want one that says %q and what is allowed", tc.key, tc.value, faults, tc.want)
		}
	}
}

func TestFurtherMetrics(t *testing.T) {
	rev, faults := Resolve(Input{ID: hello, Annotations: map[string]string{PrefixRouse + "metrics": "rps=50, cpu=500m,memory=256Mi"}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	want := []kpa.Target{
		{Metric: kpa.Concurrency, Value: 70, Total: 100}, {Metric: kpa.RPS, Value: 50, Total: 50},
		{Metric: kpa.CPU, Value: 0.5, Total: 0.5}, {Metric: kpa.Memory, Value: 256 << 20, Total: 256 << 20},
	}
	if d := cmp.Diff(want, rev.Policy().Targets); d != "" {
		t.Errorf("targets (-want +got):\n%s", d)
	}
	for _, text := range []string{"", "rps", "rps=0", "rps=x", "rps=1,rps=2", "speed=3", "concurrency=5", "cpu=NaN", "lag=Inf"} {
		if _, faults := Resolve(Input{ID: hello, Annotations: map[string]string{PrefixRouse + "metrics": text}}); len(faults) != 1 {
			t.Errorf("metrics %q: faults %v, want one", text, faults)
		}
	}
}

func TestResourceMetrics(t *testing.T) {
	tests := []struct {
		metric, target string
		want           kpa.Target
	}{
		{"cpu", "", kpa.Target{Metric: kpa.CPU, Value: 0.8, Total: 0.8}},
		{"cpu", "50", kpa.Target{Metric: kpa.CPU, Value: 0.5, Total: 0.5}},
		{"memory", "64", kpa.Target{Metric: kpa.Memory, Value: 64 << 20, Total: 64 << 20}},
	}
	for _, tt := range tests {
		a := map[string]string{PrefixAutoscaling + "class": ClassHPA, PrefixAutoscaling + "metric": tt.metric}
		if tt.target != "" {
			a[PrefixAutoscaling+"target"] = tt.target
		}
		rev, faults := Resolve(Input{ID: hello, Annotations: a})
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		if d := cmp.Diff([]kpa.Target{tt.want}, rev.Policy().Targets); d != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.metric, tt.target, d)
		}
	}
}

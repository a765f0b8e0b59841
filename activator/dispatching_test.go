package activator

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/internal/config"
)

// TestAnnotationsReachTheDispatcher takes annotations all the way to settings.
func TestAnnotationsReachTheDispatcher(t *testing.T) {
	rev, faults := config.Resolve(config.Input{Annotations: map[string]string{
		"rouse.dev/session-affinity": "set-cookie=pin; Path=/",
		"rouse.dev/zone-preference":  "same-zone, spill=2",
		"rouse.dev/outlier-ejection": "failures=3, first=1s",
		"rouse.dev/pod-probe":        "http=/ready",
	}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var got Settings
	got.Choose(rev.Dispatching())
	want := Settings{
		Affinity: Affinity{By: ByOwnCookie, Name: "pin", Attributes: "; Path=/"},
		Zone:     ZonePreference{On: true, Spill: 2},
		Outlier:  Outlier{Failures: 3, First: time.Second, Most: 5 * time.Minute, Share: 0.5},
		Probe:    Probe{By: HTTPProbe, Path: "/ready"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

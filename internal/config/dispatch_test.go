package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDispatchingAnnotations reads what is allowed, and names key, value and what is allowed for the rest.
func TestDispatchingAnnotations(t *testing.T) {
	outlier := Outlier{Failures: 5, First: 10 * time.Second, Most: 5 * time.Minute, Share: 0.5}
	few := outlier
	few.Failures, few.First, few.Share = 3, time.Second, 0.25
	for _, c := range []struct {
		key, value string
		want       Dispatching
		ok         bool
	}{
		{"session-affinity", "off", Dispatching{}, true},
		{"session-affinity", "cookie=JSESSIONID", Dispatching{Affinity: Affinity{By: "cookie", Name: "JSESSIONID"}}, true},
		{"session-affinity", "header=X-User", Dispatching{Affinity: Affinity{By: "header", Name: "X-User"}}, true},
		{"session-affinity", "set-cookie=pin; Path=/; max-age=60; SameSite=Lax", Dispatching{Affinity: Affinity{By: "set-cookie", Name: "pin", Attributes: "; Path=/; max-age=60; SameSite=Lax"}}, true},
		{"session-affinity", "cookie=a b", Dispatching{}, false},
		{"session-affinity", "cookie=", Dispatching{}, false},
		{"session-affinity", "cookie=a; Path=/", Dispatching{}, false},
		{"session-affinity", "set-cookie=a; Path=x", Dispatching{}, false},
		{"session-affinity", "set-cookie=a; Evil\r\nX=1", Dispatching{}, false},
		{"session-affinity", "ip", Dispatching{}, false},
		{"zone-preference", "off", Dispatching{}, true},
		{"zone-preference", "same-zone", Dispatching{Zone: ZonePreference{On: true}}, true},
		{"zone-preference", "same-zone, spill=1.5", Dispatching{Zone: ZonePreference{On: true, Spill: 1.5}}, true},
		{"zone-preference", "same-zone, spill=0.5", Dispatching{}, false},
		{"zone-preference", "same-zone, spill=NaN", Dispatching{}, false},
		{"zone-preference", "zone", Dispatching{}, false},
		{"outlier-ejection", "off", Dispatching{}, true},
		{"outlier-ejection", "on", Dispatching{Outlier: outlier}, true},
		{"outlier-ejection", "failures=3, first=1s, share=25%", Dispatching{Outlier: few}, true},
		{"outlier-ejection", "failures=0", Dispatching{}, false},
		{"outlier-ejection", "first=10s, most=1s", Dispatching{}, false},
		{"outlier-ejection", "share=0.5", Dispatching{}, false},
		{"outlier-ejection", "fails=3", Dispatching{}, false},
		{"pod-probe", "queue", Dispatching{Probe: PodProbe{By: "queue"}}, true},
		{"pod-probe", "tcp", Dispatching{Probe: PodProbe{By: "tcp"}}, true},
		{"pod-probe", "http=/ready?full=1", Dispatching{Probe: PodProbe{By: "http", Path: "/ready?full=1"}}, true},
		{"pod-probe", "http=ready", Dispatching{}, false},
		{"pod-probe", "grpc", Dispatching{}, false},
	} {
		rev, faults := Resolve(Input{Annotations: map[string]string{PrefixRouse + c.key: c.value}})
		if !c.ok {
			if len(faults) != 1 || faults[0].Key != PrefixRouse+c.key || !strings.Contains(faults[0].Error(), "must be") {
				t.Errorf("%s = %q: faults %v, want one that names the key and what is allowed", c.key, c.value, faults)
			}
			continue
		}
		if len(faults) > 0 {
			t.Errorf("%s = %q: %v", c.key, c.value, faults)
			continue
		}
		if diff := cmp.Diff(c.want, rev.Dispatching()); diff != "" {
			t.Errorf("%s = %q (-want +got):\n%s", c.key, c.value, diff)
		}
	}
}

// TestDispatchingByDefault: nothing is on, each value has an origin, and a flag wins.
func TestDispatchingByDefault(t *testing.T) {
	rev, faults := Resolve(Input{})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if diff := cmp.Diff(Dispatching{}, rev.Dispatching()); diff != "" || rev.PodProbe.Origin == nil {
		t.Errorf("default (-nothing +got), origin %v:\n%s", rev.PodProbe.Origin, diff)
	}
	rev, faults = Resolve(Input{Annotations: map[string]string{PrefixRouse + "outlier-ejection": "on"},
		Above: Layers{Flags: map[string]string{"outlier-ejection": "off"}}})
	if len(faults) > 0 || rev.Dispatching().Outlier.Failures != 0 || rev.OutlierEjection.Source != Flag {
		t.Errorf("a flag over an annotation: %+v by %v, %v; want off by the flag", rev.Dispatching().Outlier, rev.OutlierEjection.Origin, faults)
	}
	if !Live("session-affinity") || !LiveAnnotation(PrefixRouse+"pod-probe") {
		t.Error("a change needs a new revision, want it live")
	}
}

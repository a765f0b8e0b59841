package kube

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTableOrder: what the watch brings, and what our own writes were answered, may come in any order.
func TestTableOrder(t *testing.T) {
	k := key{"default", "s"}
	object := func(version string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s", ResourceVersion: version,
			Labels: map[string]string{discoveryv1.LabelServiceName: "hello", discoveryv1.LabelManagedBy: managedBy}}}
	}
	type step struct {
		what string // own, drop, event, gone or list
		arg  string // a version; of a list also of the object in it, if any
	}
	for name, tc := range map[string]struct {
		steps []step
		want  string // the version that is known in the end; empty for none
	}{
		"an event of before our write":               {[]step{{"event", "5"}, {"own", "7"}, {"event", "6"}}, "7"},
		"an event of after it":                       {[]step{{"own", "7"}, {"event", "8"}}, "8"},
		"a list of before it":                        {[]step{{"own", "7"}, {"list", "6 5"}}, "7"},
		"a list of before it was there":              {[]step{{"own", "7"}, {"list", "6"}}, "7"},
		"a list of after it went":                    {[]step{{"own", "7"}, {"list", "8"}}, ""},
		"an event of before our deletion":            {[]step{{"own", "7"}, {"drop", "7"}, {"event", "6"}}, ""},
		"the last event of before our deletion":      {[]step{{"own", "7"}, {"drop", "7"}, {"event", "7"}}, ""},
		"a list of before our deletion":              {[]step{{"own", "7"}, {"drop", "7"}, {"list", "7 7"}}, ""},
		"a list of before it, and its last event":    {[]step{{"own", "7"}, {"drop", "7"}, {"list", "6 5"}, {"event", "7"}}, ""},
		"a list of before it all, and its events":    {[]step{{"own", "7"}, {"drop", "7"}, {"list", "4"}, {"event", "5"}}, ""},
		"made anew by another":                       {[]step{{"own", "7"}, {"drop", "7"}, {"event", "9"}}, "9"},
		"made anew by us":                            {[]step{{"own", "7"}, {"drop", "7"}, {"own", "9"}}, "9"},
		"made anew by us, and the former one's end":  {[]step{{"own", "7"}, {"drop", "7"}, {"own", "9"}, {"gone", "8"}}, "9"},
		"twice, and the former one's end":            {[]step{{"own", "7"}, {"drop", "7"}, {"own", "9"}, {"drop", "9"}, {"gone", "8"}, {"event", "9"}}, ""},
		"gone, and made anew":                        {[]step{{"own", "7"}, {"drop", "7"}, {"gone", "8"}, {"event", "9"}}, "9"},
		"a backup was put back":                      {[]step{{"event", "1000"}, {"list", "510 500"}}, "500"},
		"a backup was put back, and an event":        {[]step{{"event", "1000"}, {"list", "510 500"}, {"event", "511"}}, "511"},
		"a backup without it":                        {[]step{{"event", "1000"}, {"list", "510"}}, ""},
		"a backup of before our deletion":            {[]step{{"list", "1000 999"}, {"drop", "999"}, {"list", "510 500"}}, "500"},
		"a backup of before our deletion, and later": {[]step{{"list", "1000 999"}, {"drop", "999"}, {"list", "510"}, {"event", "511"}}, "511"},
	} {
		r := newRig(t)
		for _, s := range tc.steps {
			switch s.what {
			case "own":
				r.slices.put(k, sliceOf(object(s.arg)))
			case "drop":
				r.slices.drop(k, s.arg)
			case "event":
				_ = r.slices.Update(object(s.arg))
			case "gone":
				_ = r.slices.Delete(object(s.arg))
			case "list":
				version, in, has := strings.Cut(s.arg, " ")
				var all []any
				if has {
					all = append(all, object(in))
				}
				_ = r.slices.Replace(all, version)
			}
		}
		got := ""
		if s := r.slices.get(k); s != nil {
			got = s.version
		}
		if got != tc.want {
			t.Errorf("%s: %v leave %q, want %q", name, tc.steps, got, tc.want)
		}
		ours, _ := r.slicesFor(key{"default", "hello"})
		if len(ours) != min(len(tc.want), 1) {
			t.Errorf("%s: %d slices of the Service, want what the table has", name, len(ours))
		}
	}
}

// TestDeletionsAreForgotten once the watch or a list has come as far.
func TestDeletionsAreForgotten(t *testing.T) {
	r := newRig(t)
	for i := range 100 {
		k := key{"default", fmt.Sprint("s", i)}
		s := &slice{service: key{"default", "hello"}, name: k.name, writer: managedBy, version: fmt.Sprint(10 + i)}
		r.slices.put(k, s)
		r.slices.drop(k, s.version)
		if i < 50 {
			_ = r.slices.Delete(&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: k.namespace, Name: k.name, ResourceVersion: "200"}})
		}
	}
	if n := len(r.slices.deleted); n != 50 {
		t.Errorf("%d deletions are remembered, want those 50 that the watch has not told of", n)
	}
	_ = r.slices.Replace(nil, "201")
	if n := len(r.slices.deleted); n != 0 {
		t.Errorf("%d deletions are remembered after a list of later", n)
	}
}

// TestIndexOfSlices: the watch and a writer change one slice at the same time, and their calls of sliceChanged come in the
// other order.
func TestIndexOfSlices(t *testing.T) {
	k, hello, other := key{"default", "s"}, key{"default", "hello"}, key{"default", "other"}
	at := func(version string, svc key) *slice {
		return &slice{service: svc, name: "s", version: version, writer: managedBy}
	}
	for name, states := range map[string][]*slice{
		"changed twice":            {at("10", hello), at("11", hello), at("12", hello)},
		"made and changed":         {nil, at("11", hello), at("12", hello)},
		"changed and deleted":      {at("10", hello), at("11", hello), nil},
		"made and deleted":         {nil, at("11", hello), nil},
		"given to another Service": {at("10", hello), at("11", hello), at("12", other)},
	} {
		r := newRig(t)
		var changes []func()
		r.slices.changed = func(k key, old, now *slice) {
			changes = append(changes, func() { r.Cluster.sliceChanged(k, old, now) })
		}
		for i, s := range states {
			if r.slices.put(k, s); i == 0 && s != nil {
				changes[0]()
				changes = nil
			}
		}
		slices.Reverse(changes)
		for _, c := range changes {
			c()
		}
		for _, svc := range []key{hello, other} {
			var want []*slice
			if s := r.slices.get(k); s != nil && s.service == svc {
				want = append(want, s)
			}
			if ours, _ := r.slicesFor(svc); !slices.Equal(ours, want) {
				t.Errorf("%s: slices of %s %v, want %v", name, svc, ours, want)
			}
		}
	}
}

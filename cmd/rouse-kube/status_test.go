package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/workload"
)

func TestReadStatus(t *testing.T) {
	f := healthy(t)
	r := &reach{namespace: "shop", system: "rouse-system"}
	rows, gaps, err := readStatus(t.Context(), f, r)
	owner := f.shares.Holders[control.Buckets{Count: 16}.Of(identity.Revision{Namespace: "shop", Name: "hello"})]
	want := []statusRow{{Namespace: "shop", Name: "hello", Kind: workload.Deployment, Mode: "activators", Service: "hello", Port: 20001, DecidedBy: owner}}
	if diff := cmp.Diff(want, rows); err != nil || errors.Join(gaps...) != nil || diff != "" {
		t.Errorf("%v %v %s", err, gaps, diff)
	}
	f.refuses["shares"], f.refuses["rouse-ports"], f.refuses["component"] = errors.New("no leases"), errors.New("no book"), errors.New("no control")
	f.shares, f.configMaps = kube.Shares{}, nil
	rows, gaps, err = readStatus(t.Context(), f, r)
	if all := errors.Join(gaps...); err != nil || len(rows) != 1 || rows[0].DecidedBy != "" || all == nil || strings.Count(all.Error(), "no ") != 3 {
		t.Errorf("with few rights: %+v, %v, %v", rows, gaps, err)
	}
	f.refuses["view"] = errors.New("no workloads")
	if _, _, err := readStatus(t.Context(), f, r); err == nil {
		t.Error("without a right to list workloads it goes on")
	}
}

func TestModeOf(t *testing.T) {
	ours := func(b string) string {
		return strings.NewReplacer("hello-0", "hello-"+b, "rouse.dev/backend: activators", "rouse.dev/backend: "+b).Replace(helloYAML[strings.LastIndex(helloYAML, "---"):])
	}
	foreign := strings.ReplaceAll(ours("x"), "control.rouse.dev", "kubernetes")
	base := helloYAML[:strings.LastIndex(helloYAML, "---")]
	for want, slices := range map[string]string{
		"": "", "pods": ours("pods"), "activators": ours("activators") + foreign, "pods+activators": ours("activators") + ours("pods"), "kubernetes": foreign,
	} {
		f := &fake{t: t, manifests: base + slices}
		v, _ := f.View(t.Context(), "", false)
		if got := modeOf(&v.Seen(config.DefaultAutoscaler())[0]); got != want {
			t.Errorf("modeOf = %q, want %q", got, want)
		}
	}
}

// TestStatusPage: the table once, then only lines in which something else than the age has changed.
func TestStatusPage(t *testing.T) {
	var out, errs strings.Builder
	now := time.Unix(1000, 0)
	rows := []statusRow{
		{Namespace: "shop", Name: "a", Kind: "Deployment", Ready: 1, Wanted: 2, Mode: "pods", Service: "a", Port: 20001, DecidedBy: "autoscaler-0", Created: now.Add(-time.Minute)},
		{Namespace: "shop", Name: "b", Kind: "StatefulSet", Created: now.Add(-72 * time.Hour), Problems: []problem{{Reason: "NoService"}, {Reason: "UnknownSettings"}}},
	}
	p := &statusPage{format: asText, errs: &errs}
	show := func() string {
		out.Reset()
		if err := p.show(&out, rows, []error{errors.New("no leases"), nil}, "namespace shop", now); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out.String()), " ")
	}
	head := "NAMESPACE NAME KIND READY/WANTED MODE SERVICE PORT-ON-ACTIVATORS DECIDED-BY AGE REASON"
	a := "shop a Deployment 1/2 pods a 20001 autoscaler-0 60s -"
	if got, want := show(), head+" "+a+" shop b StatefulSet 0/0 - - - - 3d NoService,UnknownSettings"; got != want {
		t.Errorf("at first %q, want %q", got, want)
	}
	if errs.String() != "rouse: some columns are not known: no leases\n" {
		t.Errorf("said %q", errs.String())
	}
	now = now.Add(time.Minute)
	if got := show(); got != "" {
		t.Errorf("unchanged: %q", got)
	}
	rows[0].Ready = 2
	if got, want := show(), "shop a Deployment 2/2 pods a 20001 autoscaler-0 2m -"; got != want {
		t.Errorf("changed: %q, want %q", got, want)
	}
	p = &statusPage{format: asJSON, errs: &errs}
	var back []statusRow
	if err := json.Unmarshal([]byte(show()), &back); err != nil || len(back) != 2 || back[1].Problems[0].Reason != "NoService" {
		t.Errorf("as JSON: %v, %+v", err, back)
	}
	if got := show(); got != "" {
		t.Errorf("unchanged as JSON: %q", got)
	}
	errs.Reset()
	p, rows = &statusPage{format: asText, errs: &errs}, nil
	if got := show(); got != "" || !strings.Contains(errs.String(), "no Deployment or StatefulSet is annotated in namespace shop") {
		t.Errorf("empty: %q, %q", got, errs.String())
	}
}

func TestAge(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": -time.Second, "119s": 119 * time.Second, "2m": 2 * time.Minute, "179m": 179 * time.Minute, "3h": 3 * time.Hour, "47h": 47 * time.Hour, "2d": 48 * time.Hour,
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %s, want %s", d, got, want)
		}
	}
}

// TestAgain: -w goes on over failures that pass, and ends with the context; the first try must succeed.
func TestAgain(t *testing.T) {
	fails := errors.New("fails")
	for _, tc := range []struct {
		name     string
		watch    bool
		outcomes []error // the context ends with the last; the last one repeats
		lasts    bool
		calls    int
		err      error
	}{
		{"once", false, []error{nil}, false, 1, nil},
		{"once, it fails", false, []error{fails}, false, 1, fails},
		{"watch, the first fails", true, []error{fails}, false, 1, fails},
		{"watch, one fails", true, []error{nil, fails, nil}, false, 3, nil},
		{"watch, it fails for good", true, []error{nil, fails}, true, 17, fails},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			calls := 0
			err := again(ctx, tc.watch, func(context.Context) error {
				calls++
				if calls >= len(tc.outcomes) && !tc.lasts {
					defer stop()
				}
				return tc.outcomes[min(calls, len(tc.outcomes))-1]
			})
			if !errors.Is(err, tc.err) || calls != tc.calls {
				t.Errorf("%s: %d calls, %v; want %d, %v", tc.name, calls, err, tc.calls, tc.err)
			}
		})
	}
}

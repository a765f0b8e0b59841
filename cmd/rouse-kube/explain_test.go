package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTop(t *testing.T) {
	all, err := explanations(t.Context(), healthy(t), "rouse-system", "shop", "")
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	want := topRow{Namespace: "shop", Name: "hello", Concurrency: 12.04, Rate: 3, Parked: 2, Ready: 1, Wanted: 4, Metric: "rps", Stable: 3, Panic: 4, Target: 70.5, DecidedBy: "autoscaler-1"}
	if diff := cmp.Diff(want, topRows(all)[0]); diff != "" {
		t.Error(diff)
	}
	var out strings.Builder
	if err := showTop(&out, asText, all); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if got, want := strings.Join(strings.Fields(lines[1]), " "), "shop hello 12 3 2 1/4 rps 3 4 70.5"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	if got, want := strings.Join(strings.Fields(lines[2]), " "), "shop other 0 0 0 0/0 - 0 0 -"; got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	out.Reset()
	var rows []topRow
	if err := showTop(&out, asJSON, all); err != nil || json.Unmarshal([]byte(out.String()), &rows) != nil || len(rows) != 2 {
		t.Errorf("as JSON: %v %s", err, out.String())
	}
}

func TestExplain(t *testing.T) {
	all, err := explanations(t.Context(), healthy(t), "rouse-system", "shop", "hello")
	if err != nil || len(all) != 1 || all[0].DecidedBy != "autoscaler-1" {
		t.Fatalf("%+v, %v; want what the owner says", all, err)
	}
	var out strings.Builder
	if err := showExplained(&out, asText, all); err != nil || !strings.HasPrefix(out.String(), "shop/hello (revision hello)\n  pods       1 ready, ") ||
		!strings.HasSuffix(out.String(), "  decided    by autoscaler-1: nobody asks\n") {
		t.Errorf("%v, %s", err, out.String())
	}
	out.Reset()
	if err := showExplained(&out, asJSON, nil); err != nil || out.String() != "[]\n" {
		t.Errorf("nothing as JSON: %v %q", err, out.String())
	}
}

func TestExplainCannot(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*fake)
		says   string
	}{
		{"not installed", func(f *fake) { f.components = nil }, "is Rouse installed there? See --system-namespace"},
		{"nobody is ready", func(f *fake) {
			for i := range f.components["autoscaler"].Instances {
				f.components["autoscaler"].Instances[i].Ready = false
			}
		}, "no instance of control is ready"},
		{"control can't be read", func(f *fake) { f.refuses["component"] = errors.New("refused") }, "refused"},
		{"a page is no JSON", func(f *fake) { f.pages["autoscaler-0:9090/explain"] = "hm" }, "what autoscaler-0 explains"},
		{"a page can't be read", func(f *fake) { f.refuses["page"] = errors.New("refused") }, "refused"},
	} {
		f := healthy(t)
		tc.change(f)
		if _, err := explanations(t.Context(), f, "rouse-system", "shop", ""); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.says)
		}
	}
}

func TestUnexplained(t *testing.T) {
	r := &reach{namespace: "shop"}
	f := healthy(t)
	for name, want := range map[string]string{"hello": "no instance of control decides about Deployment shop/hello", "nobody": "no annotated Deployment or StatefulSet has the name nobody in namespace shop"} {
		if err := unexplained(t.Context(), f, r, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	f.manifests = strings.Replace(helloYAML, "spec: {ports", "spec: {selector: {app: hello}, ports", 1)
	if err := unexplained(t.Context(), f, r, "hello"); err == nil || !strings.Contains(err.Error(), "is not in control: ServiceHasSelector: ") {
		t.Errorf("with a problem: %v", err)
	}
	f.refuses["view"] = errors.New("refused")
	if err := unexplained(t.Context(), f, r, "hello"); err == nil || err.Error() != "refused" {
		t.Errorf("when it can't be read: %v", err)
	}
}

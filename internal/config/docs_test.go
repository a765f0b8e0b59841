package config

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// row is a line of a table of docs/settings.md: default, allowed, live.
type row [3]string

// documented reads the tables of a section: their rows by the text of the first cell, which is one or more names.
func documented(t *testing.T, section string) map[string]row {
	t.Helper()
	page, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/settings.md has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	rows := make(map[string]row)
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(line, "|")
		if len(cells) != 7 {
			t.Fatalf("docs/settings.md, %s: want five cells: %s", section, line)
		}
		rows[strings.TrimSpace(cells[1])] = row{strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3]), strings.TrimSpace(cells[4])}
	}
	return rows
}

// refusable is no good value of anything: neither number, nor duration, nor one of the words.
const refusable = "no.knative.dev"

// allowedBy is what the one fault of a bad value says; without a fault anything goes.
func allowedBy(t *testing.T, key string, faults []Fault) string {
	t.Helper()
	switch len(faults) {
	case 0:
		return "any text"
	case 1:
		return strings.NewReplacer("h0m0s", "h", "weightedExponential, ", "weightedExponential").Replace(faults[0].Allowed)
	}
	t.Fatalf("%s: one bad value, several faults: %v", key, faults)
	return ""
}

// defaults are the built-in values by key, out of what nobody has set.
func defaults(t *testing.T) map[string]any {
	t.Helper()
	rev, faults := Resolve(Input{})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	out := make(map[string]any)
	for _, of := range []any{DefaultAutoscaler(), *rev, rev.Scaling} {
		v := reflect.ValueOf(of)
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.Struct && f.FieldByName("Origin").IsValid() {
				out[f.FieldByName("Origin").Interface().(*Origin).Key] = f.FieldByName("V").Interface()
			}
		}
	}
	return out
}

// judge compares a row with the code. A default that is a time may be written in any unit, and none stands for nothing.
func judge(t *testing.T, name string, rows map[string]row, fallback any, allowed string, live bool) {
	t.Helper()
	r, ok := rows[name]
	if !ok {
		t.Errorf("docs/settings.md lacks the row of %s", name)
		return
	}
	delete(rows, name)
	want := row{fmt.Sprint(fallback), allowed, map[bool]string{true: "yes", false: "no"}[live]}
	if d, err := time.ParseDuration(r[0]); err == nil && fallback == d {
		want[0] = r[0]
	}
	if fallback == "" {
		want[0] = "none"
	}
	if r != want {
		t.Errorf("docs/settings.md says of %s %q, want %q", name, r, want)
	}
}

func unknownRows(t *testing.T, rows map[string]row) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		t.Errorf("docs/settings.md has a row of %s, which nothing reads", name)
	}
}

// TestAnnotationsAreDocumented holds docs/settings.md to the names, defaults and bounds of every annotation.
func TestAnnotationsAreDocumented(t *testing.T) {
	rows, builtin := documented(t, "Scaling"), defaults(t)
	maps.Copy(rows, documented(t, "Queues and the choice of pods"))
	for _, s := range settings {
		if s.prefix == "" {
			continue
		}
		name := "`" + s.prefix + s.key + "`"
		if s.alias != "" {
			name += ", `" + s.alias + "`"
		}
		fallback := builtin[s.key]
		switch {
		case s.key == "target": // the metric decides
			fallback = "`container-concurrency-target-default`, `requests-per-second-target-default`"
		case s.configMap != "":
			fallback = "`" + s.configMap + "`"
		case fallback == nil:
			t.Fatalf("%s has no default", s.key)
		}
		given := map[string]string{PrefixAutoscaling + "class": ClassKPA}
		given[s.prefix+s.key] = refusable
		_, faults := ParseAnnotations(given, DefaultAutoscaler(), Layers{})
		if faults = slices.DeleteFunc(faults, func(f Fault) bool { return f.Key != s.prefix+s.key }); len(faults) == 0 {
			t.Errorf("%s takes anything", s.key)
		}
		judge(t, name, rows, fallback, allowedBy(t, s.key, faults), s.live)
	}
	unknownRows(t, rows)
}

// TestClusterKeysAreDocumented does that for config-autoscaler.
func TestClusterKeysAreDocumented(t *testing.T) {
	rows, builtin := documented(t, "For all workloads: config-autoscaler"), defaults(t)
	for _, key := range ClusterKeys() {
		_, faults := ParseAutoscaler(map[string]string{key: refusable}, nil)
		judge(t, "`"+key+"`", rows, builtin[key], allowedBy(t, key, faults), Live(key))
	}
	unknownRows(t, rows)
}

// TestSpecAnnotationsAreDocumented does that for what a Service has fields for: a value below every bound is refused with
// the bounds, and two of those are the whole timeout.
func TestSpecAnnotationsAreDocumented(t *testing.T) {
	rows, builtin := documented(t, "What a Service has fields for"), defaults(t)
	fields := []string{"containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"}
	for i, key := range SpecAnnotations() {
		in := Input{Annotations: map[string]string{key: "-1"}}
		if faults := in.SpecFromAnnotations(); len(faults) > 0 {
			t.Fatal(faults)
		}
		_, faults := Resolve(in)
		allowed := allowedBy(t, key, faults)
		if i >= 2 {
			allowed = strings.Replace(allowed, ", 300]", ", timeout-seconds]", 1)
		}
		fallback := builtin[fields[i]]
		if d, ok := fallback.(time.Duration); ok {
			fallback = int(d / time.Second)
		}
		judge(t, "`"+key+"`", rows, fallback, allowed, Live(fields[i]))
	}
	unknownRows(t, rows)
}

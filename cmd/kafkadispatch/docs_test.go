package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// section of a page in docs.
func section(t *testing.T, page, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, out, found := strings.Cut(string(text), "\n## "+name+"\n")
	if !found {
		t.Fatalf("docs/%s has no section %s", page, name)
	}
	out, _, _ = strings.Cut(out, "\n## ")
	return out
}

// pairs are the first two groups of every match.
func pairs(pattern, text string) map[string]string {
	out := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(text, -1) {
		out[m[1]] = m[2]
	}
	return out
}

// TestMetricsAreDocumented compares docs/metrics.md with what is served.
func TestMetricsAreDocumented(t *testing.T) {
	documented := pairs("^\\| `([a-z_]+)` \\| ([a-z]+) \\|", section(t, "metrics.md", "Kafka dispatcher"))
	served := pairs("^# TYPE ([a-z_]+) ([a-z]+)$", (&monitor{}).metrics())
	if diff := cmp.Diff(documented, served); diff != "" || len(served) == 0 {
		t.Errorf("docs/metrics.md (-) and /metrics (+) differ:\n%s", diff)
	}
}

// TestFlagsAreDocumented compares docs/kafka.md with --help.
func TestFlagsAreDocumented(t *testing.T) {
	var help bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &help); code != 0 {
		t.Fatalf("-h exits with %d", code)
	}
	var flags, documented []string
	for _, m := range regexp.MustCompile(`(?m)^  (-[a-z-]+)`).FindAllStringSubmatch(help.String(), -1) {
		flags = append(flags, m[1])
	}
	for name, rest := range pairs("^\\| `(-[a-z-]+)` \\|([^|]*)\\|", section(t, "kafka.md", "kafkadispatch")) {
		documented = append(documented, name)
		if def := strings.Trim(rest, " `"); def != "" && def != "required" && !strings.Contains(help.String(), `(default "`+def+`")`) {
			t.Errorf("docs/kafka.md says that the default of %s is %q; --help does not", name, def)
		}
	}
	slices.Sort(documented)
	if diff := cmp.Diff(documented, flags); diff != "" || len(flags) == 0 {
		t.Errorf("docs/kafka.md (-) and --help (+) differ:\n%s", diff)
	}
}

package workload

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestServiceAnnotationsAreDocumented holds docs/settings.md to the annotations of a plain Service.
func TestServiceAnnotationsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Of a Service as a whole\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		rows = append(rows, m[1])
	}
	if want := []string{ServiceFor, UncountedPorts, AdoptedSelector, Releasing}; !slices.Equal(rows, want) {
		t.Errorf("docs/settings.md has rows of %q, want %q", rows, want)
	}
}

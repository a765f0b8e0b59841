package main

import (
	"os"
	"strings"
	"testing"
)

// TestVariablesWithoutEffectAreDocumented compares docs/queue-proxy.md with the table.
func TestVariablesWithoutEffectAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/queue-proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Variables without effect\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := strings.Count(section, "| `")
	if all := ignored(); rows != len(all) {
		t.Errorf("docs/queue-proxy.md lists %d variables, the sidecar ignores %d", rows, len(all))
	}
	for name, reason := range ignored() {
		if row := "| `" + name + "` | " + reason + " |"; !strings.Contains(section, row) {
			t.Errorf("docs/queue-proxy.md lacks the row %s", row)
		}
	}
}

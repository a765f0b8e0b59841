package manifest

import (
	"os"
	"strings"
	"testing"
)

// TestServiceMetadataIsDocumented: docs/settings.md names what is read of a Service's own metadata.
func TestServiceMetadataIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	_, alias, _ := strings.Cut(rolloutKeys[1], "/")
	for _, want := range []string{"| annotation `" + rolloutKeys[0] + "`, `" + alias + "` |", "| label `" + visibilityLabel + "` |"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/settings.md lacks %s", want)
		}
	}
}

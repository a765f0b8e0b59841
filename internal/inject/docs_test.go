package inject

import (
	"os"
	"strings"
	"testing"
)

// TestDocumented: docs/inject.md names every annotation.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/inject.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{Inject, Container, Port, Ports, sizePrefix}, serving...) {
		if !strings.Contains(string(page), "`"+name) {
			t.Errorf("docs/inject.md lacks %s", name)
		}
	}
}

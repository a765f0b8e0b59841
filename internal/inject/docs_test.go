package inject

import (
	"os"
	"strings"
	"testing"
)

// TestDocumented: docs/inject.md names every annotation, and docs/settings.md those that are about the queue-proxy alone.
func TestDocumented(t *testing.T) {
	for file, names := range map[string][]string{
		"inject.md":   append([]string{Inject, Container, Port, Ports, sizePrefix}, serving...),
		"settings.md": {Inject + "`", Container + "`", Port + "`", Ports + "`", sizePrefix},
	} {
		page, err := os.ReadFile("../../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.Contains(string(page), "`"+name) {
				t.Errorf("docs/%s lacks %s", file, name)
			}
		}
	}
}

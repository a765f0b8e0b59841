package manifest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden loads every manifest under testdata and compares what was understood and what was said about the rest.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.ToSlash(strings.TrimPrefix(file, "testdata")), func(t *testing.T) {
			sources, err := Open(nil, file)
			if err != nil {
				t.Fatal(err)
			}
			sources[0].Name = filepath.Base(file)
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", describe(Load(sources, Options{InterceptorRoutes: true})))
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// describe writes the diagnostics, then the set as JSON.
func describe(set *Set, diags Diagnostics) []byte {
	var b bytes.Buffer
	for _, d := range diags {
		fmt.Fprintln(&b, d)
	}
	for i := range set.Services {
		s := &set.Services[i]
		fmt.Fprintf(&b, "# %s: %s, revision %s, template %s\n", s.Where(""), s, s.RevisionName(1), s.Template.Hash())
	}
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(set); err != nil {
		panic(err)
	}
	return b.Bytes()
}

//go:build linux

package parked

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain plays the roles of the processes that the benchmark starts.
func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		if err := Main(context.Background(), nil, os.Stdout, os.Stderr); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestParkedRequestsAreMeasuredAndAnswered runs the whole benchmark with few requests: what they cost is bounded, and
// all of them are answered in the end.
func TestParkedRequestsAreMeasuredAndAnswered(t *testing.T) {
	var out bytes.Buffer
	errs, text := childErrors(t)
	if err := Main(t.Context(), []string{"--requests", "600", "--steps", "2", "--most", "0"}, &out, errs); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), text())
	}
	if got := out.String(); !strings.Contains(got, "all 600 were answered") || strings.Count(got, "\n") != 4 {
		t.Errorf("report:\n%swant a head, two steps and the answers", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, args := range []string{"--requests=0", "--requests=9999999", "--steps=0", "--requests=3 --steps=4"} {
		if _, err := parse(strings.Fields(args), 1<<20, &bytes.Buffer{}); err == nil {
			t.Errorf("%s was accepted", args)
		}
	}
	if _, err := parse([]string{"--requests=2000"}, 1024, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "ulimit") {
		t.Errorf("more requests than descriptors: %v, want the limit named", err)
	}
}

// childErrors is a file for what several processes complain of: as in real use they write to it themselves, while a
// buffer would be filled by a goroutine for each.
func childErrors(t *testing.T) (f *os.File, text func() string) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, func() string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

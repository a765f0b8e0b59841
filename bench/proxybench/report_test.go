//go:build linux

package proxybench

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the expected reports")

// recorded is a run of two rounds with figures that are easy to follow.
func recorded() []Row {
	var rows []Row
	add := func(name string, rss, parked, idle int64, allocs float64, cpu map[string][2]float64) {
		for _, s := range []string{"c64", "open6000"} {
			for i, us := range cpu[s] {
				r := Row{Contender: name, Version: "1.0", Binary: "0123456789ab", Scenario: s, Round: i + 1, Requests: 1000, CPUMicros: us,
					RPS: 1e6 / us, P50: us * 10, P99: us * 40, RSS: rss, PerParked: parked, PerIdle: idle, AllocsPer: allocs, StreamedAllocsPer: allocs, WindowNanos: 1e9}
				if s == "open6000" {
					r.DirectP50 = 50
				}
				rows = append(rows, r)
			}
		}
	}
	add("rouse", 11e6, 4000, 12000, 0.01, map[string][2]float64{"c64": {20, 22}, "open6000": {60, 70}})
	add("knative", 24e6, 31600, 23900, -1, map[string][2]float64{"c64": {100, 110}, "open6000": {120, 130}})
	add("haproxy", 15e6, 4700, 1100, -1, map[string][2]float64{"c64": {15, 17}, "open6000": {50, 54}})
	rows[1].Errors, rows[1].FirstError = 3, "server closed the connection"
	return rows
}

func TestReports(t *testing.T) {
	rows := recorded()
	s := summarise(rows)
	for name, write := range map[string]func(io.Writer) error{
		"report.txt":  func(w io.Writer) error { return writeReport(w, s) },
		"report.json": func(w io.Writer) error { return writeJSON(w, rows) },
		"report.html": func(w io.Writer) error { return writeHTML(w, s, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) },
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(&got); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s differs; -update rewrites it (-want +got):\n%s", path, diff)
			}
		})
	}
}

func TestJSONReadsBack(t *testing.T) {
	for _, rows := range [][]Row{{}, recorded()[:1], recorded()} {
		var b bytes.Buffer
		if err := writeJSON(&b, rows); err != nil {
			t.Fatal(err)
		}
		got := []Row{}
		if err := json.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", b.String(), err)
		}
		if diff := cmp.Diff(rows, got); diff != "" {
			t.Errorf("rows differ (-want +got):\n%s", diff)
		}
	}
}

func TestGatesFailOnlyWhenAsked(t *testing.T) {
	rows := recorded() // 12 KB per idle connection is beyond its bound
	if err := publish(options{}, rows, io.Discard); err != nil {
		t.Errorf("publish = %v", err)
	}
	if err := publish(options{gates: true}, rows, io.Discard); err == nil {
		t.Error("publish with gates = nil, want the missed bound")
	}
}

func TestMedian(t *testing.T) {
	if got := median(nil); got != 0 {
		t.Errorf("median() = %g, want 0", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 1, 20).Draw(t, "v")
		m := median(v)
		below, above := 0, 0
		for _, x := range v {
			if x < m {
				below++
			}
			if x > m {
				above++
			}
		}
		if 2*below > len(v) || 2*above > len(v) {
			t.Fatalf("median(%v) = %g with %d below and %d above", v, m, below, above)
		}
	})
}

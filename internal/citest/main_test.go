package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func events(t *testing.T, lines string) *tally {
	t.Helper()
	tl := &tally{output: map[string]*strings.Builder{}}
	for l := range strings.SplitSeq(lines, "\n") {
		f := strings.Fields(l)
		if len(f) == 2 {
			tl.take(event{Action: f[0], Package: "p", Test: f[1]}, &strings.Builder{})
		}
	}
	return tl
}

func TestJudge(t *testing.T) {
	for _, c := range []struct{ name, lines, minimum, want string }{
		{"enough", "pass A\npass B", "unit 2\n", ""},
		{"shrunk", "pass A", "unit 2\n", "ran 1 tests, the minimum"},
		{"skipped", "pass A\npass B\nskip C", "unit 2\n", "skipped p C"},
		{"failed", "pass A\nfail B", "unit 1\n", "failed"},
		{"unknown suite", "pass A", "other 1\n", "no minimum for suite unit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "min")
			if err := os.WriteFile(file, []byte(c.minimum), 0o600); err != nil {
				t.Fatal(err)
			}
			err := events(t, c.lines).judge(nil, "unit", file, false)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("judge = %v, want %q", err, c.want)
			}
		})
	}
}

func TestUpdateWritesTheCount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "min")
	tl := events(t, "pass A\npass B\npass C")
	if err := tl.judge(nil, "unit", file, true); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != "unit 3\n" {
		t.Errorf("file = %q, %v, want %q", got, err, "unit 3\n")
	}
}

// TestSumSaysWhatFailed: after all logs, in a few lines, with what took long.
func TestSumSaysWhatFailed(t *testing.T) {
	tl := &tally{output: map[string]*strings.Builder{}}
	var all, end strings.Builder
	for _, e := range []event{
		{Action: "output", Package: "p", Test: "A", Output: "=== RUN A\n"},
		{Action: "output", Package: "p", Test: "A", Output: "    a_test.go:7: it is 3, want 4\n"},
		{Action: "output", Package: "p", Test: "A", Output: "    log of a pod, very long\n"},
		{Action: "fail", Package: "p", Test: "A", Elapsed: 20},
		{Action: "output", Package: "p", Test: "B", Output: "    b_test.go:7: only a note\n"},
		{Action: "pass", Package: "p", Test: "B", Elapsed: 30},
		{Action: "pass", Package: "p", Test: "B/part", Elapsed: 30},
		{Action: "pass", Package: "p", Test: "C", Elapsed: slow - 1},
		{Action: "output", Package: "p", Test: "D", Output: "panic: a bug\n"},
		{Action: "fail", Package: "p", Test: "D"},
	} {
		tl.take(e, &all)
	}
	tl.sum(&end)
	const want = "slow: B 30s\nslow: A 20s\nfailed: p A\n    a_test.go:7: it is 3, want 4\nfailed: p D\npanic: a bug\n"
	if end.String() != want {
		t.Errorf("the end says\n%s, want\n%s", end.String(), want)
	}
}

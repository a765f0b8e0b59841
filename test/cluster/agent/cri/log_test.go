package cri

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// lines strips the times off a log.
func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(regexp.MustCompile(`(?m)^\S+ `).ReplaceAllString(strings.TrimSuffix(string(b), "\n"), ""), "\n")
}

func write(t *testing.T, s *logStream, chunks ...string) {
	t.Helper()
	for _, c := range chunks {
		if n, err := s.Write([]byte(c)); n != len(c) || err != nil {
			t.Fatalf("Write(%d bytes) = %d, %v", len(c), n, err)
		}
	}
}

func TestLogCutsLines(t *testing.T) {
	l := &logFile{path: filepath.Join(t.TempDir(), "pod", "0.log")}
	stdout, stderr, err := l.open()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", maxLine)
	write(t, stdout, "one\ntw", "o\n")
	write(t, stderr, "err\n\n")
	write(t, stdout, long, "y\n", "rest")
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"stdout F one", "stdout F two", "stderr F err", "stderr F ", "stdout P " + long, "stdout F y", "stdout P rest"}
	if got := lines(t, l.path); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("log = %.200q, want %.200q", got, want)
	}
}

func TestLogOfAClosedFileTakesAll(t *testing.T) {
	l := &logFile{path: filepath.Join(t.TempDir(), "0.log")}
	stdout, _, err := l.open()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	write(t, stdout, "late\n")
	if err := l.reopen(); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, l.path); len(got) != 1 || got[0] != "" {
		t.Errorf("log = %q, want nothing", got)
	}
}

func TestLogReopens(t *testing.T) {
	l := &logFile{path: filepath.Join(t.TempDir(), "0.log")}
	stdout, _, err := l.open()
	if err != nil {
		t.Fatal(err)
	}
	write(t, stdout, "old\n")
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.reopen(); err != nil {
		t.Fatal(err)
	}
	write(t, stdout, "new\n")
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, l.path); len(got) != 1 || got[0] != "stdout F new" {
		t.Errorf("log = %q, want the new line alone", got)
	}
}

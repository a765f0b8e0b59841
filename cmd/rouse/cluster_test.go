package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompanion(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	code, _, errs := command(t, "", "adopt", "shop")
	if code != 1 || !strings.Contains(errs, "`go install github.com/rousehq/rouse/cmd/rouse-kube@VERSION`, or `make build`") {
		t.Errorf("adopt without its program = %d %s, want the remedy", code, errs)
	}
	if code, _, errs := command(t, "", "check"); code != 2 || !strings.Contains(errs, "rouse-kube") {
		t.Errorf("check without its program = %d %s, want that it could not ask", code, errs)
	}
	script := "#!/bin/sh\necho \"$0 $*\"; [ \"$1\" != release ] || { echo the reason >&2; exit 3; }\n"
	if err := os.WriteFile(filepath.Join(dir, companion), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "", "adopt", "shop", "-n", "default", "--help"); code != 0 || !strings.HasSuffix(out, "adopt shop -n default --help\n") {
		t.Errorf("adopt = %d %q %s, want every argument handed on", code, out, errs)
	}
	if code, _, errs := command(t, "", "release", "shop"); code != 3 || errs != "the reason\n" {
		t.Errorf("release = %d %q, want the program's exit code, and no more than it said", code, errs)
	}
}

// TestInBoth: status and explain ask the running `rouse up` unless a flag names a cluster.
func TestInBoth(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := os.WriteFile(filepath.Join(dir, companion), []byte("#!/bin/sh\necho \"$*\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		code int
		out  string // all of it
		errs string // part of it
	}{
		{"status -n shop", 0, "status --namespace=shop\n", ""},
		{"status -A -w -o json", 0, "status --all-namespaces=true --output=json --watch=true\n", ""},
		{"status --system-namespace x", 0, "status --system-namespace=x\n", ""},
		{"explain hello -n shop --context east", 0, "explain --context=east --namespace=shop hello\n", ""},
		{"explain --kubeconfig f hello -o json", 0, "explain --kubeconfig=f --output=json hello\n", ""},
		{"check -A -o json", 0, "check -A -o json\n", ""},
		{"top -w", 0, "top -w\n", ""},
		{"status --data " + dir, 1, "", "no `rouse up` answers in " + dir},
		{"status --data " + dir + " -n shop", 2, "", "--data is for a running `rouse up`, --namespace for a cluster"},
		{"explain --admin 127.0.0.1:1 --context east", 2, "", "--admin is for a running `rouse up`, --context for a cluster"},
		{"explain --admin 127.0.0.1:1", 1, "", "is `rouse up` running"},
		{"explain -o yaml", 2, "", `--output = "yaml"`},
		{"status -w", 2, "", "--watch is for a cluster"},
	} {
		if code, out, errs := command(t, "", strings.Fields(tc.args)...); code != tc.code || out != tc.out || !strings.Contains(errs, tc.errs) {
			t.Errorf("rouse %s = %d %q %s; want %d %q, %s", tc.args, code, out, errs, tc.code, tc.out, tc.errs)
		}
	}
}

// TestHelpHasNoStrayPlaceholders: words in backquotes take the place of a flag's value.
func TestHelpHasNoStrayPlaceholders(t *testing.T) {
	for _, verb := range []string{"status", "logs", "apply", "stop", "explain", "up"} {
		if _, out, _ := command(t, "", verb, "--help"); !strings.Contains(out, "Usage:") || strings.Contains(out, " rouse up   ") {
			t.Errorf("%s --help shows a command as a flag's value:\n%s", verb, out)
		}
	}
}

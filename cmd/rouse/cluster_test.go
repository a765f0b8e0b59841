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
	if code != 1 || !strings.Contains(errs, "go install") {
		t.Errorf("adopt without its program = %d %s, want the remedy", code, errs)
	}
	script := "#!/bin/sh\necho \"$0 $*\"; [ \"$1\" = adopt ]\n"
	if err := os.WriteFile(filepath.Join(dir, companion), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "", "adopt", "shop", "-n", "default", "--help"); code != 0 || !strings.HasSuffix(out, "adopt shop -n default --help\n") {
		t.Errorf("adopt = %d %q %s, want every argument handed on", code, out, errs)
	}
	if code, _, errs := command(t, "", "release", "shop"); code != 1 || !strings.Contains(errs, "release did not succeed (exit status 1)") {
		t.Errorf("release = %d %s, want the program's failure", code, errs)
	}
}

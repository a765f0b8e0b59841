package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestThePortComesFirst: what takes long to initialise comes after the serving port is open. This test's program links what
// the queue-proxy links, and the runtime says in which order it went.
func TestThePortComesFirst(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var order []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "init" {
			order = append(order, f[1])
		}
	}
	early := slices.Index(order, "github.com/rousehq/rouse/cmd/queueproxy/early")
	for _, heavy := range []string{"google.golang.org/protobuf/proto", "net", "net/http", "github.com/prometheus/client_golang/prometheus"} {
		if at := slices.Index(order, heavy); early < 0 || at < early {
			t.Errorf("the serving port is opened in place %d, %s is initialised in place %d, want it later", early, heavy, at)
		}
	}
}

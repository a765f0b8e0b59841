//go:build linux

package proxybench

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestSeriesProxies knows an activator and a queue-proxy among what a program has started, and wants one of each.
func TestSeriesProxies(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"activator", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("read wait\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := func(args ...string) int {
		cmd := exec.Command("/bin/sh", args[1:]...)
		cmd.Args[0], cmd.Dir = args[0], dir
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = in.Close()
			_ = cmd.Wait() // the end of what it reads is its end
		})
		return cmd.Process.Pid
	}
	activator, proxy, other := start("rouse", "activator"), start("/bin/queueproxy", "other"), start("rouse", "other")
	tree, err := descend(os.Getpid())
	if err != nil || !slices.Contains(tree, proxy) || !slices.Contains(tree, activator) {
		t.Fatalf("descend = %v, %v, want %d and %d in it", tree, err, activator, proxy)
	}
	if found, err := seriesProxies([]int{proxy, other, activator}); err != nil || !slices.Equal(found, []int{activator, proxy}) {
		t.Errorf("seriesProxies = %v, %v, want %d and %d", found, err, activator, proxy)
	}
	for _, tree := range [][]int{{proxy, other}, {activator}, {activator, proxy, start("queueproxy", "other")}} {
		if found, err := seriesProxies(tree); err == nil {
			t.Errorf("seriesProxies(%v) = %v, want an error: one of each is needed", tree, found)
		}
	}
}

// TestStopEndsWhatAProcessStarted: nothing of a contender of several processes is left for the next turn.
func TestStopEndsWhatAProcessStarted(t *testing.T) {
	a, err := newArena()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	at, err := allowedCores()
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.start(command{path: "/bin/sh", args: []string{"-c", "sleep 600 & sleep 600 & wait"}}, at.proxy, at.rest)
	if err != nil {
		t.Fatal(err)
	}
	var tree []int
	for deadline := time.Now().Add(10 * time.Second); len(tree) < 3 && time.Now().Before(deadline); {
		if tree, err = descend(p.pid()); err != nil {
			t.Fatal(err)
		}
	}
	p.stop()
	for _, pid := range tree {
		gone := false
		for deadline := time.Now().Add(10 * time.Second); !gone && time.Now().Before(deadline); {
			line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
			gone = err != nil || len(line) == 0 // a zombie has no arguments any more
		}
		if !gone || len(tree) != 3 {
			t.Errorf("of %v, %d is still there", tree, pid)
		}
	}
}

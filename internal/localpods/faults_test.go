package localpods_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods"
	"github.com/rousehq/rouse/internal/localpods/procfs"
)

func TestPodsDieWithAKilledRunner(t *testing.T) {
	host := respawn("runner", &syscall.SysProcAttr{})
	host.Stdout = nil
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	was, err := procfs.Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var killed *exec.ExitError
	if err := host.Wait(); !errors.As(err, &killed) {
		t.Errorf("the runner's process ended with %v, want it killed", err)
	}
	h := &harness{t: t}
	h.awaitBare(fmt.Sprintf("the end of process %d", pid), func() bool {
		p, err := procfs.Read(pid)
		return err != nil || p.Zombie || p.Start != was.Start
	})
}

// TestChaos asks for other numbers of pods and kills some of them, in any order, and then wants what was last asked for.
func TestChaos(t *testing.T) {
	h := start(t, "serve", withSidecar(localpods.SidecarInProcess), func(s *setup) {
		s.cfg.BackoffMax = 20 * time.Millisecond
	})
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for range 60 {
		switch endpoints := h.book.Snapshot(h.rev).Endpoints; {
		case rng.IntN(3) > 0 || len(endpoints) == 0:
			victims := []string{"nobody"}
			if len(endpoints) > 0 {
				victims = append(victims, endpoints[rng.IntN(len(endpoints))].Pod.UID)
			}
			h.apply(rng.IntN(5), victims...)
		default:
			if events := h.all(localpods.Ready); len(events) > 0 {
				_ = syscall.Kill(events[len(events)-1].PID, syscall.SIGKILL) // it may be gone
			}
		}
	}
	h.apply(3)
	h.ready(3)
	h.await("nobody but the three", func() bool {
		health, err := h.r.Health(h.rev)
		return err == nil && health.Ready == 3 && health.Starting == 0 && health.Draining == 0
	})
	seen := make(map[string]bool)
	for _, e := range h.all(localpods.Starting) {
		if seen[e.PodUID] {
			t.Errorf("pod UID %s was used twice", e.PodUID)
		}
		seen[e.PodUID] = true
	}
	h.apply(0)
	h.empty()
}

func TestCrashesAreForgivenAfterAWhile(t *testing.T) {
	h := start(t, "serve", func(s *setup) { s.cfg.BackoffReset = time.Nanosecond })
	h.apply(1)
	for n := 1; n <= 3; n++ {
		h.event(localpods.Ready, n)
		if _, err := get(h.ready(1)[0].Pod.Addr, "/exit"); err == nil {
			t.Fatal("the program answered, want it to crash")
		}
		e := h.event(localpods.Exited, n)
		if e.Retry != 5*time.Millisecond {
			t.Errorf("crash %d: retry in %v, want the least back-off each time", n, e.Retry)
		}
	}
}

func TestCrashesInARowWaitLonger(t *testing.T) {
	h := start(t, "crash", func(s *setup) {
		s.cfg.BackoffMin, s.cfg.BackoffMax = time.Millisecond, 8*time.Millisecond
	})
	h.apply(1)
	h.event(localpods.Exited, 5)
	for i, want := range []time.Duration{1, 2, 4, 8, 8} {
		if got := h.all(localpods.Exited)[i].Retry; got != want*time.Millisecond {
			t.Errorf("crash %d: retry in %v, want %v ms", i+1, got, int(want))
		}
	}
}

func TestRevisionsComeAndGo(t *testing.T) {
	h := start(t, "serve")
	other := identity.Revision{Namespace: "default", Name: "other"}
	if err := h.r.Apply(t.Context(), other, 1, nil); !errors.Is(err, localpods.ErrUnknownRevision) {
		t.Errorf("Apply of an unknown revision = %v, want ErrUnknownRevision", err)
	}
	spec := localpods.Spec{Revision: other, Argv: []string{os.Args[0]}, Env: []string{roleEnv + "=serve"}}
	if err := h.r.Add(spec); err != nil {
		t.Fatal(err)
	}
	if err := h.r.Add(spec); err == nil {
		t.Error("a second Add = nil, want an error")
	}
	if err := h.r.Apply(t.Context(), other, 2, nil); err != nil {
		t.Fatal(err)
	}
	h.await("two pods of the other", func() bool { return h.book.Snapshot(other).Count(endpoint.Ready) == 2 })
	if err := h.r.Apply(t.Context(), other, -1, nil); err == nil {
		t.Error("Apply(-1) = nil, want an error")
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.r.Remove(done, other); !errors.Is(err, context.Canceled) {
		t.Errorf("Remove without patience = %v, want the context's error", err)
	}
	if err := h.r.Apply(t.Context(), other, 1, nil); !errors.Is(err, localpods.ErrUnknownRevision) {
		t.Errorf("Apply while it is removed = %v, want ErrUnknownRevision", err)
	}
	if err := h.r.Remove(t.Context(), other); err != nil {
		t.Errorf("Remove = %v, want nil", err)
	}
	if n := len(h.book.Snapshot(other).Endpoints); n != 0 {
		t.Errorf("%d endpoints after Remove", n)
	}
	for name, err := range map[string]error{
		"Remove": h.r.Remove(t.Context(), other),
		"Health": func() error { _, err := h.r.Health(other); return err }(),
		"Logs":   func() error { _, err := h.r.Logs(other, -1); return err }(),
	} {
		if !errors.Is(err, localpods.ErrUnknownRevision) {
			t.Errorf("%s after Remove = %v, want ErrUnknownRevision", name, err)
		}
	}
	h.stop()
	if err := h.r.Apply(t.Context(), h.rev, 1, nil); !errors.Is(err, localpods.ErrNotRunning) {
		t.Errorf("Apply after Run = %v, want ErrNotRunning", err)
	}
	if err := h.r.Run(t.Context()); err == nil {
		t.Error("a second Run = nil, want an error")
	}
}

func TestOutputCarriesPodAndText(t *testing.T) {
	var out lockedBuilder
	h := start(t, "serve", func(s *setup) { s.deps.Output = localpods.PrefixWriter(&out) })
	h.apply(1)
	e := h.ready(1)[0]
	want := "[" + e.Pod.UID + "] listening\n"
	h.await("the program's line", func() bool { return strings.Contains(out.String(), want) })
}

package localpods_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/localpods"
)

func withSidecar(mode localpods.SidecarMode) func(*setup) {
	return func(s *setup) {
		s.spec.Sidecar = mode
		s.cfg.SidecarArgv = []string{os.Args[0]}
		s.deps.SidecarEnv = func(localpods.SidecarPod, localpods.SidecarPorts) []string {
			return []string{roleEnv + "=queue-proxy"}
		}
	}
}

func TestPodLivesAndServes(t *testing.T) {
	for _, mode := range []localpods.SidecarMode{localpods.SidecarNone, localpods.SidecarInProcess, localpods.SidecarProcess} {
		t.Run(mode.String(), func(t *testing.T) {
			h := start(t, "serve", withSidecar(mode), func(s *setup) {
				s.spec.Argv = append(s.spec.Argv, "--listen=:$(PORT)", "$$(PORT)")
				s.spec.Env = append(s.spec.Env, "GREETING=on $(K_SERVICE)", "PORT=1")
				s.spec.PortEnv = []string{"HTTP_PORT"}
			})
			h.apply(1)
			e := h.ready(1)[0]
			s := h.story(e)
			port := s.Env["PORT"]
			if got, want := s.Args, []string{"--listen=:" + port, "$(PORT)"}; !slices.Equal(got, want) {
				t.Errorf("arguments = %q, want %q", got, want)
			}
			want := map[string]string{
				"PORT": port, "K_SERVICE": "app", "K_REVISION": "app-00001", "K_CONFIGURATION": "app-config",
				"HTTP_PORT": port, "GREETING": "on app",
			}
			if diff := cmp.Diff(want, s.Env); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
			sidecar := mode != localpods.SidecarNone
			if direct := strconv.Itoa(int(e.Pod.Addr.Port())) == port; e.Sidecar != sidecar || direct == sidecar {
				t.Errorf("endpoint = %+v with PORT=%s, want a sidecar: %v", e, port, sidecar)
			}
			h.apply(0)
			stopped := h.event(localpods.Stopped, 1)
			if stopped.Status != "exit status 0" || stopped.PodUID != e.Pod.UID {
				t.Errorf("stopped = %+v, want exit status 0 of pod %s", stopped, e.Pod.UID)
			}
			h.empty()
			if want := []string{"starting", "ready", "draining", "gone"}; !slices.Equal(h.states, want) {
				t.Errorf("states = %v, want %v", h.states, want)
			}
		})
	}
}

func TestRequestsInFlightFinish(t *testing.T) {
	for _, mode := range []localpods.SidecarMode{localpods.SidecarNone, localpods.SidecarInProcess, localpods.SidecarProcess} {
		t.Run(mode.String(), func(t *testing.T) {
			h := start(t, "serve", withSidecar(mode))
			h.apply(1)
			e := h.ready(1)[0]
			app := loopback(t, h.story(e).Env["PORT"])
			type result struct {
				body string
				err  error
			}
			held := make(chan result, 1)
			go func() {
				body, err := get(e.Pod.Addr, "/hold")
				held <- result{body, err}
			}()
			// The application itself is asked to let go, which it does for as long as it listens: with a sidecar it does
			// until the sidecar has drained. Without one the request is let go before the stop.
			h.await("the request is held", func() bool { n, err := get(app, "/holding"); return err == nil && n == "1" })
			if mode == localpods.SidecarNone {
				if _, err := get(app, "/release"); err != nil {
					t.Fatal(err)
				}
				h.apply(0)
			} else {
				h.apply(0)
				h.await("the pod drains", func() bool { return h.book.Snapshot(h.rev).Count(endpoint.Draining) == 1 })
				if _, err := get(app, "/release"); err != nil {
					t.Fatal(err)
				}
			}
			if got := <-held; got.err != nil || got.body != "held" {
				t.Errorf("request in flight = %q, %v, want it answered", got.body, got.err)
			}
			h.empty()
		})
	}
}

func loopback(t *testing.T, port string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort("127.0.0.1:" + port)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestListenerOfAChildCounts(t *testing.T) {
	for name, with := range map[string]func(*localpods.Runner){"sock_diag": nil, "proc": (*localpods.Runner).WithoutSockDiag} {
		t.Run(name, func(t *testing.T) {
			h := start(t, "parent", func(s *setup) { s.with = with })
			h.apply(1)
			if s, e := h.story(h.ready(1)[0]), h.event(localpods.Ready, 1); s.PID == e.PID {
				t.Errorf("process %d answers itself, want its child to", s.PID)
			}
		})
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	// start's cleanup looks for processes of this test, and the role leaves one that no group or session holds.
	for _, tc := range []struct {
		name string
		end  func(h *harness)
	}{
		{"run ends", func(h *harness) { h.stop() }},
		{"pod stops", func(h *harness) { h.apply(0); h.event(localpods.Stopped, 2); h.checkNobodyLeft() }},
		{"program is killed", func(h *harness) {
			pid := h.event(localpods.Ready, 1).PID
			h.apply(0) // no replacement: the exit is the stop
			_ = syscall.Kill(pid, syscall.SIGKILL)
			h.empty()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, "daemon")
			h.apply(2)
			h.ready(2)
			tc.end(h)
		})
	}
}

func TestStubbornProgramIsKilled(t *testing.T) {
	h := start(t, "stubborn", func(s *setup) { s.spec.Grace = 20 * time.Millisecond })
	h.apply(1)
	h.ready(1)
	h.apply(0)
	if e := h.event(localpods.Stopped, 1); e.Status != "signal: killed" {
		t.Errorf("status = %q, want it killed", e.Status)
	}
}

func TestKillMakesStopsImmediate(t *testing.T) {
	h := start(t, "stubborn", func(s *setup) { s.cfg.MaxGrace = time.Hour })
	h.apply(2)
	h.ready(2)
	h.apply(1)
	h.await("one drains", func() bool { return h.book.Snapshot(h.rev).Count(endpoint.Draining) == 1 })
	h.r.Kill()
	h.stop()
}

func TestTooManyPodsGoInOrder(t *testing.T) {
	h := start(t, "serve")
	h.apply(1)
	first := h.ready(1)[0].Pod.UID
	h.apply(2)
	h.ready(2)
	second := h.event(localpods.Ready, 2).PodUID
	h.apply(3)
	h.ready(3)
	h.apply(2, first, "unknown")
	if e := h.event(localpods.Stopped, 1); e.PodUID != first {
		t.Errorf("stopped %s, want the victim %s", e.PodUID, first)
	}
	h.ready(2)
	h.apply(1)
	h.event(localpods.Stopped, 2)
	if e := h.ready(1)[0]; e.Pod.UID != second {
		t.Errorf("left is %s, want the oldest %s", e.Pod.UID, second)
	}
}

func TestWrongPort(t *testing.T) {
	h := start(t, "wrong-port", func(s *setup) { s.cfg.WrongPortAfter = 10 * time.Millisecond })
	h.apply(1)
	e := h.event(localpods.WrongPort, 1)
	if len(e.Listens) != 1 || e.Listens[0].Port() == e.Port {
		t.Fatalf("event = %+v, want one port that is not %d", e, e.Port)
	}
	for _, want := range []string{e.Listens[0].String(), fmt.Sprintf("PORT=%d", e.Port)} {
		if !strings.Contains(e.Reason, want) {
			t.Errorf("reason %q does not name %s", e.Reason, want)
		}
	}
	if health := h.failing(); health.Reason != e.Reason {
		t.Errorf("health = %+v, want the reason %q", health, e.Reason)
	}
	if n := len(h.all(localpods.WrongPort)); n != 1 {
		t.Errorf("%d events, want it said once", n)
	}
}

func TestCrashIsToldAndReplaced(t *testing.T) {
	h := start(t, "serve")
	h.apply(1)
	e := h.ready(1)[0]
	if _, err := get(e.Pod.Addr, "/exit"); err == nil {
		t.Fatal("the program answered, want it to crash")
	}
	exit := h.event(localpods.Exited, 1)
	if exit.Status != "exit status 7" || !slices.Equal(exit.Tail, []string{"asked to exit"}) || exit.PodUID != e.Pod.UID {
		t.Errorf("exit = %+v, want status 7 and its last line", exit)
	}
	h.event(localpods.Ready, 2)
	if next := h.ready(1)[0]; next.Pod.UID == e.Pod.UID {
		t.Errorf("the replacement has the UID of the old pod, %s", next.Pod.UID)
	}
	if health, _ := h.r.Health(h.rev); health.Failing || health.Ready != 1 || health.Crashes != 1 {
		t.Errorf("health = %+v, want one ready pod and one crash", health)
	}
}

func TestCrashLoopFails(t *testing.T) {
	h := start(t, "crash", func(s *setup) { s.cfg.CrashLimit = 3 })
	h.apply(4)
	failing := h.event(localpods.Failing, 1)
	for _, want := range []string{"3 pods in a row", "exit status 3", "line 29"} {
		if !strings.Contains(failing.Reason, want) {
			t.Errorf("reason %q does not tell %q", failing.Reason, want)
		}
	}
	exit := h.all(localpods.Exited)[0]
	if len(exit.Tail) != 20 || exit.Tail[0] != "line 10" || exit.Tail[19] != "line 29" {
		t.Errorf("tail = %q, want the last 20 lines of standard error", exit.Tail)
	}
	h.await("more tries after failing", func() bool { health, _ := h.r.Health(h.rev); return health.Crashes > 4 })
	if n := len(h.all(localpods.Failing)); n != 1 {
		t.Errorf("%d Failing events, want it said once", n)
	}
	lines, err := h.r.Logs(h.rev, -1)
	if err != nil || !slices.ContainsFunc(lines, func(l localpods.Line) bool { return l.Text == "not the reason" && !l.Stderr }) {
		t.Errorf("Logs() = %d lines, %v, want standard output in them", len(lines), err)
	}
}

func TestProgramThatCannotStart(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, path, want string }{
		{"no such file", filepath.Join(dir, "none"), "no such file or directory"},
		{"not executable", plain, "permission denied"},
		{"not in PATH", "no-such-program-here", "not found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := start(t, "", func(s *setup) {
				s.spec.Argv = []string{tc.path}
				s.cfg.CrashLimit = 2
			})
			h.apply(1)
			failing := h.event(localpods.Failing, 1)
			if !strings.Contains(failing.Reason, tc.want) || !strings.Contains(failing.Reason, tc.path) {
				t.Errorf("reason %q does not tell %q of %s", failing.Reason, tc.want, tc.path)
			}
			h.await("more tries", func() bool { health, _ := h.r.Health(h.rev); return health.Crashes > 4 })
			if n := len(h.all(localpods.Exited)); n != 1 {
				t.Errorf("%d Exited events, want it said once", n)
			}
		})
	}
}

func TestProgressDeadline(t *testing.T) {
	h := start(t, "mute", func(s *setup) { s.spec.ProgressDeadline = 20 * time.Millisecond })
	h.apply(1)
	if e := h.event(localpods.Failing, 1); !strings.Contains(e.Reason, "progress deadline of 20ms") {
		t.Errorf("reason = %q, want the deadline", e.Reason)
	}
	h.apply(0)
	h.empty()
	h.apply(1)
	if e := h.event(localpods.Failing, 2); !strings.Contains(e.Reason, "progress deadline of 20ms") {
		t.Errorf("reason after a new demand = %q, want the deadline", e.Reason)
	}
}

func TestHTTPProbe(t *testing.T) {
	for _, protocol := range []endpoint.Protocol{endpoint.H1, endpoint.H2C} {
		t.Run(protocol.String(), func(t *testing.T) {
			h := start(t, "serve", withSidecar(localpods.SidecarInProcess), func(s *setup) {
				s.spec.Env = append(s.spec.Env, "HEALTH=503")
				if protocol == endpoint.H2C {
					s.spec.Env = append(s.spec.Env, "ONLY_H2C=1")
				}
				s.spec.Protocol = protocol
				s.spec.Readiness = localpods.Probe{
					HTTP: true, Path: "/health", Period: 2 * time.Millisecond, FailureThreshold: 2, SuccessThreshold: 2,
				}
			})
			h.apply(1)
			h.await("a reason", func() bool {
				health, _ := h.r.Health(h.rev)
				return strings.Contains(health.Reason, "GET /health answered 503")
			})
			addr := h.book.Snapshot(h.rev).Endpoints[0].Pod.Addr
			if e := h.book.Snapshot(h.rev).Endpoints[0]; e.Protocol != protocol {
				t.Errorf("endpoint = %+v, want protocol %v", e, protocol)
			}
			for i, step := range []struct {
				set  string
				want int
			}{{"200", 1}, {"500", 0}, {"204", 1}} {
				if _, err := get(addr, "/health?set="+step.set); err != nil {
					t.Fatal(err)
				}
				h.ready(step.want)
				if got := len(h.all(localpods.Unready)); got != (i+1)/2 {
					t.Errorf("after %s: %d Unready events, want %d", step.set, got, (i+1)/2)
				}
			}
		})
	}
}

func TestSidecarProcessThatEndsTakesThePodWithIt(t *testing.T) {
	h := start(t, "serve", withSidecar(localpods.SidecarProcess), func(s *setup) {
		s.deps.SidecarEnv = func(localpods.SidecarPod, localpods.SidecarPorts) []string { return []string{roleEnv + "=crash"} }
	})
	h.apply(1)
	if e := h.event(localpods.Exited, 1); e.Status != "queue-proxy: exit status 3" {
		t.Errorf("status = %q, want the sidecar's", e.Status)
	}
}

package localpods

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

func TestBackoff(t *testing.T) {
	for _, tc := range []struct {
		crash int
		want  time.Duration
	}{{1, 100}, {2, 200}, {3, 400}, {4, 800}, {5, 1000}, {6, 1000}, {1 << 30, 1000}} {
		if got := backoff(100, 1000, tc.crash); got != tc.want {
			t.Errorf("backoff(100, 1000, %d) = %d, want %d", tc.crash, got, tc.want)
		}
	}
}

func TestProbePause(t *testing.T) {
	const ms = time.Millisecond
	cfg := Default()
	for _, tc := range []struct {
		name       string
		age, usual time.Duration
		starting   int64
		want       time.Duration
	}{
		{"at once", 0, 0, 1, ms},
		{"young", 32 * ms, 0, 1, ms},
		{"a part of the age", 160 * ms, 0, 1, 5 * ms},
		{"bounded", time.Hour, 0, 1, 10 * ms},
		{"among twenty", 0, 0, 20, 5 * ms},
		{"among a thousand", 0, 0, 1000, 10 * ms},
		{"one that starts at once", 3 * ms, 15 * ms, 1, ms},
		{"long before it is due", 10 * ms, 100 * ms, 1, 10 * ms},
		{"shortly before it is due", 72 * ms, 100 * ms, 1, 3 * ms},
		{"due", 90 * ms, 100 * ms, 1, ms},
		{"due after a long start", 480 * ms, 512 * ms, 1, 2 * ms},
		{"overdue", 128 * ms, 100 * ms, 1, 4 * ms},
	} {
		var pr prober
		pr.starting.Store(tc.starting)
		if got := pr.pause(&cfg, tc.age, tc.usual); got != tc.want {
			t.Errorf("%s: pause(%v, %v) = %v, want %v", tc.name, tc.age, tc.usual, got, tc.want)
		}
	}
}

func TestExpand(t *testing.T) {
	e := newEnviron([]string{"A=1", "EMPTY=", "PORT=9", "K_SERVICE=x", "broken"})
	e.set("B", "$(A)")
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$(A)": "1", "-p=$(A)$(A).": "-p=11.", "$$(A)": "$(A)", "$$$(A)": "$1", "$(EMPTY)": "",
		"$(NONE)": "$(NONE)", "$(A": "$(A", "$A": "$A", "a$": "a$", "$$": "$", "$(B)": "$(A)", "$(PORT)": "$(PORT)", "$(K_SERVICE)": "$(K_SERVICE)",
	} {
		if got := e.expand(in); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"$(A)", "$$(A", "$($(A))", "x$"} {
		f.Add(s)
	}
	e := newEnviron([]string{"A=1"})
	f.Fuzz(func(t *testing.T, s string) {
		got := e.expand(s)
		if !strings.Contains(s, "$") && got != s {
			t.Errorf("expand(%q) = %q, want it unchanged", s, got)
		}
		if len(got) > len(s) {
			t.Errorf("expand(%q) = %q, longer than it was: the only value is shorter than its name", s, got)
		}
	})
}

func TestKnativeEnvironmentOfTheSidecar(t *testing.T) {
	spec := &Spec{
		Revision: identity.Revision{Namespace: "default", Name: "app-00001"}, Service: "app", Configuration: "app-config",
		ContainerConcurrency: 3, Timeout: 1500 * time.Millisecond, IdleTimeout: time.Minute,
		Readiness: Probe{HTTP: true, Path: "/ok", Host: "h", Headers: map[string][]string{"A": {"b"}}},
	}
	got := knativeEnv(SidecarPod{Spec: spec, UID: "uid", App: loopback(7)}, SidecarPorts{Serving: 8})
	want := []string{
		"CONTAINER_CONCURRENCY=3", "QUEUE_SERVING_PORT=8", "USER_PORT=7", "REVISION_TIMEOUT_SECONDS=2", "ROUSE_WHOLE_TIMEOUT=true",
		"REVISION_RESPONSE_START_TIMEOUT_SECONDS=0", "REVISION_IDLE_TIMEOUT_SECONDS=60", "SERVING_NAMESPACE=default",
		"SERVING_SERVICE=app", "SERVING_CONFIGURATION=app-config", "SERVING_REVISION=app-00001", "SERVING_POD=uid",
		"SERVING_POD_IP=127.0.0.1",
		`SERVING_READINESS_PROBE={"httpGet":{"path":"/ok","port":7,"host":"127.0.0.1","scheme":"HTTP",` +
			`"httpHeaders":[{"name":"A","value":"b"},{"name":"Host","value":"h"}]},"successThreshold":1}`,
		"SERVING_LOGGING_CONFIG=", "SERVING_LOGGING_LEVEL=", "OBSERVABILITY_CONFIG={}",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("knativeEnv (-want +got):\n%s", diff)
	}
	if got, want := probeJSON(&Probe{}, 7), `{"tcpSocket":{"port":7,"host":"127.0.0.1"},"successThreshold":1}`; got != want {
		t.Errorf("probeJSON = %s, want %s", got, want)
	}
}

func TestFaultsAreReportedAtOnce(t *testing.T) {
	if cfg := Default(); cfg.Validate() != nil {
		t.Errorf("Default().Validate() = %v, want nil", cfg.Validate())
	}
	cfg := Config{BackoffMax: -1, ProbeMax: -1}
	for _, want := range []string{"MaxGrace", "ExitGrace", "BackoffMin", "BackoffMax", "CrashLimit", "ProbeMin", "ProbeMax", "TailLines", "LogLines", "MaxLine"} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want %s in it", err, want)
		}
	}
	spec := Spec{Sidecar: 9, ContainerConcurrency: -1, Timeout: -1, Readiness: Probe{Period: -1}}
	for _, want := range []string{"revision", "argv", "sidecar", "containerConcurrency", "timeout", "readiness.period"} {
		if err := spec.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want %s in it", err, want)
		}
	}
	if _, err := New(Default(), Deps{}); err == nil || !strings.Contains(err.Error(), "Book") {
		t.Errorf("New without a book = %v, want it named", err)
	}
	r, err := New(Default(), Deps{Book: new(endpoint.Book)})
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[SidecarMode]string{SidecarInProcess: "Deps.InProcess", SidecarProcess: "Config.SidecarArgv"} {
		err := r.Add(Spec{Revision: identity.Revision{Name: "a"}, Argv: []string{"x"}, Sidecar: mode})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Add with %v = %v, want %s named", mode, err, want)
		}
	}
}

package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/rousehq/rouse/internal/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func durationOf(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func ptr(n int64) *int64 { return &n }

var hello = identity.Revision{Namespace: "default", Name: "hello-00001", UID: "u1", Generation: 1}

func TestPrecedence(t *testing.T) {
	base, faults := ParseAutoscaler(map[string]string{"min-scale": "1", "stable-window": "30s"}, nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	in := Input{ID: hello, Autoscaler: base, Annotations: map[string]string{}}
	check := func(step string, want int, origin string) {
		t.Helper()
		rev, faults := Resolve(in)
		if len(faults) > 0 {
			t.Fatalf("%s: %v", step, faults)
		}
		if got := rev.Scaling.MinScale; got.V != want || got.Origin.String() != origin {
			t.Errorf("%s: min-scale = %d from %s, want %d from %s", step, got.V, got.Origin, want, origin)
		}
		if rev.Scaling.StableWindow.V != 30*time.Second {
			t.Errorf("%s: window = %s, want 30s", step, rev.Scaling.StableWindow)
		}
	}
	check("config map", 1, "configmap min-scale")
	in.Annotations["autoscaling.knative.dev/minScale"] = "2"
	in.Above.At = func(key string) string { return "app.yaml:7" }
	check("alias", 2, "annotation autoscaling.knative.dev/minScale (app.yaml:7)")
	in.Annotations["autoscaling.knative.dev/min-scale"] = "3"
	check("kebab first", 3, "annotation autoscaling.knative.dev/min-scale (app.yaml:7)")
	in.Above.Env = EnvLayer([]string{"ROUSE_MIN_SCALE=4", "PATH=/bin"})
	check("env", 4, "env min-scale")
	in.Above.Flags = map[string]string{"min-scale": "5"}
	check("flag", 5, "flag min-scale")
}

func TestAllFaultsAtOnce(t *testing.T) {
	in := Input{
		ID:                   hello,
		ContainerConcurrency: ptr(-1),
		TimeoutSeconds:       ptr(601),
		Annotations: map[string]string{
			"autoscaling.knative.dev/target":        "0.001",
			"autoscaling.knative.dev/window":        "5s",
			"rouse.dev/burst":                       "wild",
			"serving.knative.dev/progress-deadline": "1.5s",
		},
		Above: Layers{At: func(key string) string { return "app.yaml:" + fmt.Sprint(len(key)) }},
	}
	rev, faults := Resolve(in)
	if rev != nil {
		t.Error("a faulty input gave a snapshot")
	}
	var got []string
	for _, f := range faults {
		got = append(got, f.Error())
	}
	want := []string{
		`app.yaml:30: autoscaling.knative.dev/target = "0.001": must be a number of at least 0.01`,
		`app.yaml:30: autoscaling.knative.dev/window = "5s": must be a duration with a unit in [6s, 1h0m0s] in whole multiples of 1s`,
		`app.yaml:37: serving.knative.dev/progress-deadline = "1.5s": must be a duration with a unit of at least 0s in whole multiples of 1s`,
		`app.yaml:15: rouse.dev/burst = "wild": must be one of default, drain-aware`,
		`containerConcurrency = "-1": must be a whole number in [0, 1000]`,
		`timeoutSeconds = "601": must be a whole number in [1, 600]`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("faults (-want +got):\n%s", d)
	}
}

func TestUnknownKeysAreNamed(t *testing.T) {
	data := map[string]string{"stable-window": "60s", "stable_window": "1s", "_example": "…", "a": ""}
	if d := cmp.Diff([]string{"a", "stable_window"}, UnknownKeys(data)); d != "" {
		t.Error(d)
	}
	for k := range map[string]bool{"pod-autoscaler-class": true, "max-scale-limit": true} {
		if u := UnknownKeys(map[string]string{k: ""}); len(u) > 0 {
			t.Errorf("%v is unknown", u)
		}
	}
}

func TestGracePeriodOfARevision(t *testing.T) {
	rev, faults := Resolve(Input{ID: hello, Annotations: map[string]string{PrefixAutoscaling + "scale-to-zero-grace-period": "5s"}})
	if len(faults) > 0 || rev.Scaling.ScaleToZeroGrace.V != 5*time.Second {
		t.Errorf("grace = %v, faults %v, want 5s", rev.Scaling.ScaleToZeroGrace, faults)
	}
	if got := rev.Policy().ScaleToZeroGrace; got != 5*time.Second {
		t.Errorf("policy's grace = %s, want 5s", got)
	}
}

func TestStoreKeepsTheLastValidSnapshot(t *testing.T) {
	var s Store
	var heard []string
	cancel := s.Subscribe(func(c Change) {
		switch {
		case c.Old == nil:
			heard = append(heard, "came")
		case c.New == nil:
			heard = append(heard, "went")
		default:
			heard = append(heard, fmt.Sprint(Diff(c.Old, c.New)[0].Key))
		}
	})
	in := Input{ID: hello, Annotations: map[string]string{}}
	in.Annotations[PrefixAutoscaling+"target"] = "10"
	if f := s.Update(in); len(f) > 0 {
		t.Fatal(f)
	}
	cell := s.Cell(hello)
	in.Annotations[PrefixAutoscaling+"target"] = "x"
	if f := s.Update(in); len(f) != 1 || cell.Load().Scaling.Total.V != 10 {
		t.Errorf("after a bad update: faults %v, target %v, want one fault and 10", f, cell.Load().Scaling.Total)
	}
	in.Annotations[PrefixAutoscaling+"target"] = "20"
	in.ContainerConcurrency = ptr(5)
	if f := s.Update(in); len(f) != 1 || !strings.Contains(f[0].Error(), "new revision") || cell.Load().Scaling.Total.V != 10 {
		t.Errorf("after a change that is not live: faults %v, target %v", f, cell.Load().Scaling.Total)
	}
	in.ContainerConcurrency = nil
	if f := s.Update(in); len(f) != 0 || cell.Load().Scaling.Total.V != 20 {
		t.Errorf("after a good update: faults %v, target %v, want 20", f, cell.Load().Scaling.Total)
	}
	s.Remove(hello)
	cancel()
	s.Swap(cell.Load())
	if d := cmp.Diff([]string{"came", "target", "went"}, heard); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
}

func TestEverySettingIsListed(t *testing.T) {
	rev, _ := Resolve(Input{ID: hello})
	for _, v := range rev.Values() {
		found := false
		for _, s := range settings {
			found = found || s.key == v.Name
		}
		if !found {
			t.Errorf("%s is not in the table of settings, so Live does not know it", v.Name)
		}
	}
	if !Live("min-scale") || Live("containerConcurrency") || Live("nonsense") || Live("") {
		t.Error("Live is wrong about min-scale, containerConcurrency, nonsense or the empty key")
	}
}

func TestEnvironment(t *testing.T) {
	var dst struct {
		Port   int    `env:"PORT,required"`
		Name   string `env:"NAME,notEmpty"`
		Nested struct {
			Wait time.Duration `env:"WAIT" envDefault:"1s"`
		}
		Verbose bool `env:"VERBOSE"`
	}
	faults := FromEnviron([]string{"NAME=", "WAIT=x", "VERBOSE=maybe"}, &dst)
	var keys []string
	for _, f := range faults {
		keys = append(keys, f.Key)
	}
	want := []string{"PORT", "NAME", "WAIT", "VERBOSE"}
	if d := cmp.Diff(want, keys); d != "" {
		t.Errorf("faulty variables (-want +got):\n%s\n%v", d, Join(faults))
	}
	if faults := FromEnviron([]string{"PORT=1", "NAME=a"}, &dst); len(faults) > 0 || dst.Nested.Wait != time.Second {
		t.Errorf("faults %v, WAIT %s, want none and 1s", faults, dst.Nested.Wait)
	}
}

// TestServiceLinks: Services whose names make a setting's name set nothing.
func TestServiceLinks(t *testing.T) {
	type settings struct {
		Port   uint16 `env:"ROUSE_ADMIN_PORT" envDefault:"8022"`
		Nested struct {
			Serving uint16 `env:"SERVING_PORT,required"`
			URL     string `env:"ROUSE_URL"`
		}
	}
	for _, tc := range []struct {
		environ []string
		port    uint16
		links   []string
		faults  int
	}{
		{[]string{"SERVING_PORT=1", "ROUSE_ADMIN_PORT=tcp://10.96.0.7:80", "ROUSE_ADMIN_SERVICE_HOST=10.96.0.7", "OTHER_PORT=tcp://10.96.0.7:80"}, 8022, []string{"ROUSE_ADMIN_PORT"}, 0},
		{[]string{"SERVING_PORT=1", "ROUSE_ADMIN_PORT=udp://[fd00:10:96::7]:53"}, 8022, []string{"ROUSE_ADMIN_PORT"}, 0},
		{[]string{"SERVING_PORT=sctp://10.96.0.7:80", "ROUSE_ADMIN_PORT=81"}, 81, []string{"SERVING_PORT"}, 1}, // required: not set
		{[]string{"SERVING_PORT=1", "ROUSE_ADMIN_PORT=tcp://10.96.0.7"}, 0, nil, 1},
		{[]string{"SERVING_PORT=1", "ROUSE_URL=tcp://10.96.0.7:80"}, 8022, nil, 0}, // no name that kubelet gives
	} {
		var s settings
		faults := FromEnviron(tc.environ, &s)
		if links := ServiceLinks(tc.environ, &s); len(faults) != tc.faults || !slices.Equal(links, tc.links) || len(faults) == 0 && s.Port != tc.port {
			t.Errorf("%q: port %d, links %q, faults %v; want %d, %q, %d", tc.environ, s.Port, links, faults, tc.port, tc.links, tc.faults)
		}
	}
}

// TestValidAnnotationsStayInBounds: whatever is accepted gives a policy that is sane.
func TestValidAnnotationsStayInBounds(t *testing.T) {
	values := rapid.SampledFrom([]string{"", "-1", "0", "0.01", "1", "1.5", "2", "3", "70", "101", "1e9", "NaN", "Inf", "6s", "90s", "1h", "2h", "6.5s", "rps", "concurrency", "x"})
	rapid.Check(t, func(t *rapid.T) {
		annotations := map[string]string{}
		for _, k := range AnnotationKeys() {
			if rapid.Bool().Draw(t, "has "+k) {
				annotations[PrefixAutoscaling+k] = values.Draw(t, k)
			}
		}
		rev, faults := Resolve(Input{ID: hello, Annotations: annotations})
		if (rev == nil) != (len(faults) > 0) {
			t.Fatalf("snapshot %v with faults %v", rev, faults)
		}
		if rev == nil {
			return
		}
		p := rev.Policy()
		if p.Targets[0].Value < TargetMin || p.Targets[0].Value > p.Targets[0].Total && p.Targets[0].Total >= TargetMin {
			t.Fatalf("target %v", p.Targets[0])
		}
		if p.PanicWindow < time.Second || p.PanicWindow > p.StableWindow || p.MaxScale > 0 && p.MinScale > p.MaxScale {
			t.Fatalf("policy %+v", p)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("target", "10", "stable-window", "6s")
	f.Fuzz(func(t *testing.T, k, v, ck, cv string) {
		base, faults := ParseAutoscaler(map[string]string{ck: cv}, nil)
		if len(faults) == 0 && base.StableWindow.V < WindowMin {
			t.Errorf("%s=%q gave a stable window of %s", ck, cv, base.StableWindow)
		}
		for _, prefix := range []string{PrefixAutoscaling, PrefixServing, PrefixRouse} {
			Resolve(Input{ID: hello, Annotations: map[string]string{prefix + k: v}})
		}
	})
}

// TestFieldsThatCameByAnnotation: origins and faults name what was written.
func TestFieldsThatCameByAnnotation(t *testing.T) {
	at := func(key string) string { return "app.yaml:" + key[len(PrefixRouse):] }
	given := func(value string) Input {
		in := Input{ID: hello, Annotations: map[string]string{}, Above: Layers{At: at}}
		for _, key := range SpecAnnotations() {
			in.Annotations[key] = value
		}
		return in
	}
	in := given("7")
	if faults := in.SpecFromAnnotations(); len(faults) > 0 {
		t.Fatal(faults)
	}
	rev, faults := Resolve(in)
	if rev == nil {
		t.Fatal(faults)
	}
	for key, got := range map[string]*Origin{"container-concurrency": rev.ContainerConcurrency.Origin, "timeout-seconds": rev.Timeout.Origin,
		"response-start-timeout-seconds": rev.ResponseStartTimeout.Origin, "idle-timeout-seconds": rev.IdleTimeout.Origin} {
		if want := (Origin{Annotation, PrefixRouse + key, "app.yaml:" + key}); *got != want {
			t.Errorf("origin %s, want %s", got, want)
		}
	}
	for _, value := range []string{"-7", "many"} {
		in := given(value)
		faults := in.SpecFromAnnotations()
		_, more := Resolve(in)
		faults = append(faults, more...)
		if len(faults) != 4 {
			t.Fatalf("faults %v of %s, want four", faults, value)
		}
		for i, key := range SpecAnnotations() {
			if f := faults[i]; f.Key != key || f.Where != at(key) {
				t.Errorf("fault %v of %s, want one of %s at %s", f, value, key, at(key))
			}
		}
	}
}

package manifest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/route"
)

const hello = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/target: "10"
    spec:
      timeoutSeconds: 60
      containers:
      - image: example.test/hello
        resources: {}
`

func load(t *testing.T, opts Options, docs ...string) (*Set, Diagnostics) {
	t.Helper()
	return Load([]Source{{Name: "app.yaml", Data: []byte(strings.Join(docs, "---\n"))}}, opts)
}

func mustLoad(t *testing.T, docs ...string) *Set {
	t.Helper()
	set, diags := load(t, Options{}, docs...)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return set
}

func TestStrictRefusesWhatHasNoEffect(t *testing.T) {
	_, diags := load(t, Options{}, hello)
	if len(diags.Errors()) != 0 || len(diags.Warnings()) != 1 {
		t.Errorf("lenient: %v, want one warning", diags)
	}
	_, diags = load(t, Options{Strict: true}, hello)
	if len(diags.Errors()) != 1 || len(diags.Warnings()) != 0 || diags.Err() == nil {
		t.Errorf("strict: %v, want one error", diags)
	}
}

// TestClassHPA: what is scaled otherwise than it says is told, with what to write instead.
func TestClassHPA(t *testing.T) {
	const service = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/class: hpa.autoscaling.knative.dev
        autoscaling.knative.dev/metric: METRIC
    spec: {containers: [{image: x}]}
`
	warnings := map[string]int{"cpu": 1, "queue-depth": 2}
	for metric, want := range map[string][]string{
		"cpu":         {"app.yaml:8: warning", "make it kpa.autoscaling.knative.dev, which takes CPU and memory"},
		"queue-depth": {"app.yaml:8: warning", `app.yaml:9: warning: Service default/hello: spec.template.metadata.annotations[autoscaling.knative.dev/metric]: metric "queue-depth" is measured by nobody`},
	} {
		set, diags := load(t, Options{}, strings.Replace(service, "METRIC", metric, 1))
		for _, w := range want {
			if len(set.Services) != 1 || len(diags.Errors()) > 0 || len(diags) != warnings[metric] || !strings.Contains(diags.String(), w) {
				t.Errorf("metric %s: %s\nwant %q", metric, diags, w)
			}
		}
	}
}

func TestImageIsReportedAtItsLine(t *testing.T) {
	doc := strings.Replace(hello, "test/hello", "test/other", 1)
	_, diags := load(t, Options{Images: &Images{}}, doc)
	errs := diags.Errors()
	if len(errs) != 1 || errs[0].Where() != "app.yaml:12" || errs[0].Path != "spec.template.spec.containers[0].image" {
		t.Errorf("Load = %v, want one error at app.yaml:12", errs)
	}
	if _, diags := load(t, Options{Images: &Images{}}, hello); diags.Err() != nil {
		t.Errorf("built-in image: %v", diags)
	}
}

func TestNothingToRun(t *testing.T) {
	_, diags := Load(nil, Options{})
	if diags.Err() == nil {
		t.Error("Load of nothing succeeded")
	}
	_, diags = load(t, Options{}, "# only a comment\n")
	if err := diags.Err(); err == nil || !strings.Contains(err.Error(), "nothing to run") {
		t.Errorf("Load of a comment = %v, want nothing to run", err)
	}
}

func TestWhere(t *testing.T) {
	set := mustLoad(t, hello)
	s := &set.Services[0]
	for path, want := range map[string]string{
		"spec.template.spec.timeoutSeconds":            "app.yaml:10",
		"spec.template.spec.containerConcurrency":      "app.yaml:9", // not written: the enclosing field
		"spec.template.spec.containers[0].image":       "app.yaml:12",
		"spec.template.spec.containers[7].env[3].name": "app.yaml:11",
		"spec.template.metadata.annotations[a.b/c]":    "app.yaml:7",
		"":                  "app.yaml:1",
		"nowhere.at.all[0]": "app.yaml:1",
	} {
		if got := s.Where(path); got != want {
			t.Errorf("Where(%q) = %q, want %q", path, got, want)
		}
	}
	if got := s.WhereAnnotation("autoscaling.knative.dev/target"); got != "app.yaml:8" {
		t.Errorf("WhereAnnotation = %q, want app.yaml:8", got)
	}
}

func TestConfigInput(t *testing.T) {
	set := mustLoad(t, hello, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata:\n  stable-window: 30s\n")
	s := &set.Services[0]
	rev, faults := config.Resolve(s.ConfigInput(s.Revision(1, "u1"), set.Autoscaler(), config.Layers{}))
	if err := config.Join(faults); err != nil {
		t.Fatal(err)
	}
	if rev.Timeout.V != time.Minute || rev.Timeout.Where != "app.yaml:10" {
		t.Errorf("timeout = %v from %v, want 1m0s from app.yaml:10", rev.Timeout.V, rev.Timeout.Origin)
	}
	if rev.Scaling.Total.V != 10 || rev.Scaling.Total.Where != "app.yaml:8" {
		t.Errorf("target = %v from %v, want 10 from app.yaml:8", rev.Scaling.Total.V, rev.Scaling.Total.Origin)
	}
	if rev.Scaling.StableWindow.V != 30*time.Second || rev.Scaling.StableWindow.Where != "app.yaml:19" {
		t.Errorf("window = %v from %v, want 30s from app.yaml:19", rev.Scaling.StableWindow.V, rev.Scaling.StableWindow.Origin)
	}
	if rev.ContainerConcurrency.IsSet() {
		t.Errorf("containerConcurrency is set by %v, want the default", rev.ContainerConcurrency.Origin)
	}
	if rev.ID.Name != "hello-00001" || rev.ID.Generation != 1 {
		t.Errorf("revision = %+v, want hello-00001", rev.ID)
	}
}

func TestRevisionNames(t *testing.T) {
	long := strings.Repeat("a", 60)
	for _, tc := range []struct {
		service, template string
		generation        int64
		want              string
	}{
		{"hello", "", 1, "hello-00001"},
		{"hello", "", 123456, "hello-123456"},
		{"hello", "hello-blue", 7, "hello-blue"},
		{long, "", 1, strings.Repeat("a", 25) + "cc7ed669cf88f201c3297c6a91e1d18d-00001"},
	} {
		s := Service{Object: Object{Name: tc.service}, Template: Template{Name: tc.template}}
		got := s.RevisionName(tc.generation)
		if got != tc.want || len(got) > maxLabel {
			t.Errorf("RevisionName(%d) of %s = %q, want %q", tc.generation, tc.service, got, tc.want)
		}
	}
}

func TestHashSeesEveryChangeButTheName(t *testing.T) {
	hash := func(doc string) string { return mustLoad(t, doc).Services[0].Template.Hash() }
	base := hash(hello)
	if got := hash("# a comment moves the lines\n\n" + hello); got != base {
		t.Errorf("hash after a comment = %s, want %s", got, base)
	}
	if got := hash(strings.Replace(hello, "    metadata:\n", "    metadata:\n      name: hello-x\n", 1)); got != base {
		t.Errorf("hash of a named template = %s, want %s", got, base)
	}
	if got := hash(strings.Replace(hello, `"10"`, `"11"`, 1)); got != base {
		t.Errorf("hash after a change of the target, which is live, = %s, want %s", got, base)
	}
	for _, edit := range [][2]string{{"autoscaling.knative.dev/target", "example.test/team"}, {"Seconds: 60", "Seconds: 61"}, {"test/hello", "test/bye"}} {
		if got := hash(strings.Replace(hello, edit[0], edit[1], 1)); got == base {
			t.Errorf("hash after %q = the same", edit)
		}
	}
}

func TestResolveTraffic(t *testing.T) {
	sources, err := Open(nil, "testdata/cases/service-traffic.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set, _ := Load(sources, Options{})
	s := &set.Services[0]
	all := func(string) bool { return true }
	got, diags := s.ResolveTraffic("payments-00003", all)
	want := []TrafficTarget{
		{Tag: "current", RevisionName: "payments-00001", Percent: 80},
		{Tag: "candidate", RevisionName: "payments-00002", Percent: 20},
		{Tag: "latest", RevisionName: "payments-00003", LatestRevision: true},
	}
	if diff := cmp.Diff(want, got); diff != "" || len(diags) != 0 {
		t.Errorf("ResolveTraffic (-want +got):\n%s%v", diff, diags)
	}
	_, diags = s.ResolveTraffic("payments-00003", func(r string) bool { return r != "payments-00002" })
	if len(diags) != 1 || diags[0].Line != 13 {
		t.Errorf("ResolveTraffic with a revision missing = %v, want one fault in line 13", diags)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.yml", "c.json", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Open(strings.NewReader("in"), dir, "-", filepath.Join(dir, "notes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range got {
		names = append(names, filepath.Base(s.Name)+"="+string(s.Data))
	}
	want := []string{"a.yml=a.yml", "b.yaml=b.yaml", "c.json=c.json", "stdin=in", "notes.txt=notes.txt"}
	if !slices.Equal(names, want) {
		t.Errorf("Open = %q, want %q", names, want)
	}
	for _, bad := range []string{filepath.Join(dir, "none.yaml"), t.TempDir()} {
		if _, err := Open(nil, bad); err == nil {
			t.Errorf("Open(%q) succeeded, want an error", bad)
		}
	}
}

// TestPassedOver: what is not read in a directory is told, but for what nobody expects to be.
func TestPassedOver(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"sub", "given", ".git"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a.yaml", "b.YAML", "c.Json", "d.txt", ".e.YML", "f.YML"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("a: b\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := PassedOver(dir+"/", "-", filepath.Join(dir, "given"), filepath.Join(dir, "f.YML"), filepath.Join(dir, "a.yaml"), filepath.Join(dir, "none"))
	var names []string
	for _, w := range got {
		path, _, _ := strings.Cut(w, " is passed over: ")
		names = append(names, filepath.Base(path))
	}
	if want := []string{"b.YAML", "c.Json", "sub"}; !slices.Equal(names, want) {
		t.Errorf("PassedOver = %q, want %q", got, want)
	}
}

// TestOpenTakesNoPart: what is cut at the bound must not pass for the whole manifest.
func TestOpenTakesNoPart(t *testing.T) {
	long := strings.Repeat("# \n", maxBytes/3+1)
	file := filepath.Join(t.TempDir(), "long.yaml")
	if err := os.WriteFile(file, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"-", file} {
		if _, err := Open(strings.NewReader(long), path); err == nil || !strings.Contains(err.Error(), tooLong) {
			t.Errorf("Open(%q) = error %v, want one that says that it %s", path, err, tooLong)
		}
	}
}

// TestExamplesAreStrict holds the project's own examples to having no field without effect.
func TestExamplesAreStrict(t *testing.T) {
	sources, err := Open(nil, "../../examples")
	if err != nil {
		t.Fatal(err)
	}
	options := Options{Strict: true, Images: &Images{}, Others: []string{"sources.knative.dev/KafkaSource"}} // as `rouse up` loads them
	if _, diags := Load(sources, options); len(diags) > 0 {
		t.Errorf("examples:\n%s", diags)
	}
}

// TestAliasesDoNotExplode loads the classic bomb: nine levels of ten aliases each.
func TestAliasesDoNotExplode(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: bomb}\nspec:\n  template:\n    spec:\n      containers:\n      - image: hello\n        args: &a [")
	b.WriteString(strings.Repeat("x, ", 5000) + "]\n        env: []\n")
	for range 2000 {
		b.WriteString("      - {image: hello, args: *a}\n")
	}
	_, diags := load(t, Options{}, b.String())
	if err := diags.Err(); err == nil || !strings.Contains(err.Error(), "have more than") {
		t.Errorf("Load of a bomb = %.200s, want a fault that names the bound", diags)
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*.yaml")
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, false)
	}
	f.Add([]byte("a: &a [*a]\n"), true)
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: &x [*x]\n"), true)
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: &m\n  <<: *m\n  name: x\n"), true)
	f.Fuzz(func(t *testing.T, data []byte, strict bool) {
		set, diags := Load([]Source{{Name: "f.yaml", Data: data}}, Options{Strict: strict, Images: &Images{}, InterceptorRoutes: true})
		if len(set.Services) == 0 && diags.Err() == nil {
			t.Error("nothing to run, and no error")
		}
		if strict && len(diags.Warnings()) > 0 {
			t.Errorf("strict load with warnings: %v", diags)
		}
		for i := range set.Services {
			s := &set.Services[i]
			if s.Template.Serving().ReadinessProbe == nil || s.RevisionName(1) == "" || len(s.Traffic) == 0 {
				t.Errorf("incomplete service %+v", s)
			}
			s.Template.Hash()
			s.Where("spec.template.spec.containers[0].image")
		}
		for i := range set.InterceptorRoutes {
			set.InterceptorRoutes[i].Routes(route.Route{Name: "s", Hosts: []string{"s.test"}})
		}
	})
}

// TestFieldsByAnnotation: what a plain Deployment writes as annotations counts in a Service, too, beneath its fields.
func TestFieldsByAnnotation(t *testing.T) {
	const annotated = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: hello}\nspec:\n  template:\n    metadata:\n      annotations:\n" +
		"        rouse.dev/container-concurrency: \"3\"\n        rouse.dev/timeout-seconds: \"20\"\n        rouse.dev/response-start-timeout-seconds: \"10\"\n" +
		"        rouse.dev/idle-timeout-seconds: \"5\"\n    spec:\n      containers: [{image: example.test/app}]\n"
	s := &mustLoad(t, annotated).Services[0]
	rev, faults := config.Resolve(s.ConfigInput(s.Revision(1, "u"), config.DefaultAutoscaler(), config.Layers{}))
	if err := config.Join(faults); err != nil {
		t.Fatal(err)
	}
	if rev.ContainerConcurrency.V != 3 || rev.Timeout.V != 20*time.Second || rev.ResponseStartTimeout.V != 10*time.Second || rev.IdleTimeout.V != 5*time.Second {
		t.Errorf("resolved %v, %v, %v, %v; want the annotations", rev.ContainerConcurrency, rev.Timeout, rev.ResponseStartTimeout, rev.IdleTimeout)
	}
	s = &mustLoad(t, strings.Replace(annotated, "    spec:\n      containers", "    spec:\n      timeoutSeconds: 600\n      containers", 1)).Services[0]
	rev, _ = config.Resolve(s.ConfigInput(s.Revision(1, "u"), config.DefaultAutoscaler(), config.Layers{}))
	if rev.Timeout.V != 600*time.Second || rev.ResponseStartTimeout.V != 10*time.Second {
		t.Errorf("timeouts %v and %v, want 10m0s of the field and 10s of the annotation", rev.Timeout, rev.ResponseStartTimeout)
	}
	for _, bad := range []string{`concurrency: "3"`, `timeout-seconds: "20"`} {
		key, _, _ := strings.Cut(bad, ":")
		_, diags := Load([]Source{{Name: "app.yaml", Data: []byte(strings.Replace(annotated, bad, key+`: "-1000"`, 1))}}, Options{})
		if len(diags) == 0 || diags[0].Severity != Error || !strings.Contains(diags.String(), "must be a whole number") {
			t.Errorf("%s of -1000 gave %v, want an error", key, diags)
		}
	}
	_, diags := Load([]Source{{Name: "app.yaml", Data: []byte(strings.Replace(annotated, `"3"`, "many", 1))}}, Options{})
	if len(diags) != 1 || diags[0].Line != 8 || !strings.Contains(diags[0].String(), "rouse.dev/container-concurrency]: is \"many\"") {
		t.Errorf("container-concurrency of many gave %v, want one error in line 8", diags)
	}
}

// TestOneFaultOnePlace: each of these is wrong once, and is said once, where it stands.
func TestOneFaultOnePlace(t *testing.T) {
	settings := func(data string) string {
		return hello + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata:\n" + data
	}
	for _, tc := range []struct{ text, want string }{
		{settings("  stable-window: 30\n"), "data[stable-window]: is 30, must be a text; put it in quotes"},
		{settings("  min-scale: \"0\"\n  max-scale-limit: \"9\"\n"), `data[max-scale-limit]: is "9", must be accompanied by max-scale: a whole number in [1, 9]`},
		{settings("  scale-to-zero-grace-period: 0s\n"), `data[scale-to-zero-grace-period]: is "0s", must be a duration with a unit above 0s`},
		{"a: b: c\n", "app.yaml:1: error: not valid YAML"},
		{"a: *b\n", "app.yaml: error: not valid YAML"},
	} {
		_, diags := Load([]Source{{Name: "app.yaml", Data: []byte(tc.text)}}, Options{})
		found := diags.Errors()
		if len(found) != 1 || !strings.Contains(found[0].String(), tc.want) {
			t.Errorf("%s\ngave %v, want one error with %s", tc.text, found, tc.want)
		}
	}
}

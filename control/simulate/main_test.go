package simulate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/control/simulate"
)

var update = flag.Bool("update", false, "rewrite the expected output")

const service = `apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: hello
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/max-scale: "20"
    spec:
      containerConcurrency: 1
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: config-autoscaler
data:
  stable-window: 30s
`

// lenient finds nothing wrong with a manifest: cmd/rouse has the real judge.
func lenient(io.Writer, string, []byte) error { return nil }

func command(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = simulate.Main(context.Background(), args, lenient, &out, &errs)
	return out.String(), err
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTable pins the whole output of a comparison; -update rewrites it.
func TestTable(t *testing.T) {
	got, err := command(t, "-f", write(t, "hello.yaml", service), "--shape", "burst", "--rate", "100", "--period", "2m",
		"--duration", "4m", "--work", "50ms", "--startup", "80ms", "--startup-per-pod", "10ms", "--rows", "8",
		"--set", "max-scale=0", "--compare-set", "burst=drain-aware")
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "burst.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestJSONAndPage(t *testing.T) {
	page := filepath.Join(t.TempDir(), "out.html")
	out, err := command(t, "--duration", "5m", "--period", "1m", "--json", "-", "--html", page, "--set", "target=5",
		"--compare", write(t, "other.yaml", service))
	if err != nil {
		t.Fatal(err)
	}
	var reports []simulate.Report
	if err := json.Unmarshal([]byte(out), &reports); err != nil || len(reports) != 2 {
		t.Fatalf("JSON of %d reports, %v, want 2:\n%.300s", len(reports), err, out)
	}
	if a, b := reports[0].Total, reports[1].Total; a.Requests != b.Requests || a.Requests == 0 {
		t.Errorf("%d and %d requests, want the same", a.Requests, b.Requests)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(html), "<svg"); n != 6 || strings.Contains(string(html), "ZgotmplZ") {
		t.Errorf("the page has %d plots, want 6:\n%.500s", n, html)
	}
}

func TestCurveAndRecordingFiles(t *testing.T) {
	for _, args := range [][]string{
		{"--load", write(t, "load.csv", "0,5\n60,0\n")},
		{"--recorded", write(t, "run.csv", "rouse-recording,1\nrequest,1,0.1\nstart,1,0.2\ndecision,1,1,0\ndecision,3,1,1\n")},
	} {
		out, err := command(t, append(args, "--json", "-")...)
		if err != nil || !strings.Contains(out, `"answered"`) {
			t.Errorf("simulate %v: %v\n%.200s", args, err, out)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	for _, c := range []struct {
		want string
		args []string
	}{
		{"there are only flags", []string{"app.yaml"}},
		{"no such file", []string{"-f", "/nowhere.yaml"}},
		{"neither a Knative Service", []string{"-f", write(t, "pod.yaml", "kind: Pod\n")}},
		{"neither a Knative Service", []string{"-f", write(t, "plain.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: hello}\n")}},
		{"neither a Knative Service", []string{"-f", write(t, "out.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: hello}\n")}},
		{"max-scale", []string{"-f", write(t, "bad.yaml", strings.Replace(deployment, "\"2\"", "many", 1))}},
		{"KEY=VALUE", []string{"--set", "target"}},
		{"containerConcurrency", []string{"--set", "containerConcurrency=many"}},
		{"target", []string{"--set", "target=-1"}},
		{"did you mean max-scale?", []string{"--set", "max-scle=5"}},
		{"did you mean max-scale?", []string{"--compare-set", "max-scle=5"}},
		{"--set containerConcurrency", []string{"--set", "containerConcurrency=-1"}},
		{"window", []string{"--set", "target=-1", "--set", "window=1s"}},
		{"square", []string{"--shape", "square"}},
		{"--work", []string{"--work", "soon"}},
		{"--startup", []string{"--startup", "later"}},
		{`load curve: no rows follow the heading "a,b": write lines of seconds`, []string{"--load", write(t, "words.csv", "a,b\n")}},
		{"load curve", []string{"--load", write(t, "bad.csv", "0,1\nx,y\n")}},
		{"first line", []string{"--recorded", write(t, "bad.csv", "x")}},
		{"schedule", []string{"--set", "schedule=always"}},
		{"growth", []string{"--growth", "0.5"}},
		{"cpu is not simulated", []string{"--set", "metrics=cpu=500m"}},
		{"queue limit", []string{"--queue-limit", "-1"}},
		{"flag provided but not defined", []string{"--nonsense"}},
	} {
		if _, err := command(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("simulate %v = %v, want an error with %q", c.args, err, c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	if _, err := command(t, "-h"); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("simulate -h = %v", err)
	}
}

func TestStopsWhenAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out bytes.Buffer
	if err := simulate.Main(ctx, nil, lenient, &out, &out); err == nil {
		t.Error("Main with an ended context = nil, want its error")
	}
}

// TestReproducesARealRun plays a recording of `rouse up` (two bursts, up to 34 processes, and the way back): the number of
// pods must be that of the real run, within one, at every decision. The recording was made with
//
//	rouse up -f testdata/up.yaml --record testdata/up.csv
func TestReproducesARealRun(t *testing.T) {
	out, err := command(t, "-f", filepath.Join("testdata", "up.yaml"), "--recorded", filepath.Join("testdata", "up.csv"),
		"--json", "-")
	if err != nil {
		t.Fatal(err)
	}
	var reports []simulate.Report
	if err := json.Unmarshal([]byte(out), &reports); err != nil {
		t.Fatal(err)
	}
	if m := reports[0].Recorded; m == nil || m.Worst > 1 || m.Decisions != 9 {
		t.Errorf("the replay is apart from the real run: %+v, want at most one pod at each of 9 decisions", m)
	}
}

// TestSettingsCountOrSaySo: what --set takes changes the simulation, or is said to change nothing.
func TestSettingsCountOrSaySo(t *testing.T) {
	load := []string{"--duration", "4m", "--period", "2m", "--shape", "burst", "--rate", "100", "--work", "1s"}
	plain, err := command(t, load...)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"max-scale=1", "autoscaling.knative.dev/max-scale=1", "containerConcurrency=1",
		"rouse.dev/container-concurrency=1", "queue-limit=5", "rouse.dev/queue-deadline=1ms"} {
		got, err := command(t, append(load, "--set", set)...)
		if _, rest, _ := strings.Cut(got, "\n"); err != nil || rest == "" || strings.HasSuffix(plain, rest) {
			t.Errorf("--set %s changed nothing (%v):\n%s", set, err, got)
		}
	}
	var out, errs bytes.Buffer
	if err := simulate.Main(t.Context(), append(load, "--set", "timeoutSeconds=5"), lenient, &out, &errs); err != nil || !strings.Contains(errs.String(), "timeoutSeconds") {
		t.Errorf("--set timeoutSeconds=5 = %v, said %q, want a word that it changes nothing", err, errs.String())
	}
}

const deployment = `apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: hello
  annotations:
    autoscaling.knative.dev/class: kpa.autoscaling.knative.dev
    autoscaling.knative.dev/max-scale: "2"
    rouse.dev/container-concurrency: "1"
    rouse.dev/queue-limits: "5"
    rouse.dev/inject-port: "80"
`

// TestWorkloads: an annotated Deployment is simulated by its annotations, and what nothing reads of them is said.
func TestWorkloads(t *testing.T) {
	load := []string{"--duration", "4m", "--period", "2m", "--shape", "burst", "--rate", "100", "--work", "1s", "--json", "-"}
	want, err := command(t, append(load, "--set", "max-scale=2", "--set", "containerConcurrency=1")...)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if err := simulate.Main(t.Context(), append(load, "-f", write(t, "app.yaml", deployment)), lenient, &out, &errs); err != nil {
		t.Fatal(err)
	}
	if got := strings.Replace(out.String(), "app.yaml", "defaults max-scale=2 containerConcurrency=1", 1); got != want {
		t.Errorf("the Deployment gave\n%s, want\n%s", got, want)
	}
	if s := errs.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "[rouse.dev/queue-limits]: nothing reads this annotation; did you mean rouse.dev/queue-limit?") {
		t.Errorf("said %q, want one warning of rouse.dev/queue-limits", s)
	}
}

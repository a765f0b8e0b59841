package kube

import (
	"strings"
	"testing"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/workload"
)

func TestFiles(t *testing.T) {
	f := NewFiles("shop")
	faults := f.Add("app.yaml", []byte(`# comment
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev}}
... # next
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: hello}, spec: {ports: [{port: 80}]}}
- {apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {name: h}, spec: {scaleTargetRef: {kind: Deployment, name: hello}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler}
data: {stable-window: 30s}
---
apiVersion: example.test/v1
kind: Unheard
spec: 3
---
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: k}
spec: {scaleTargetRef: {name: hello}}
---
a: {{ .Values.b }}
---
apiVersion: v1
kind: Service
metadata: {name: bad}
spec: {ports: many}
---
- just a list
`))
	if len(faults) != 3 {
		t.Fatalf("faults %v, want three", faults)
	}
	for i, want := range []string{"app.yaml:28: ", "app.yaml:30: Service: ", "app.yaml:35: no object"} {
		if !strings.HasPrefix(faults[i].Error(), want) {
			t.Errorf("fault %q, want %s…", faults[i], want)
		}
	}
	all := f.Seen(config.DefaultAutoscaler())
	if len(all) != 1 || all[0].Origin != "app.yaml:3" || all[0].Namespace != "shop" || all[0].Service.Name != "hello" || len(all[0].Problems) != 2 {
		t.Fatalf("seen %+v", all)
	}
	for _, p := range all[0].Problems {
		if p.Reason != workload.OtherAutoscaler {
			t.Errorf("problem %+v, want two rivals", p)
		}
	}
	if f.Settings["config-autoscaler"]["stable-window"] != "30s" {
		t.Errorf("settings %v", f.Settings)
	}
}

// TestFilesSetReplicas: what is left out is left to control, and a null is the same to the API server.
func TestFilesSetReplicas(t *testing.T) {
	for spec, want := range map[string]bool{"{}": false, "{replicas: null}": false, "{replicas: 0}": true, "{replicas: 3}": true} {
		for _, kind := range []string{"Deployment", "StatefulSet"} {
			f := NewFiles("shop")
			faults := f.Add("app.yaml", []byte("apiVersion: apps/v1\nkind: "+kind+"\nmetadata: {name: hello, annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev}}\nspec: "+spec+"\n"))
			if all := f.Seen(config.DefaultAutoscaler()); len(faults) > 0 || len(all) != 1 || all[0].SetsReplicas != want {
				t.Errorf("%s with spec %s: %+v, %v; want that it sets replicas: %t", kind, spec, all, faults, want)
			}
		}
	}
}

// TestFilesNameTheLine: the parser counts lines from the file's first.
func TestFilesNameTheLine(t *testing.T) {
	faults := NewFiles("shop").Add("app.yaml", []byte("a: 1\n---\nb: 2\n---\nc: 3\nd: [\n"))
	if len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), "app.yaml:5: yaml: line 6: ") {
		t.Errorf("faults %v, want one of line 6", faults)
	}
}

// TestFilesSayWhatIsWrong in the words of the file, with the line.
func TestFilesSayWhatIsWrong(t *testing.T) {
	const head = "# a comment\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: hello\n  annotations:\n"
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"a list", "- a\n- b\n", []string{"app.yaml:1: no object of Kubernetes: is a list, must be a mapping with apiVersion and kind"}},
		{"a text", "just words\n", []string{"app.yaml:1: no object of Kubernetes: is a text, must be a mapping"}},
		{"a number", "5\n", []string{"app.yaml:1: no object of Kubernetes: is a number, must be a mapping"}},
		{"annotations without quotes", head + "    rouse.dev/container-concurrency: 5\n    a: {b: c}\n    b: [c]\n    c: \n    rouse.dev/pod-probe: off\n", []string{
			"app.yaml:2: Deployment: metadata.annotations.a (line 8) is a mapping, must be a text",
			"app.yaml:2: Deployment: metadata.annotations.b (line 9) is a list, must be a text",
			"app.yaml:2: Deployment: metadata.annotations.rouse.dev/container-concurrency (line 7) is 5, must be a text; put it in quotes",
			"app.yaml:2: Deployment: metadata.annotations.rouse.dev/pod-probe (line 11) is false, must be a text; put it in quotes",
		}},
		{"of the pods", head + "    a: b\nspec:\n  template:\n    metadata:\n      labels: {version: 1}\n", []string{"spec.template.metadata.labels.version (line 11) is 1"}},
		{"another field", "apiVersion: v1\nkind: Service\nspec:\n  ports: many\n", []string{"app.yaml:1: Service: spec.ports (line 4) is a text, must be a list"}},
		{"a number for a text", "apiVersion: v1\nkind: Service\nmetadata: {name: 5}\n", []string{"Service: metadata.name (line 3) is a number, must be a text; put it in quotes"}},
		{"two items", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, spec: 3}\n- {apiVersion: v1, kind: Service, spec: 3}\n", []string{"app.yaml:4: Service: spec (line 4) is a number, must be a mapping", "app.yaml:5: Service: spec (line 5)"}},
	} {
		faults := NewFiles("shop").Add("app.yaml", []byte(tc.text))
		if len(faults) != len(tc.want) {
			t.Errorf("%s: faults %v, want %d", tc.name, faults, len(tc.want))
			continue
		}
		for i, want := range tc.want {
			if got := faults[i].Error(); !strings.Contains(got, want) || strings.Contains(got, "json:") || strings.Contains(got, "Go ") {
				t.Errorf("%s: fault %q, want %q", tc.name, got, want)
			}
		}
	}
}

// TestFilesNameLines: what is said of an annotation names its own line, also of one of many in a List.
func TestFilesNameLines(t *testing.T) {
	text := `apiVersion: apps/v1
kind: DeploymentList
items:
- metadata:
    name: one
    annotations:
      autoscaling.knative.dev/class: kpa.autoscaling.knative.dev
      autoscaling.knative.dev/tarjet: "1"
- metadata:
    name: two
  spec:
    template:
      metadata:
        annotations:
          autoscaling.knative.dev/class: kpa.autoscaling.knative.dev
          rouse.dev/timeout-seconds: "7000"
`
	f := NewFiles("shop")
	if faults := f.Add("app.yaml", []byte(text)); len(faults) > 0 {
		t.Fatal(faults)
	}
	all := f.Seen(config.DefaultAutoscaler())
	if len(all) != 2 || all[0].Origin != "app.yaml:4" || all[1].Origin != "app.yaml:9" {
		t.Fatalf("seen %+v, want both Deployments where they begin", all)
	}
	for i, want := range []string{"nothing reads autoscaling.knative.dev/tarjet (app.yaml:8): remove it", `rouse.dev/timeout-seconds = "7000": must be a whole number in [1, 600] (app.yaml:16)`} {
		if got := all[i].Problems[0].Text; !strings.Contains(got, want) {
			t.Errorf("problem %q, want %q", got, want)
		}
	}
}

// FuzzFiles: whatever a file holds is read or refused.
func FuzzFiles(f *testing.F) {
	f.Add([]byte("---\napiVersion: v1\nkind: Service\nspec: {ports: [{port: 80}]}\n--- {}\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		files := NewFiles("default")
		files.Add("x", text)
		files.Seen(config.DefaultAutoscaler())
	})
}

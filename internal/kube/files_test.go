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

// FuzzFiles: whatever a file holds is read or refused.
func FuzzFiles(f *testing.F) {
	f.Add([]byte("---\napiVersion: v1\nkind: Service\nspec: {ports: [{port: 80}]}\n--- {}\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		files := NewFiles("default")
		files.Add("x", text)
		files.Seen(config.DefaultAutoscaler())
	})
}

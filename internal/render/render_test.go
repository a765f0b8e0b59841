package render

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/inject"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

var full = Options{Sidecar: &inject.Options{Image: "rouse/queueproxy:v1"}, NetworkPolicy: true, Gateway: "infra/public", Domain: "example.org"}

func TestFile(t *testing.T) {
	for name, o := range map[string]Options{
		"service": {Sidecar: full.Sidecar}, "service-rps": {}, "service-traffic": full, "configmaps": {}, "h2c": full, "faults": {}, "streams": {},
		"names": {Sidecar: full.Sidecar}, "env": {}, "containers": {Sidecar: full.Sidecar}, "labels": {NetworkPolicy: true}, "cluster-local": full, "cluster-local-split": full,
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			r, err := File(name+".yaml", text, o)
			if err != nil {
				golden(t, filepath.Join("testdata", name+".err"), []byte(err.Error()+"\n"))
				return
			}
			golden(t, filepath.Join("testdata", name+".out"), append(r.YAML, []byte("# "+strings.Join(r.Warnings, "\n# ")+"\n")...))
		})
	}
}

// TestRenderedIsInjectedOnce: what was rendered with a sidecar is left alone by inject.
func TestRenderedIsInjectedOnce(t *testing.T) {
	for _, name := range []string{"service", "h2c", "service-traffic"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := File(name, text, full)
		if err != nil {
			t.Fatal(err)
		}
		again, err := inject.Manifest(name, r.YAML, *full.Sidecar)
		if err != nil || string(again.YAML) != string(r.YAML) || len(again.Injected) == 0 {
			t.Errorf("%s: injecting what was rendered changes it (%v):\n%s", name, err, cmp.Diff(string(r.YAML), string(again.YAML)))
		}
	}
}

// TestWebhookFindsItAll: pods that are left to the webhook get the sidecar that they would have got here.
func TestWebhookFindsItAll(t *testing.T) {
	text := []byte(`apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: shop}
spec:
  template:
    metadata: {annotations: {queue.sidecar.serving.knative.dev/cpu-resource-request: 20m, rouse.dev/inject-ports: serving=9012}}
    spec: {containerConcurrency: 3, timeoutSeconds: 60, containers: [{image: a}]}
`)
	here, err := File("shop", text, Options{Sidecar: full.Sidecar})
	if err != nil {
		t.Fatal(err)
	}
	left, err := File("shop", text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var want, made struct {
		Spec struct {
			Template map[string]any `json:"template"`
		} `json:"spec"`
	}
	if err := errors.Join(yaml.Unmarshal(documents(here.YAML)[0].text, &want), yaml.Unmarshal(documents(left.YAML)[0].text, &made)); err != nil {
		t.Fatal(err)
	}
	meta, _ := made.Spec.Template["metadata"].(map[string]any)
	if labels, _ := meta["labels"].(map[string]any); labels[inject.Inject] != "enabled" {
		t.Errorf("the pods have the labels %v, by which no webhook finds them", labels)
	}
	meta["name"] = "shop"
	pod, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": made.Spec.Template["spec"]})
	if err != nil {
		t.Fatal(err)
	}
	patch, _, err := inject.Pod(pod, "default", *full.Sidecar)
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := want.Spec.Template["spec"].(map[string]any)
	for _, op := range patch {
		b, err := json.Marshal(op.Value)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(spec[strings.TrimPrefix(op.Path, "/spec/")], got); d != "" {
			t.Errorf("%s, by render and by the webhook (-render +webhook):\n%s", op.Path, d)
		}
	}
	if len(patch) < 3 {
		t.Errorf("the webhook changes %d fields, want containers, initContainers and the grace period", len(patch))
	}
}

// TestKept: what is not rendered comes out as it went in, to the byte.
func TestKept(t *testing.T) {
	const service = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: one}\nspec: {template: {spec: {containers: [{image: a}]}}}\n"
	for name, kept := range map[string]string{
		"newlines at the end": "apiVersion: v1\nkind: ConfigMap\ndata:\n  motd: |+\n    hello\n\n\n",
		"indented":            "  apiVersion: v1\n  kind: ConfigMap\n  data: {a: b}\n",
		"blank lines":         "\n# a comment\n\napiVersion: v1\nkind: ConfigMap\n# the end\n\n",
		"JSON":                "{\"apiVersion\": \"v1\",\n \"kind\": \"ConfigMap\", \"data\": {\"a\": \"\\ud83d\\ude00\\/\"}}\n",
	} {
		for _, o := range []Options{{}, full} {
			for _, text := range []string{service + "---\n" + kept, kept + "---\n" + service, service + "...\n---\n" + kept} {
				r, err := File("x.yaml", []byte(text), o)
				if out := string(r.YAML); err != nil || !strings.HasPrefix(out, kept+"---\n") && !strings.HasSuffix(out, "\n---\n"+kept) {
					t.Errorf("%s: %v, and the document is not in what is printed:\n%s\n%s", name, err, text, out)
				}
			}
		}
	}
}

// TestKeptIsInjected: a workload that is opted in gets its sidecar, and what is wrong with one has the line of its file.
func TestKeptIsInjected(t *testing.T) {
	const opted = "\n---\n\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: hello, annotations: {rouse.dev/inject: enabled}}\n" +
		"spec: {template: {spec: {containers: [{name: user, image: x, ports: [{containerPort: 8080}]}]}}}\n"
	if r, err := File("x.yaml", []byte(opted), full); err != nil || !strings.Contains(string(r.YAML), "name: queue-proxy") {
		t.Errorf("%v, want a sidecar:\n%s", err, r.YAML)
	}
	_, err := File("x.yaml", []byte(strings.Replace(opted, "{containers:", "{hostNetwork: true, containers:", 1)), full)
	if err == nil || !strings.HasPrefix(err.Error(), "x.yaml:7: Deployment hello: spec.template.spec.hostNetwork") {
		t.Errorf("%v, want line 7 of the file", err)
	}
	if _, err := File("x.yaml", []byte("kind: A\n---\nkind: B\na: [\"\t\n"), full); err == nil || !strings.HasPrefix(err.Error(), "x.yaml: document 2: ") {
		t.Errorf("broken YAML: %v", err)
	}
}

// TestJSON: what is JSON is rendered as JSON.
func TestJSON(t *testing.T) {
	const text = `{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "one"},
		"spec": {"template": {"spec": {"containers": [{"image": "a\/b", "args": ["\ud83d\ude00 <&> \u0085"]}]}}}}`
	r, err := File("x.json", []byte(text), full)
	if err != nil {
		t.Fatal(err)
	}
	all := documents(r.YAML)
	if len(all) != 4 {
		t.Fatalf("%d documents, want a Deployment, a Service, a NetworkPolicy and an HTTPRoute:\n%s", len(all), r.YAML)
	}
	for _, d := range all {
		if !json.Valid(d.text) || yaml.Unmarshal(d.text, new(any)) != nil {
			t.Errorf("not for both decoders:\n%s", d.text)
		}
	}
	for _, want := range []string{`"image": "a/b"`, `"😀 <&> \u0085"`, `"name": "queue-proxy"`} {
		if !strings.Contains(string(all[0].text), want) {
			t.Errorf("lacks %s:\n%s", want, all[0].text)
		}
	}
}

// FuzzFile: no input makes it panic, and whatever comes out is YAML.
func FuzzFile(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.yaml") // without seeds it fuzzes all the same
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := File("x", text, full)
		if err != nil {
			return
		}
		for _, doc := range documents(r.YAML) {
			if err := yaml.Unmarshal(doc.text, new(any)); err != nil {
				t.Fatalf("%v\n%s", err, doc.text)
			}
		}
	})
}

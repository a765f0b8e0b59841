package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs rouse once.
func command(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, make(chan os.Signal), strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

const helloDeployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev}}
spec: {template: {spec: {containers: [{name: app, image: example.test/app, ports: [{containerPort: 8080}]}]}}}
`

func TestInject(t *testing.T) {
	code, out, errs := command(t, helloDeployment, "inject", "-f", "-")
	if code != 0 || !strings.Contains(out, "name: queue-proxy") || !strings.Contains(errs, "Deployment hello has the queue-proxy") {
		t.Errorf("inject = %d\n%s\n%s", code, out, errs)
	}
	if _, again, _ := command(t, out, "inject", "-f", "-"); again != out {
		t.Errorf("injecting twice is not injecting once:\n%s", again)
	}
	_, once, _ := command(t, helloDeployment, "inject", "-f", "-")
	code, out, errs = command(t, strings.Replace(once, "annotations: {", "annotations: {rouse.dev/inject: disabled, ", 1), "inject", "-f", "-")
	if code != 0 || strings.Contains(out, "queue-proxy") || !strings.Contains(errs, "Deployment hello has no queue-proxy any more") {
		t.Errorf("inject of what opts out = %d\n%s\n%s", code, out, errs)
	}
	code, out, errs = command(t, strings.Replace(helloDeployment, "containers:", "hostNetwork: true, containers:", 1), "inject", "-f", "-")
	if code != 1 || out != "" || !strings.Contains(errs, ":4: Deployment hello: spec.template.spec.hostNetwork") {
		t.Errorf("inject of a pod on the host's network = %d\n%s\n%s, want line and field", code, out, errs)
	}
	if code, _, errs = command(t, "", "inject"); code != 2 || !strings.Contains(errs, "--file") {
		t.Errorf("inject without a file = %d %s", code, errs)
	}
}

// TestJSONStreams: each object of a stream of JSON is read, whatever stands between two, and printed so that kubectl finds it.
func TestJSONStreams(t *testing.T) {
	deployment := func(name string) string {
		return `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "` + name + `", "annotations": {"rouse.dev/inject": "enabled"}},
			"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "x", "ports": [{"containerPort": 8080}]}]}}}}`
	}
	service := func(name string) string {
		return `{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "` + name + `"},
			"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}`
	}
	const plain = `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "\ud83d\ude00 \/"}}`
	for _, between := range []string{"\n", "", " ", "\n\n"} {
		code, out, errs := command(t, strings.Join([]string{plain, deployment("a"), plain, deployment("b")}, between), "inject", "-f", "-")
		if code != 0 || strings.Count(out, `"name": "queue-proxy"`) != 2 || strings.Join(kinds(t, out), " ") != "ConfigMap Deployment ConfigMap Deployment" || !strings.HasPrefix(out, plain+"\n") {
			t.Errorf("inject with %q between objects = %d\n%s\n%s, want four documents", between, code, out, errs)
		}
		code, out, errs = command(t, strings.Join([]string{service("a"), plain, service("b")}, between), "render", "-f", "-")
		if code != 0 || strings.Join(kinds(t, out), " ") != "Deployment Service ConfigMap Deployment Service" || strings.Count(out, plain) != 1 {
			t.Errorf("render with %q between objects = %d\n%s\n%s", between, code, out, errs)
		}
	}
	for _, name := range []string{"inject", "render"} {
		if code, out, errs := command(t, "{kind: A}\n{kind: B}\n", name, "-f", "-"); code != 1 || out != "" || !strings.Contains(errs, "without a marker") && !strings.Contains(errs, "document start") {
			t.Errorf("%s of what is neither a stream nor documents = %d\n%s\n%s", name, code, out, errs)
		}
	}
}

// kinds reads a stream of JSON, as jq and kubectl do.
func kinds(t *testing.T, stream string) (all []string) {
	t.Helper()
	for dec := json.NewDecoder(strings.NewReader(stream)); ; {
		var o struct{ Kind string }
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%v\n%s", err, stream)
		}
		all = append(all, o.Kind)
	}
}

// TestJSONBesideYAML: what begins with a brace is a stream of JSON to kubectl, so that documents of both begin with a marker.
func TestJSONBesideYAML(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.json"), filepath.Join(dir, "b.yaml")
	object := []byte(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "\/"}}`)
	if err := errors.Join(os.WriteFile(a, object, 0o600), os.WriteFile(b, []byte(helloDeployment), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, out, _ := command(t, "", "inject", "-f", a); out != string(object) {
		t.Errorf("a document that needs nothing is changed:\n%s", out)
	}
	if _, out, _ := command(t, "", "inject", "-f", a, "-f", a); strings.Join(kinds(t, out), " ") != "ConfigMap ConfigMap" {
		t.Errorf("two files of JSON are no stream:\n%s", out)
	}
	if _, out, _ := command(t, "", "inject", "-f", a, "-f", b); !strings.HasPrefix(out, "---\n"+string(object)+"\n---\napiVersion") {
		t.Errorf("JSON and YAML are no documents of YAML:\n%s", out)
	}
	marked := "---\n" + string(object) + "\n---\n" + helloDeployment
	if _, out, _ := command(t, marked, "inject", "-f", "-"); !strings.HasPrefix(out, "---\n"+string(object)+"\n---\napiVersion") {
		t.Errorf("documents of YAML are none any more:\n%s", out)
	}
}

func TestInjectSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.yaml", "b.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Replace(helloDeployment, "name: hello", "name: "+name[:1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "", "inject", "-f", dir)
	if code != 0 || !strings.Contains(errs, "warning: "+filepath.Join(dir, "more")+" is passed over") || strings.Count(out, "\n---\n") != 1 || strings.Count(out, "name: queue-proxy") != 2 {
		t.Errorf("inject of a folder = %d\n%s\n%s", code, out, errs)
	}
	open := filepath.Join(dir, "open.yaml") // its last line has no end
	if err := os.WriteFile(open, []byte("apiVersion: v1\nkind: ConfigMap\ndata: {a: b}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, out, _ = command(t, "", "inject", "-f", open, "-f", open); !strings.Contains(out, "\ndata: {a: b}\n---\napiVersion") {
		t.Errorf("two files whose last line has no end run together:\n%s", out)
	}
}

func TestRender(t *testing.T) {
	text, err := os.ReadFile("../../examples/hello.yaml")
	if err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, string(text), "render", "-f", "-", "--network-policy")
	for _, want := range []string{"kind: Deployment", "kind: Service", "kind: NetworkPolicy", "name: queue-proxy"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("render = %d, lacks %s\n%s\n%s", code, want, out, errs)
		}
	}
	if strings.Contains(out, "monitoring") {
		t.Error("the policy names a namespace that nobody gave")
	}
	if _, out, _ := command(t, string(text), "render", "-f", "-", "--network-policy", "--metrics-namespace", "monitoring"); !strings.Contains(out, "kubernetes.io/metadata.name: monitoring") {
		t.Errorf("the policy does not let Prometheus in:\n%s", out)
	}
	if strings.Contains(out, "serving.knative.dev/v1") || strings.Contains(out, "selector: null") {
		t.Errorf("render left something of Knative:\n%s", out)
	}
	code, _, errs = command(t, strings.Replace(string(text), "template:", "template:\n    metadata: {annotations: {autoscaling.knative.dev/target: none}}", 1), "render", "-f", "-")
	if code != 1 || !strings.Contains(errs, "autoscaling.knative.dev/target") {
		t.Errorf("render of a bad annotation = %d %s", code, errs)
	}
}

const misspelt = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/minscale: "1"
    spec:
      containerConcurency: 1
      readinessGates: []
      volumes: []
      containers: [{image: rouse.dev/samples/hello, resources: {}}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
`

// TestRenderWarns: of what is misspelt, with its place, and not of what only local processes lack.
func TestRenderWarns(t *testing.T) {
	code, out, errs := command(t, misspelt, "render", "-f", "-")
	for _, want := range []string{"stdin:8: warning: Service default/hello: spec.template.metadata.annotations[autoscaling.knative.dev/minscale]",
		"stdin:10: warning: Service default/hello: spec.template.spec.containerConcurency: unknown field; did you mean containerConcurrency?",
		"stdin:13: warning: Service default/hello: spec.template.spec.containers[0].image: rouse.dev/samples/hello"} {
		if code != 0 || !strings.Contains(errs, want) || !strings.Contains(out, "kind: Job") {
			t.Errorf("render = %d, does not say %s\n%s", code, want, errs)
		}
	}
	for _, no := range []string{"readinessGates", "volumes", "resources", "Job"} {
		if strings.Contains(errs, no) {
			t.Errorf("render warns of %s, which a cluster has:\n%s", no, errs)
		}
	}
	code, out, errs = command(t, misspelt, "render", "--strict", "-f", "-")
	if code != 1 || out != "" || !strings.Contains(errs, "stdin:10: error: ") || !strings.Contains(errs, "stdin:8: error: ") {
		t.Errorf("render --strict = %d\n%s\n%s, want it refused with both lines", code, out, errs)
	}
}

// TestRenderKeepsSources: what pods take from Secrets, fields and the like is theirs to read.
func TestRenderKeepsSources(t *testing.T) {
	code, out, errs := command(t, "", "render", "--strict", "-f", "../../internal/render/testdata/env.yaml")
	for _, kind := range []string{"secretRef", "configMapRef", "secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef", "fileKeyRef"} {
		if code != 0 || errs != "" || !strings.Contains(out, kind+":") {
			t.Errorf("render = %d, lacks %s\n%s\n%s", code, kind, out, errs)
		}
	}
}

func TestInstall(t *testing.T) {
	code, out, errs := command(t, "", "install", "--image-tag", "v3", "--set", "stable-window=30s")
	for _, want := range []string{"kind: Namespace", "kind: ClusterRole", "rouse/activator:v3", `ROUSE_TOKEN_SECRET, value: "rouse-token"`, `stable-window: "30s"`} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("install = %d, lacks %s\n%s", code, want, errs)
		}
	}
	// Whoever upgrades runs it again: what differs would break what is running.
	if _, again, _ := command(t, "", "install", "--image-tag", "v3", "--set", "stable-window=30s"); again != out {
		t.Error("the same command printed something else the second time")
	}
	if _, out, _ := command(t, "", "install", "--token-secret", "mine"); strings.Contains(out, "kind: Secret") || !strings.Contains(out, `name: "mine"`) {
		t.Error("with a Secret that is there, another was made")
	}
	code, out, errs = command(t, "", "install", "-n", "tools", "--token-secret", "mine", "--only", "access")
	if code != 0 || strings.Contains(out, "rouse-system") || strings.Contains(out, "kind: Deployment") || !strings.Contains(out, `resourceNames: ["mine"]`) {
		t.Errorf("install --only access = %d\n%s\n%s, want the rights of that installation", code, out, errs)
	}
}

// TestSimulateWarns: of what is misspelt in a manifest, with its place.
func TestSimulateWarns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(path, []byte(misspelt), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := command(t, "", "simulate", "-f", path, "--duration", "1m", "--period", "1m")
	if code != 0 || strings.Count(errs, "\n") != 2 || !strings.Contains(errs, path+":8: warning") || !strings.Contains(errs, path+":10: warning") {
		t.Errorf("simulate = %d, said %s, want warnings of lines 8 and 10", code, errs)
	}
}

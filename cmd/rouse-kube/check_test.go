package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/inject"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/workload"
)

func TestCheckCluster(t *testing.T) {
	refused := errors.New("refused")
	for _, tc := range []struct {
		name   string
		change func(*fake)
		code   int
		level  level
		text   string // of a finding of that level
	}{
		{"healthy", nil, 0, good, "0 of 0 pods ready, Service hello leads to 1 activators"},
		{"healthy: the note", nil, 0, noted, "not installed: queue-proxies come by `rouse inject` alone"},
		{"a right is missing", func(f *fake) { f.lacks = "rouse-control patch deployments.apps/scale" }, 1, failed, "may not patch deployments.apps/scale"},
		{"the token is somebody's own", func(f *fake) {
			for i := range f.components["autoscaler"].Instances {
				f.components["autoscaler"].Instances[i].Environ["ROUSE_TOKEN_SECRET"] = "mine"
			}
			f.lacks = "rouse-token" // nor does it need to
		}, 0, good, "are granted"},
		{"the token is somebody's own, out of reach", func(f *fake) {
			for i := range f.components["autoscaler"].Instances {
				f.components["autoscaler"].Instances[i].Environ["ROUSE_TOKEN_SECRET"] = "mine"
			}
			f.lacks = "mine"
		}, 1, failed, `may not get secrets "mine"`},
		{"rights can't be asked", func(f *fake) { f.refuses["granted"] = refused }, 2, unknown, "could not be asked: refused"},
		{"control is not ready", func(f *fake) { f.components["autoscaler"].Instances[0].Ready = false }, 0, warned, "1 of 2 ready"},
		{"pages can't be read", func(f *fake) { f.refuses["page"] = refused }, 2, unknown, "autoscaler-0: refused; autoscaler-1: refused"},
		{"an activator is lost", func(f *fake) { f.pages["autoscaler-1:9190/activators"] = "[]" }, 1, failed, "it is not connected to autoscaler-1"},
		{"Leases can't be read", func(f *fake) { f.refuses["shares"] = refused }, 2, unknown, "refused"},
		{"a member has died", func(f *fake) { delete(f.shares.Members, "autoscaler-1") }, 1, failed, "buckets 1, 3, 5, 7, 9, 11, 13, 15 are held by autoscaler-1"},
		{"buckets differ", func(f *fake) { f.components["autoscaler"].Instances[0].Environ["ROUSE_BUCKETS"] = "8" }, 1, failed, "different ROUSE_BUCKETS"},
		{"ranges differ", func(f *fake) {
			f.components["autoscaler"].Instances[0].Environ["ROUSE_ACTIVATOR_PORTS"] = "21000-21999"
		}, 1, failed, "different ROUSE_ACTIVATOR_PORTS"},
		{"the book can't be read", func(f *fake) { f.refuses["rouse-ports"] = refused }, 2, unknown, "refused"},
		{"the book gives the port to another", func(f *fake) { f.configMaps["rouse-ports"] = map[string]string{"20001": "shop/x/http"} }, 1, failed, "has none on the activators yet"},
		{"settings are bad", func(f *fake) { f.configMaps["config-autoscaler"] = map[string]string{"stable-window": "1"} }, 1, failed, "stable-window"},
		{"settings can't be read", func(f *fake) { f.refuses["config-autoscaler"] = refused }, 2, unknown, "refused"},
		{"the webhook is there alone", func(f *fake) {
			f.components["rouse-webhook"] = part(workload.Deployment, "rouse-webhook", 1, instance("rouse-webhook-1", 3))
		}, 1, failed, "MutatingWebhookConfiguration rouse-inject is not there"},
		{"its account lacks a right", func(f *fake) {
			f.components["rouse-webhook"] = part(workload.Deployment, "rouse-webhook", 1, instance("rouse-webhook-1", 3))
			f.bundles, f.lacks = [][]byte{nil}, "rouse-webhook get secrets"
		}, 1, failed, `may not get secrets "rouse-webhook-certs"`},
		{"its configuration is there alone", func(f *fake) { f.bundles = [][]byte{nil} }, 0, warned, "Deployment rouse-webhook is not in rouse-system"},
		{"its configuration can't be read", func(f *fake) { f.refuses["trusted"] = refused }, 2, unknown, "refused"},
		{"endpoints lead astray", func(f *fake) { f.manifests = strings.Replace(helloYAML, "10.88.0.1", "10.88.0.7", 1) }, 1, failed, "leads to 10.88.0.7, where no activator is"},
		{"pods can't be read", func(f *fake) { f.refuses["pods"] = refused }, 2, unknown, "refused"},
		{"the installation can't be read", func(f *fake) { f.refuses["component"] = refused }, 2, unknown, "refused"},
		{"the book is full", func(f *fake) {
			for i := range f.components["autoscaler"].Instances {
				f.components["autoscaler"].Instances[i].Environ["ROUSE_ACTIVATOR_PORTS"] = "20001-20001"
			}
			f.configMaps["rouse-ports"] = map[string]string{"20001": "shop/x/http"}
		}, 1, failed, "all 1 ports of 20001-20001 are taken"},
		{"workloads can't be read", func(f *fake) { f.refuses["view"] = refused }, 2, unknown, "refused"},
		{"no workload", func(f *fake) { f.manifests = "" }, 0, good, "none is annotated in namespace shop"},
		{"settings that the webhook does not see", func(f *fake) {
			f.manifests = strings.NewReplacer("annotations: {", `annotations: {rouse.dev/container-concurrency: "20", `, "labels: {app: hello}", "labels: {app: hello, rouse.dev/inject: enabled}").Replace(f.manifests)
		}, 0, warned, "the webhook does not see rouse.dev/container-concurrency"},
		{"not installed", func(f *fake) { f.components, f.manifests = nil, "" }, 0, warned, "Rouse is not installed in namespace rouse-system"},
		{"not installed: it could be", func(f *fake) { f.components, f.manifests = nil, "" }, 0, good, "you may make all"},
		{"installed elsewhere", func(f *fake) {
			f.components, f.bound = nil, map[string][]string{"rouse-control": {"tools"}}
		}, 1, failed, "Rouse is not in namespace rouse-system: its rights are for namespace tools"},
		{"not installed, and who else has rights may not be read", func(f *fake) {
			f.components, f.manifests, f.refuses["bound"] = nil, "", errors.New("refused")
		}, 0, good, "you may make all"},
		{"not installed, and somebody counts on it", func(f *fake) { f.components = nil }, 1, failed, "nobody scales them"},
		{"may not install", func(f *fake) { f.components, f.manifests, f.lacks = nil, "", "clusterroles" }, 1, failed, "you may not create clusterroles.rbac.authorization.k8s.io"},
		{"too old to install", func(f *fake) { f.components, f.manifests, f.unserved = nil, "", "PodDisruptionBudget" }, 1, failed, "does not serve policy/v1 PodDisruptionBudget"},
		{"may not ask about installing", func(f *fake) { f.components, f.manifests, f.refuses["permitted"] = nil, "", refused }, 2, unknown, "refused"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := healthy(t)
			if tc.change != nil {
				tc.change(f)
			}
			got, err := checkCluster(t.Context(), f, &reach{namespace: "shop", system: "rouse-system"})
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			found := false
			var all strings.Builder
			for _, x := range got {
				found = found || x.Level == tc.level && strings.Contains(x.Text, tc.text)
			}
			if err := show(&all, asText, got); err != nil {
				t.Fatal(err)
			}
			if code := verdict(got); code != tc.code || !found {
				t.Errorf("%s: exit code %d, want %d and %s: %s\n%s", tc.name, code, tc.code, tc.level, tc.text, all.String())
			}
		})
	}
}

func TestCheckClusterCannotAsk(t *testing.T) {
	f := healthy(t)
	f.refuses["version"] = errors.New("refused")
	if _, err := checkCluster(t.Context(), f, &reach{system: "rouse-system"}); err == nil {
		t.Error("with an API server that does not answer it goes on")
	}
}

// TestLookTwice: endpoints that are put right between two looks are no fault.
func TestLookTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := healthy(t)
		good := f.manifests
		f.manifests = strings.Replace(good, "10.88.0.1", "10.88.0.7", 1)
		got, err := checkCluster(t.Context(), &mending{f, good}, &reach{namespace: "shop", system: "rouse-system"})
		if err != nil || verdict(got) != 0 {
			t.Errorf("%v, %+v", err, got)
		}
	})
}

// mending is a cluster that is as it should be from the second look on.
type mending struct {
	*fake
	then string
}

func (m *mending) View(ctx context.Context, namespace string, pods bool) (*kube.View, error) {
	v, err := m.fake.View(ctx, namespace, pods)
	m.manifests = m.then
	return v, err
}

func TestCheckFiles(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "app.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	settings := "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler}\ndata: {stable-window: %s}\n"
	for _, tc := range []struct {
		name, text string
		code       int
		line       string
	}{
		{"sound", helloYAML, 0, "ok       workload FILE:2 Deployment default/hello: Service hello carries its traffic\n"},
		{"a selector", strings.Replace(helloYAML, "spec: {ports", "spec: {selector: {app: hello}, ports", 1), 1, "failure  workload FILE:2 Deployment default/hello: ServiceHasSelector: "},
		{"a bad setting", strings.Replace(helloYAML, "annotations: {", "annotations: {autoscaling.knative.dev/target: many, ", 1), 1, "InvalidSettings: autoscaling.knative.dev/target"},
		{"a misspelt one", strings.Replace(helloYAML, "annotations: {", "annotations: {autoscaling.knative.dev/tarjet: '1', ", 1), 0, "warning  workload FILE:2 Deployment default/hello: UnknownSettings: "},
		{"settings of the cluster", helloYAML + strings.Replace(settings, "%s", "1s", 1), 1, "failure  settings config-autoscaler: stable-window"},
		{"replicas", helloYAML, 0, "warning  workload FILE:2 Deployment default/hello: spec.replicas is 0: each apply of this manifest resets the number of pods; remedy: leave replicas out"},
		{"an adopted Service with its selector", strings.Replace(helloYAML, "{name: hello}\nspec: {ports", `{name: hello, annotations: {rouse.dev/adopted-selector: '{"app":"hello"}'}}
spec: {selector: {app: hello}, ports`, 1), 0, "warning  workload FILE:2 Deployment default/hello: SelectorIsBack: Service hello was adopted"},
		{"internalTrafficPolicy", strings.Replace(helloYAML, "spec: {ports", "spec: {internalTrafficPolicy: Local, ports", 1), 1, "failure  workload FILE:2 Deployment default/hello: InternalTrafficPolicyLocal: "},
		{"externalTrafficPolicy", strings.Replace(helloYAML, "spec: {ports", "spec: {type: NodePort, externalTrafficPolicy: Local, ports", 1), 0, "warning  workload FILE:2 Deployment default/hello: ExternalTrafficPolicyLocal: "},
		{"no YAML", "a: {{ b }}\n", 1, "failure  manifest: FILE:1: "},
		{"nothing but what can't be read", "- a\n", 1, "failure  manifest: FILE:1: no object of Kubernetes: is a list, must be a mapping with apiVersion and kind\n0 ok,"},
		{"nothing", "", 1, "failure  manifest: there is no object in these files; remedy: "},
		{"nothing but comments", "# Source: chart\n---\n# nothing\n", 1, "failure  manifest: there is no object in these files; remedy: "},
		{"an empty List", "apiVersion: v1\nkind: List\nitems: []\n", 1, "failure  manifest: there is no object in these files; remedy: "},
		{"kinds that nobody asks for", "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\n", 0, "warning  workload: no Deployment or StatefulSet in these files is annotated"},
		{"nothing annotated", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n", 0, "warning  workload: no Deployment or StatefulSet in these files is annotated"},
	} {
		file := write(tc.text)
		code, out, errs := command(t, "check", "-f", file)
		if want := strings.ReplaceAll(tc.line, "FILE", file); code != tc.code || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s%s", tc.name, code, tc.code, want, out, errs)
		}
	}
	code, out, _ := command(t, "check", "-o", "json", "-n", "shop", "-f", write(strings.Replace(helloYAML, "replicas: 0, ", "", 1)))
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || len(r.Findings) != 1 || r.Counts[good] != 1 || !strings.HasSuffix(r.Findings[0].About, "Deployment shop/hello") {
		t.Errorf("as JSON: %d, %v, %s", code, err, out)
	}
}

// TestCheckInjection: what `rouse inject` would refuse of those that ask for it, and what no container answers.
func TestCheckInjection(t *testing.T) {
	manifest := func(annotations, container, targetPort string) string {
		return `apiVersion: apps/v1
kind: Deployment
metadata:
  name: hello
  annotations:
    autoscaling.knative.dev/class: kpa.autoscaling.knative.dev
    ` + annotations + `
spec: {template: {spec: {containers: [` + container + `]}}}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {ports: [{port: 80, targetPort: ` + targetPort + `}]}
`
	}
	const (
		app     = "{name: app, image: x, ports: [{name: web, containerPort: 8080}]}"
		enabled = "rouse.dev/inject: enabled"
	)
	for _, tc := range []struct {
		name, text string
		code       int
		want       string // nothing but ok when empty
	}{
		{"sound", manifest(enabled, app, "8080"), 0, ""},
		{"by name", manifest(enabled, app, "web"), 0, ""},
		{"the queue-proxy's own", manifest(enabled, app, "queue-port"), 0, ""},
		{"neither yes nor no", manifest("rouse.dev/inject: maybe", app, "web"), 1, `failure  injection stdin:7 Deployment hello: metadata.annotations.rouse.dev/inject: "maybe" says neither yes nor no; remedy: make it enabled or disabled`},
		{"a port that is none", manifest(enabled+"\n    rouse.dev/inject-ports: serving=99999", app, "web"), 1, `failure  injection stdin:8 Deployment hello: metadata.annotations.rouse.dev/inject-ports: "serving=99999"`},
		{"a size that is none", manifest(enabled+"\n    queue.sidecar.serving.knative.dev/cpu-resource-limit: 1 core", app, "web"), 1, "is no quantity"},
		{"no port", manifest(enabled, "{name: app, image: x}", "8080"), 1, "no container says on which port it serves"},
		{"the queue-proxy's port", manifest(enabled, strings.Replace(app, "8080", "8012", 1), "web"), 1, "port 8012 of container app is the queue-proxy's"},
		{"nobody asks", manifest("a: b", strings.Replace(app, "8080", "8012", 1), "web"), 0, ""},
		{"a misspelt annotation", manifest(enabled+"\n    rouse.dev/inject-prot: web", app, "web"), 0, "UnknownSettings: nothing reads rouse.dev/inject-prot (stdin:8): "},
		{"a setting out of range", manifest(enabled+"\n    rouse.dev/timeout-seconds: '7000'", app, "web"), 1, "InvalidSettings: rouse.dev/timeout-seconds"},
		{"a name that nobody has", manifest("a: b", app, "http"), 1, `failure  workload stdin:1 Deployment default/hello: port 80 of Service hello leads to the port named "http", which no container has; remedy: `},
		{"a number that nobody declares", manifest("a: b", app, "9000"), 0, "warning  workload stdin:1 Deployment default/hello: port 80 of Service hello leads to port 9000, which no container declares; remedy: "},
		{"a number where nobody declares any", manifest("a: b", "{name: app, image: x}", "9000"), 0, ""},
		{"CPU", manifest("rouse.dev/metrics: cpu=500m", app, "web"), 0, "warning  workload stdin:1 Deployment default/hello: UnknownSettings: targets of cpu have no effect"},
		{"no image", manifest("a: b", "{name: app}", "9000"), 0, "warning  workload stdin:1 Deployment default/hello: container app has no image; remedy: "},
	} {
		var out, errs strings.Builder
		code := run(t.Context(), "rouse-kube", []string{"check", "-f", "-"}, strings.NewReader(tc.text), &out, &errs)
		findings := strings.Count(out.String(), "failure  ") + strings.Count(out.String(), "warning  ")
		if wanted := min(1, len(tc.want)); code != tc.code || findings != wanted || !strings.Contains(out.String(), tc.want) || strings.Contains(out.String(), "failure  workload") == strings.Contains(out.String(), "ok       workload") {
			t.Errorf("%s: %d with %d findings, want %d and %q\n%s%s", tc.name, code, findings, tc.code, tc.want, out.String(), errs.String())
		}
	}
}

// TestCheckDirectory: what is not read in one is told.
// TestCheckUnseen: what the webhook can't go by is said, and not where it need not.
func TestCheckUnseen(t *testing.T) {
	const limit, other = `rouse.dev/container-concurrency: "20"`, `rouse.dev/container-concurrency: "10"`
	const sizes = "queue.sidecar.serving.knative.dev/cpu-resource-limit: 20m"
	for _, tc := range []struct{ name, own, labels, pods, want string }{
		{"both on the workload", limit + `, rouse.dev/timeout-seconds: "20"`, "rouse.dev/inject: enabled", "",
			"warning  injection stdin:2 Deployment default/hello: the webhook does not see rouse.dev/container-concurrency (stdin:6), rouse.dev/timeout-seconds (stdin:6) of the Deployment"},
		{"sizes", sizes, "rouse.dev/inject: enabled", "", "does not see queue.sidecar.serving.knative.dev/cpu-resource-limit (stdin:6) of the Deployment"},
		{"otherwise on the template", limit, "rouse.dev/inject: enabled", other, "does not see rouse.dev/container-concurrency (stdin:6)"},
		{"on both", limit, "rouse.dev/inject: enabled", limit, ""},
		{"on the template", `autoscaling.knative.dev/target: "3"`, "rouse.dev/inject: enabled", limit, ""},
		{"asked for by both", "rouse.dev/inject: enabled", "rouse.dev/inject: enabled", "", ""},
		{"opted out of by the workload alone", "rouse.dev/inject: disabled", "rouse.dev/inject: enabled", "", "does not see rouse.dev/inject (stdin:6)"},
		{"opted out of by the template", limit, "rouse.dev/inject: enabled", "rouse.dev/inject: disabled", ""},
		{"no webhook", limit, "a: b", "", ""},
	} {
		text := `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: hello
  annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev, ` + tc.own + `}
spec:
  template:
    metadata: {labels: {app: hello, ` + tc.labels + `}, annotations: {` + tc.pods + `}}
    spec: {containers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {ports: [{port: 80, targetPort: 8080}]}
`
		var out, errs strings.Builder
		code := run(t.Context(), "rouse-kube", []string{"check", "-f", "-"}, strings.NewReader(text), &out, &errs)
		if said := strings.Contains(out.String(), "warning  "); code != 0 || said != (tc.want != "") || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s: %d, want %q\n%s%s", tc.name, code, tc.want, out.String(), errs.String())
		}
		if !strings.Contains(tc.want, "rouse.dev/container-concurrency") {
			continue
		}
		r, err := inject.Manifest("x", []byte(text), inject.Options{Image: "q"}) // which sees both
		out.Reset()
		if code := run(t.Context(), "rouse-kube", []string{"check", "-f", "-"}, bytes.NewReader(r.YAML), &out, &errs); err != nil || code != 0 || strings.Contains(out.String(), "warning  ") {
			t.Errorf("%s, by `rouse inject`: %v, %d\n%s%s", tc.name, err, code, out.String(), errs.String())
		}
	}
}

// TestDocumentedExample: the first example of docs/kubernetes.md is right, and means the same by the webhook and by `rouse inject`.
func TestDocumentedExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(page), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	example = strings.Replace(example, "spec: …", "spec: {containers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}", 1)
	labelled := strings.Replace(example, "labels: {app: hello}", "labels: {app: hello, rouse.dev/inject: enabled}", 1)
	var out, errs strings.Builder
	if code := run(t.Context(), "rouse-kube", []string{"check", "-f", "-"}, strings.NewReader(labelled), &out, &errs); code != 0 || labelled == example || !strings.Contains(out.String(), "0 warnings") {
		t.Errorf("check of the example = %d\n%s%s", code, out.String(), errs.String())
	}
	var deployment struct {
		Spec struct{ Template json.RawMessage }
	}
	if err := yaml.Unmarshal([]byte(strings.Split(labelled, "\n---\n")[0]), &deployment); err != nil {
		t.Fatal(err)
	}
	patch, _, err := inject.Pod(deployment.Spec.Template, "default", inject.Options{Image: "q"})
	if err != nil {
		t.Fatal(err)
	}
	webhook, err := json.Marshal(patch)
	if err != nil || !strings.Contains(string(webhook), `"CONTAINER_CONCURRENCY","value":"20"`) {
		t.Errorf("the webhook's patch, %v: %s", err, webhook)
	}
	r, err := inject.Manifest("x", []byte(example), inject.Options{Image: "q"})
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(r.YAML)), " "), `- name: CONTAINER_CONCURRENCY value: "20"`) {
		t.Errorf("rouse inject, %v:\n%s", err, r.YAML)
	}
}

func TestCheckDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.yaml"), []byte(helloYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "check", "-f", dir); code != 0 || !strings.Contains(out, "warning  manifest: "+filepath.Join(dir, "more")+" is passed over") {
		t.Errorf("check of a directory = %d\n%s%s", code, out, errs)
	}
}

// TestCheckStream: each object of a stream of JSON is judged, at its line, from a file and from standard input.
func TestCheckStream(t *testing.T) {
	deployment := func(name string) string {
		return `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "` + name + `",` + "\n" +
			`"annotations": {"autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev"}}}`
	}
	for between, line := range map[string]string{"\n": "3", "": "3", "\n\n": "4"} {
		var all, errs strings.Builder
		code := run(t.Context(), "rouse-kube", []string{"check", "-f", "-"}, strings.NewReader(deployment("one")+between+deployment("two")), &all, &errs)
		for _, want := range []string{"stdin:1 Deployment default/one: NoService", "stdin:" + line + " Deployment default/two: NoService"} {
			if code != 1 || !strings.Contains(all.String(), want) {
				t.Errorf("with %q between: %d, want %s\n%s%s", between, code, want, all.String(), errs.String())
			}
		}
	}
	var all, errs strings.Builder
	code := run(t.Context(), "rouse-kube", []string{"check", "-f", "-"}, strings.NewReader("{kind: A}\n{kind: B}\n"), &all, &errs)
	if code != 1 || !strings.Contains(all.String(), "stdin:1: something follows it without a marker") {
		t.Errorf("what is neither a stream nor documents: %d\n%s%s", code, all.String(), errs.String())
	}
}

// TestCheckJSON: what every encoder of JSON may write is read.
func TestCheckJSON(t *testing.T) {
	const text = `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "apps/v1", "kind": "Deployment",
"metadata": {"name": "one", "annotations": {"autoscaling.knative.dev\/class": "kpa.autoscaling.knative.dev", "rouse.dev/inject": "enabled", "note": "\ud83d\ude00"}},
"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "user", "image": "x"}]}}}}]}`
	var all, errs strings.Builder
	code := run(t.Context(), "rouse-kube", []string{"check", "-f", "-"}, strings.NewReader(text), &all, &errs)
	for _, want := range []string{"Deployment default/one: NoService", "no container says on which port it serves"} {
		if code != 1 || !strings.Contains(all.String(), want) || strings.Contains(all.String(), "manifest") {
			t.Errorf("check = %d, want %s\n%s%s", code, want, all.String(), errs.String())
		}
	}
}

// TestCheckExit: that nothing could be asked is told apart from what was found.
func TestCheckExit(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nonexistent/config")
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"check", 2, "/nonexistent/config"}, {"check --no-such-flag", 2, "no-such-flag"}, {"check -o yaml", 2, `--output = "yaml": must be text or json`},
		{"check -A -n x", 2, "--namespace and --all-namespaces"}, {"check -f /nonexistent.yaml", 2, "/nonexistent.yaml"}, {"check -A -f x.yaml", 2, "--file looks at no cluster"},
		{"check app.yaml", 2, `"app.yaml": manifests are given by --file`},
		{"status", 1, "/nonexistent/config"}, {"top", 1, "/nonexistent/config"}, {"explain hello", 1, "/nonexistent/config"},
		{"status -o yaml", 2, "--output"}, {"top -o yaml", 2, "--output"}, {"explain -o yaml", 2, "--output"},
		{"status --no-such-flag", 2, "no-such-flag"}, {"adopt", 2, "accepts 1 arg"}, {"top hello", 2, "hello"}, {"uninstall --no-such-flag", 2, "no-such-flag"},
		{"status -A -n x", 2, "--namespace and --all-namespaces"}, {"chek", 2, "chek"},
	} {
		if code, out, errs := command(t, strings.Fields(tc.args)...); code != tc.code || out != "" || !strings.Contains(errs, tc.says) {
			t.Errorf("%s = %d %q %s; want %d and %s", tc.args, code, out, errs, tc.code, tc.says)
		}
	}
}

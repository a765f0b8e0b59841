package inject

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var options = Options{Image: "rouse/queueproxy:v1", StatsURL: "ws://autoscaler.rouse-system.svc:8080", TokenAudience: "rouse"}

// golden compares with a file, or writes it.
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

func inputs(t *testing.T) (names []string) {
	t.Helper()
	all, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if !strings.HasSuffix(n, ".out.yaml") {
			names = append(names, n)
		}
	}
	if len(names) < 5 {
		t.Fatalf("found %q", names)
	}
	return names
}

func injected(t *testing.T, name string, text []byte, o Options) Result {
	t.Helper()
	r, err := Manifest(filepath.Base(name), text, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestManifest(t *testing.T) {
	for _, name := range inputs(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			r := injected(t, name, text, options)
			golden(t, strings.TrimSuffix(name, ".yaml")+".out.yaml", r.YAML)
			var said strings.Builder
			said.WriteString("injected " + strings.Join(r.Injected, ", ") + "\nleft " + strings.Join(r.Left, ", ") + "\n")
			if len(r.Faults) > 0 {
				said.WriteString(r.Faults.Error() + "\n")
			}
			golden(t, strings.TrimSuffix(name, ".yaml")+".said", []byte(said.String()))
		})
	}
}

// TestTwiceIsOnce over every golden file, with other options between.
func TestTwiceIsOnce(t *testing.T) {
	for _, name := range inputs(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		once := injected(t, name, text, options)
		twice := injected(t, name, once.YAML, options)
		if d := cmp.Diff(string(once.YAML), string(twice.YAML)); d != "" {
			t.Errorf("%s, a second time (-once +twice):\n%s", name, d)
		}
		if !reflect.DeepEqual(once.Injected, twice.Injected) {
			t.Errorf("%s: injected %q, then %q", name, once.Injected, twice.Injected)
		}
		newer := options
		newer.Image = "rouse/queueproxy:v2"
		if back := injected(t, name, injected(t, name, once.YAML, newer).YAML, options); string(back.YAML) != string(once.YAML) {
			t.Errorf("%s: a newer image and back is not the same (-once +back):\n%s", name, cmp.Diff(string(once.YAML), string(back.YAML)))
		}
	}
}

// TestChangesFollow: an injected file that its owner edits is brought up to date.
func TestChangesFollow(t *testing.T) {
	text, err := os.ReadFile("testdata/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := string(injected(t, "a", text, options).YAML)
	moved := strings.Replace(out, "containerPort: 8080", "containerPort: 3000", 1)
	const probe = "readinessProbe: {httpGet: {path: /ok, port: 3000}, periodSeconds: 7}"
	moved = strings.Replace(moved, "- name: user\n", "- name: user\n          "+probe+"\n", 1)
	if !strings.Contains(moved, probe) || !strings.Contains(moved, "containerPort: 3000") {
		t.Fatalf("the edit does not fit:\n%s", out)
	}
	got := string(injected(t, "b", []byte(moved), options).YAML)
	for _, want := range []string{`value: "3000"`, `"path":"/ok"`, "timeoutSeconds: 8", "failureThreshold: 3"} {
		if !strings.Contains(got, want) {
			t.Errorf("the sidecar lacks %s:\n%s", want, got)
		}
	}
	if strings.Contains(got, probe) {
		t.Error("the container still has the probe that moved")
	}
}

// TestWhatIsGoneGoes: a sidecar that was there follows the application's port with the probe that it keeps, and has no
// token that nobody asks for.
func TestWhatIsGoneGoes(t *testing.T) {
	once := injected(t, "a", []byte(with("readinessProbe: {httpGet: {path: /ok, port: 8080}},", "")), options)
	moved := strings.Replace(string(once.YAML), "containerPort: 8080", "containerPort: 3000", 1)
	bare := Options{Image: options.Image}
	got := string(injected(t, "b", []byte(moved), bare).YAML)
	if !strings.Contains(got, `"httpGet":{"path":"/ok","port":3000,"scheme":"HTTP"}`) {
		t.Errorf("the probe did not follow the port:\n%s", got)
	}
	if strings.Contains(got, tokenVolume) {
		t.Errorf("the token is still mounted:\n%s", got)
	}
	if again := string(injected(t, "c", []byte(got), bare).YAML); again != got {
		t.Errorf("a second time (-once +twice):\n%s", cmp.Diff(got, again))
	}
}

// pods returns the Pods that the golden inputs would make, as JSON.
func pods(t testing.TB) (all [][]byte) {
	t.Helper()
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for dec := yaml.NewDecoder(f); ; {
			var o map[string]any
			if dec.Decode(&o) != nil {
				break
			}
			spec, _ := o["spec"].(map[string]any)
			template, _ := spec["template"].(map[string]any)
			meta, _ := o["metadata"].(map[string]any)
			if template == nil {
				continue
			}
			pod := map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": template["spec"], "metadata": map[string]any{
				"generateName": "x-5d8f9c-", "labels": map[string]any{"pod-template-hash": "5d8f9c"}, "annotations": meta["annotations"],
				"ownerReferences": []any{map[string]any{"kind": "ReplicaSet", "name": "x-5d8f9c", "controller": true}},
			}}
			b, err := json.Marshal(pod)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b)
		}
		f.Close()
	}
	return all
}

// patched applies a patch of ours, which only sets fields of the spec.
func patched(t testing.TB, pod []byte, patch []Operation) []byte {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(pod, &o); err != nil {
		t.Fatal(err)
	}
	for _, op := range patch {
		key, ok := strings.CutPrefix(op.Path, "/spec/")
		if !ok || op.Op != "add" {
			t.Fatalf("operation %+v", op)
		}
		o["spec"].(map[string]any)[key] = op.Value
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPod: what the webhook does to pods, and that it does it once.
func TestPod(t *testing.T) {
	changed := 0
	for _, pod := range pods(t) {
		patch, _, err := Pod(pod, "default", options)
		if err != nil || len(patch) == 0 {
			continue
		}
		changed++
		after := patched(t, pod, patch)
		if !strings.Contains(string(after), `"SERVING_REVISION","value":"x"`) {
			t.Errorf("the sidecar does not say the Deployment's name:\n%s", after)
		}
		again, _, err := Pod(after, "default", options)
		if err != nil || len(again) > 0 {
			t.Errorf("a second time: %v, %v", again, err)
		}
	}
	if changed < 2 {
		t.Errorf("%d pods were injected, want more", changed)
	}
}

// TestPodKeepsTexts: what the application is told passes through as it was, YAML's line ends and control characters too.
func TestPodKeepsTexts(t *testing.T) {
	for _, text := range []string{"a\u0085b", "\x7f\u009b", "\ufeff\ufffe", "\u2028", "😀", "<<", "0x10", "no"} {
		value, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		patch, _, err := Pod([]byte(`{"metadata": {"labels": {"rouse.dev/inject": "enabled"}}, "spec": {"containers": [
			{"name": "user", "args": [`+string(value)+`], "ports": [{"containerPort": 8080}]}]}}`), "default", options)
		if err != nil || len(patch) == 0 {
			t.Errorf("%q: %d operations, error %v", text, len(patch), err)
			continue
		}
		after, err := json.Marshal(patch[0].Value)
		if err != nil || !strings.Contains(string(after), `"args":[`+string(value)+`]`) {
			t.Errorf("%s has become %s, error %v", value, after, err)
		}
	}
}

func TestOptions(t *testing.T) {
	_, err := Manifest("x", nil, Options{StatsURL: "http://x", TokenAudience: "y"})
	for _, word := range []string{"image", "stats URL"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v does not name the %s", err, word)
		}
	}
	if _, err := Manifest("x", []byte("a: [b"), options); err == nil || !strings.Contains(err.Error(), "x: document at line 1") {
		t.Errorf("broken YAML: %v", err)
	}
}

const small = `apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, annotations: {rouse.dev/inject: enabled}}
spec: {template: {spec: {containers: [{name: user, image: x, ports: [{containerPort: 8080}]}]}}}
`

// TestNothingIsLost: what stands around a document that changes is kept, or it is an error.
func TestNothingIsLost(t *testing.T) {
	for name, text := range map[string]string{
		"a document end":   small + "...\nkind: ConfigMap\n",
		"a stream of JSON": `{"apiVersion": "v1", "kind": "Pod"}` + "\n" + `{"kind": "ConfigMap"}`,
	} {
		if r, err := Manifest("x", []byte(text), options); err == nil || !strings.Contains(err.Error(), "document at line 1") {
			t.Errorf("%s: error %v, want one that names the document:\n%s", name, err, r.YAML)
		}
	}
	for _, text := range []string{"--- # Source: chart\n" + small, small + "...\n", small + "...\n# the end\n"} {
		r, err := Manifest("x", []byte(text), options)
		if err != nil || !strings.Contains(string(r.YAML), "name: queue-proxy") || strings.Contains(text, "# Source") && strings.Count(string(r.YAML), "--- # Source: chart\n") != 1 {
			t.Errorf("%q: error %v and\n%s", text, err, r.YAML)
		}
	}
}

// with returns the small Deployment with more in its container, and with annotations.
func with(container, annotations string) string {
	s := strings.Replace(small, "{name: user,", "{"+container+" name: user,", 1)
	return strings.Replace(s, "{rouse.dev/inject: enabled", "{"+annotations+" rouse.dev/inject: enabled", 1)
}

// TestReadAsKubernetesDoes: null is missing, and booleans have several spellings.
func TestReadAsKubernetesDoes(t *testing.T) {
	plain := injected(t, "x", []byte(small), options)
	for _, text := range []string{with("readinessProbe: null,", ""), with("lifecycle: ~,", ""), with("lifecycle: {preStop: null},", ""), with("", "rouse.dev/inject-port: null,"),
		strings.Replace(small, "{containers:", "{initContainers: null, volumes: ~, containers:", 1)} {
		r := injected(t, "x", []byte(text), options)
		if len(r.Faults) > 0 || strings.Count(string(r.YAML), "/wait-for-drain") != 1 || strings.Count(string(r.YAML), "K-Network-Probe") != 1 {
			t.Errorf("%s: %v, want what became of the same without null:\n%s\n%s", text, r.Faults, plain.YAML, r.YAML)
		}
	}
	for _, yes := range []string{"true", "True", "yes", "on"} {
		r := injected(t, "x", []byte(strings.Replace(small, "{containers:", "{hostNetwork: "+yes+", containers:", 1)), options)
		if len(r.Faults) != 1 || !strings.HasSuffix(r.Faults[0].Field, "hostNetwork") {
			t.Errorf("hostNetwork: %s: %v, want it refused", yes, r.Faults)
		}
	}
}

// TestPortsOfOtherProtocols: UDP is no neighbour of TCP.
func TestPortsOfOtherProtocols(t *testing.T) {
	r := injected(t, "x", []byte(strings.Replace(small, "{containerPort: 8080}", "{containerPort: 8080}, {containerPort: 9090, protocol: UDP}", 1)), options)
	if len(r.Faults) > 0 || len(r.Injected) != 1 {
		t.Errorf("an application with UDP port 9090: %v", r.Faults)
	}
}

// TestOtherKinds: who asks for what is not done is told.
func TestOtherKinds(t *testing.T) {
	for _, kind := range []string{"DaemonSet", "Job"} {
		text := strings.Replace(small, "Deployment", kind, 1)
		r := injected(t, "x", []byte(text), options)
		if len(r.Faults) != 1 || !r.Faults[0].Minor || !strings.Contains(r.Faults.Error(), "webhook") || string(r.YAML) != text {
			t.Errorf("%s: %v, want a warning and no change", kind, r.Faults)
		}
	}
}

// TestCronJobs: a CronJob's pods are a level deeper.
func TestCronJobs(t *testing.T) {
	for name, text := range map[string]string{
		"a label":       "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\nspec: {jobTemplate: {spec: {template: {metadata: {labels: {rouse.dev/inject: enabled}}, spec: {containers: []}}}}}\n",
		"an annotation": "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c, annotations: {rouse.dev/inject: enabled}}\nspec: {jobTemplate: {spec: {template: {spec: {containers: []}}}}}\n",
	} {
		if r := injected(t, "x", []byte(text), options); len(r.Faults) != 1 || !r.Faults[0].Minor || !strings.Contains(r.Faults.Error(), "webhook") || string(r.YAML) != text {
			t.Errorf("%s: %v, want a warning and no change", name, r.Faults)
		}
	}
}

// TestOtherKindsWithAClass: what is annotated to be scaled and is not is told, unless who made it is, or Knative scales it.
func TestOtherKindsWithAClass(t *testing.T) {
	opted := strings.Replace(small, "rouse.dev/inject: enabled", "autoscaling.knative.dev/class: kpa.autoscaling.knative.dev", 1)
	for _, tc := range []struct {
		head string
		told bool
	}{
		{"apiVersion: apps/v1\nkind: DaemonSet", true}, {"apiVersion: apps/v1\nkind: ReplicaSet", true}, {"apiVersion: argoproj.io/v1alpha1\nkind: Rollout", true},
		{"apiVersion: serving.knative.dev/v1\nkind: Service", false},
	} {
		text := strings.Replace(opted, "apiVersion: apps/v1\nkind: Deployment", tc.head, 1)
		r := injected(t, "x", []byte(text), options)
		if told := len(r.Faults) == 1 && r.Faults[0].Minor && r.Faults[0].Line == 3 && strings.Contains(r.Faults.Error(), "only Deployments and StatefulSets are scaled"); told != tc.told || !told && len(r.Faults) > 0 || string(r.YAML) != text {
			t.Errorf("%s: %v, want a warning: %t", tc.head, r.Faults, tc.told)
		}
	}
	made := strings.Replace(strings.Replace(opted, "Deployment", "ReplicaSet", 1), "{name: hello,", "{name: hello-5d8f9c, ownerReferences: [{kind: Deployment, name: hello, controller: true}],", 1)
	if r := injected(t, "x", []byte(made), options); len(r.Faults) > 0 {
		t.Errorf("a Deployment's ReplicaSet: %v", r.Faults)
	}
}

// TestDuplicates: of a key that is written twice decoders take the one or the other.
func TestDuplicates(t *testing.T) {
	text := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: hello, annotations: {rouse.dev/inject: enabled}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: user\n" +
		"        ports: [{containerPort: 8080}]\n        readinessProbe:\n          periodSeconds: 3\n          tcpSocket: {port: 8080}\n          periodSeconds: 4\n"
	const want = "x:13: Deployment hello: spec.template.spec.containers[0].readinessProbe.periodSeconds: is written twice, first in line 11; keep one of them"
	r := injected(t, "x", []byte(text), options)
	if len(r.Faults) != 1 || r.Faults[0].Error() != want || string(r.YAML) != text {
		t.Errorf("%v, want %s", r.Faults, want)
	}
	merged := strings.Replace(text, "          periodSeconds: 3\n", "          <<: {periodSeconds: 3}\n", 1)
	if r := injected(t, "x", []byte(merged), options); len(r.Faults) > 0 {
		t.Errorf("what is merged is no duplicate: %v", r.Faults)
	}
	if r := injected(t, "x", []byte(strings.Replace(text, "enabled", "disabled", 1)), options); len(r.Faults) > 0 {
		t.Errorf("of what is left alone: %v", r.Faults)
	}
}

// TestUnknownAnnotations: what nobody reads is told, since what it was to say is lost. Told says whether control tells it, too.
func TestUnknownAnnotations(t *testing.T) {
	for class, told := range map[string]bool{"": false, "autoscaling.knative.dev/class: kpa.autoscaling.knative.dev, ": true} {
		r := injected(t, "x", []byte(with("", class+`rouse.dev/container-concurency: "5", rouse.dev/inject-prot: "8080",`)), options)
		if len(r.Faults) != 2 || len(r.Injected) != 1 {
			t.Fatalf("faults %v, injected %q, want two warnings", r.Faults, r.Injected)
		}
		for i, key := range []string{"rouse.dev/container-concurency", "rouse.dev/inject-prot"} {
			if f := r.Faults[i]; !f.Minor || f.Told != told || f.Field != "metadata.annotations."+key || f.Line != 3 {
				t.Errorf("fault %+v, want a warning of %s, told: %t", f, key, told)
			}
		}
	}
}

// TestCheck: only those are judged that ask, and by the same rules.
func TestCheck(t *testing.T) {
	const hostNetwork = "{hostNetwork: true, containers:"
	opted := strings.Replace(small, "rouse.dev/inject: enabled", "autoscaling.knative.dev/class: kpa.autoscaling.knative.dev", 1)
	labelled := strings.Replace(strings.Replace(small, "rouse.dev/inject: enabled", "", 1), "{template: {", "{template: {metadata: {labels: {rouse.dev/inject: enabled}}, ", 1)
	for _, tc := range []struct {
		name, text string
		faults     int
	}{
		{"asks", small, 1}, {"asks by a label", labelled, 1}, {"is opted in alone", opted, 0}, {"asks not to", strings.Replace(small, "enabled", "disabled", 1), 0},
	} {
		faults, err := Check("x", []byte(strings.Replace(tc.text, "{containers:", hostNetwork, 1)))
		if err != nil || len(faults) != tc.faults {
			t.Errorf("%s: %v, %v; want %d faults", tc.name, faults, err, tc.faults)
		}
	}
	if _, err := Check("x", []byte("a: [")); err == nil {
		t.Error("broken YAML is checked")
	}
}

// TestTypedLists: a list that is left alone is told of.
func TestTypedLists(t *testing.T) {
	text := "apiVersion: apps/v1\nkind: DeploymentList\nitems: []\n"
	r := injected(t, "x", []byte(text), options)
	if len(r.Faults) != 1 || !r.Faults[0].Minor || !strings.Contains(r.Faults.Error(), "x:2: warning: DeploymentList") || string(r.YAML) != text {
		t.Errorf("%v and\n%s, want a warning and no change", r.Faults, r.YAML)
	}
}

// TestRefused: what would make a pod that never becomes ready, or none at all, is said with its field.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, text, field, says string }{
		{"a probe that asks nothing", with("readinessProbe: {initialDelaySeconds: 3},", ""), "containers[0].readinessProbe", "0 ways"},
		{"a probe that asks twice", with("readinessProbe: {tcpSocket: {port: 8080}, httpGet: {port: 8080}},", ""), "containers[0].readinessProbe", "2 ways"},
		{"no quantity", with("", sizePrefix+"cpu-resource-request: 1core,"), sizePrefix + "cpu-resource-request", "no quantity"},
		{"a limit below the request", with("", sizePrefix+"memory-resource-request: 1Gi, "+sizePrefix+"memory-resource-limit: 1000M,"), sizePrefix + "memory-resource-limit", "less than"},
		{"a wish that is none", strings.Replace(small, "enabled", `"off", autoscaling.knative.dev/class: kpa.autoscaling.knative.dev`, 1), "annotations.rouse.dev/inject", "disabled"},
		{"a queue-proxy that would ask itself", with("", `rouse.dev/inject-port: "8012",`), "annotations.rouse.dev/inject-port", "serving=18012"},
		{"a setting out of range", with("", `rouse.dev/timeout-seconds: "7000",`), "metadata.annotations.rouse.dev/timeout-seconds", `x:3: Deployment hello: metadata.annotations.rouse.dev/timeout-seconds: rouse.dev/timeout-seconds = "7000"`},
		{"a class that control refuses", strings.Replace(small, "rouse.dev/inject: enabled", "autoscaling.knative.dev/class: kpa", 1), "annotations.autoscaling.knative.dev/class", `"kpa": must be kpa.autoscaling.knative.dev`},
		{"a number for a text", with("", "rouse.dev/container-concurrency: 5,"), "metadata.annotations.rouse.dev/container-concurrency", "5 is no text; put it in quotes"},
		{"a boolean of YAML 1.1 for a text", with("", "rouse.dev/pod-probe: off,"), "metadata.annotations.rouse.dev/pod-probe", "off is no text; put it in quotes"},
		{"a list for a text", with("", "a: [b],"), "metadata.annotations.a", "is no text"},
		{"a label of the pods", strings.Replace(small, "{template: {", "{template: {metadata: {labels: {version: 1}}, ", 1), "spec.template.metadata.labels.version", "1 is no text"},
		{"a port for TLS", strings.Replace(small, "{containerPort: 8080}", "{name: https, containerPort: 8443}", 1), "containers[0].ports[0].name", "rouse.dev/inject-port"},
		{"a port for TLS with a suffix", strings.Replace(small, "{containerPort: 8080}", "{name: tls-api, containerPort: 8443}", 1), "containers[0].ports[0].name", "clear text"},
		{"a port for TLS that is asked for", strings.Replace(with("", `rouse.dev/inject-port: "8443",`), "{containerPort: 8080}", "{containerPort: 8080}, {name: https-web, containerPort: 8443}", 1), "containers[0].ports[1].name", "clear text"},
		{"a readiness probe over TLS", with("readinessProbe: {httpGet: {scheme: HTTPS, port: 8080}},", ""), "containers[0].readinessProbe.httpGet.scheme", "clear text"},
		{"a liveness probe over TLS", strings.Replace(with("livenessProbe: {httpGet: {scheme: HTTPS, port: web}},", ""), "{containerPort", "{name: web, containerPort", 1), "containers[0].livenessProbe.httpGet.scheme", "clear text"},
		{"a key that is there twice", with("readinessProbe: {httpGet: {path: /, port: 1, path: /}},", ""), "containers[0].readinessProbe.httpGet.path", "is written twice, first in line 4"},
		{"a probe that is none", with("readinessProbe: [],", ""), "containers[0].readinessProbe", "no fields"},
		{"a number that is none", with("readinessProbe: {httpGet: {port: 8080}, timeoutSeconds: soon},", ""), "containers[0].readinessProbe.timeoutSeconds", "whole number"},
		{"a number below zero", with("readinessProbe: {httpGet: {port: 8080}, periodSeconds: -1},", ""), "containers[0].readinessProbe.periodSeconds", "-1 is no whole number"},
		{"a port that cannot move up", with("", `rouse.dev/inject-port: "60000", rouse.dev/inject-ports: admin=60000,`), "annotations.rouse.dev/inject-port", "admin=50000"},
	} {
		r := injected(t, "x", []byte(c.text), options)
		if len(r.Faults) != 1 || r.Faults[0].Minor || !strings.HasSuffix(r.Faults[0].Field, c.field) || !strings.Contains(r.Faults[0].Error(), c.says) {
			t.Errorf("%s: %v, want %s with %q", c.name, r.Faults, c.field, c.says)
		}
		if string(r.YAML) != c.text {
			t.Errorf("%s: the document is changed all the same:\n%s", c.name, r.YAML)
		}
	}
}

// TestTLS: a second port may take TLS, and another port may be asked over it. What an older version let through is refused, and
// the webhook says so, too.
func TestTLS(t *testing.T) {
	for _, text := range []string{
		strings.Replace(small, "{containerPort: 8080}", "{name: http, containerPort: 8080}, {name: https, containerPort: 8443}", 1),
		strings.Replace(with(`readinessProbe: {httpGet: {scheme: HTTPS, port: 8443}},`, ""), "{containerPort: 8080}", "{name: http, containerPort: 8080}, {containerPort: 8443}", 1),
		strings.Replace(small, "{containerPort: 8080}", "{name: httpsd, containerPort: 8080}", 1),
	} {
		if r := injected(t, "x", []byte(text), options); len(r.Faults) > 0 || len(r.Injected) != 1 {
			t.Errorf("%s: %v", text, r.Faults)
		}
	}
	once := injected(t, "x", []byte(with("readinessProbe: {httpGet: {port: 8080}},", "")), options)
	r := injected(t, "x", []byte(strings.Replace(string(once.YAML), `"scheme":"HTTP"`, `"scheme":"HTTPS"`, 1)), options)
	if len(r.Faults) != 1 || r.Faults[0].Minor || !strings.Contains(r.Faults[0].Field, "initContainers") {
		t.Errorf("of what an older version has moved: %v", r.Faults)
	}
	_, _, err := Pod([]byte(`{"metadata": {"labels": {"rouse.dev/inject": "enabled"}}, "spec": {"containers": [{"name": "user", "ports": [{"name": "https", "containerPort": 8443}]}]}}`), "default", options)
	if err == nil || !strings.Contains(err.Error(), "serves TLS") {
		t.Errorf("of a pod: %v", err)
	}
	if faults, err := Check("x", []byte(strings.Replace(small, "{containerPort: 8080}", "{name: https, containerPort: 8443}", 1))); err != nil || len(faults) != 1 {
		t.Errorf("of a file that is checked: %v, %v", faults, err)
	}
}

// TestHTTP2 goes by the names of ports that make control take a Service's port for HTTP/2.
func TestHTTP2(t *testing.T) {
	for name, want := range map[string]bool{"http": false, "h2c": true, "h2c-api": true, "http2": true, "http2-api": true, "grpc": true, "grpc-api": true, "grpc-web": false, "grpc-web-2": false, "grpcs": false} {
		r := injected(t, "x", []byte(strings.Replace(small, "{containerPort", "{name: "+name+", containerPort", 1)), options)
		if got := strings.Contains(string(r.YAML), "ROUSE_USER_PROTOCOL, value: h2c"); got != want || len(r.Injected) != 1 {
			t.Errorf("a port named %s is HTTP/2: %t, want %t (%v)", name, got, want, r.Faults)
		}
	}
}

// TestOwnHook: a hook that waits for the drain is not warned of, whatever else it does.
func TestOwnHook(t *testing.T) {
	for hook, want := range map[string]int{
		`{exec: {command: [sh, -c, "sleep 5; wget -qO- http://127.0.0.1:8022/wait-for-drain"]}}`: 0,
		`{exec: {command: [wget, "http://127.0.0.1:8022/wait-for-drain"]}}`:                      0,
		`{exec: {command: [wget, "http://127.0.0.1:18022/wait-for-drain"]}}`:                     1, // nobody is there
		`{exec: {command: [sh, -c, "sleep 5"]}}`:                                                 1,
		`{httpGet: {path: /bye, port: 8080}}`:                                                    1,
		`{sleep: {seconds: 5}}`:                                                                  1,
	} {
		r := injected(t, "x", []byte(with("lifecycle: {preStop: "+hook+"},", "")), options)
		if len(r.Faults) != want || len(r.Injected) != 1 || !strings.Contains(string(r.YAML), "preStop: "+hook) {
			t.Errorf("%s: %v, want %d warnings", hook, r.Faults, want)
		}
	}
}

// FuzzManifest: no input makes it panic, and what it has injected it leaves alone.
func FuzzManifest(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.yaml") // without seeds it fuzzes all the same
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		o := options
		o.All = true
		once, err := Manifest("x", text, o)
		if err != nil {
			return
		}
		twice, err := Manifest("x", once.YAML, o)
		if err != nil {
			t.Fatalf("what was injected is not read again: %v\n%s", err, once.YAML)
		}
		if string(once.YAML) != string(twice.YAML) {
			t.Fatalf("twice is not once (-once +twice):\n%s", cmp.Diff(string(once.YAML), string(twice.YAML)))
		}
	})
}

// FuzzPod: no pod makes it panic.
func FuzzPod(f *testing.F) {
	for _, p := range pods(f) {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, pod []byte) {
		o := options
		o.All = true
		patch, _, err := Pod(pod, "default", o)
		if err != nil || len(patch) == 0 {
			return
		}
		if again, _, err := Pod(patched(t, pod, patch), "default", o); err != nil || len(again) > 0 {
			t.Fatalf("a second time: %v, %v", again, err)
		}
	})
}

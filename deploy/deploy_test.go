package deploy

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/inject"
)

var update = flag.Bool("update", false, "rewrite base/")

func render(t *testing.T, o Options) []Component {
	t.Helper()
	all, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestBaseIsTheChart: the kustomize base is what the chart renders by its defaults, no more and no less.
func TestBaseIsTheChart(t *testing.T) {
	all := render(t, Options{CreateNamespace: true})
	var names []string
	for _, c := range all {
		file := filepath.Join("base", c.Name)
		names = append(names, c.Name)
		if *update {
			if err := os.WriteFile(file, c.YAML, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("%v; run the test with -update", err)
		}
		if d := cmp.Diff(string(want), string(c.YAML)); d != "" {
			t.Errorf("%s is not what the chart renders; run the test with -update (-base +chart):\n%s", file, d)
		}
	}
	var k struct{ Resources []string }
	text, err := os.ReadFile("base/kustomization.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &k)
	}
	if err != nil || !slices.Equal(k.Resources, names) {
		t.Errorf("kustomization.yaml lists %q, %v; want %q", k.Resources, err, names)
	}
	files, err := os.ReadDir("base")
	if err != nil || len(files) != len(names)+1 {
		t.Errorf("base has %d files, %v; want the %d components and kustomization.yaml", len(files), err, len(names))
	}
}

type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name, Namespace string
	} `json:"metadata"`
	Rules    []rule `json:"rules"`
	Subjects []struct {
		Name, Namespace string
	} `json:"subjects"`
	Spec map[string]any `json:"spec"`
}

type rule struct {
	APIGroups     []string `json:"apiGroups"`
	Resources     []string `json:"resources"`
	ResourceNames []string `json:"resourceNames"`
	Verbs         []string `json:"verbs"`
}

func objects(t *testing.T, all []Component) (found []object) {
	t.Helper()
	for _, c := range all {
		for part := range bytes.SplitSeq(c.YAML, []byte("\n---\n")) {
			var o object
			if err := yaml.UnmarshalStrict(part, new(map[string]any)); err != nil {
				t.Fatalf("%s: %v\n%s", c.Name, err, part)
			}
			if err := yaml.Unmarshal(part, &o); err != nil {
				t.Fatalf("%s: %v\n%s", c.Name, err, part)
			}
			if o.APIVersion == "" || o.Kind == "" || o.Metadata.Name == "" {
				t.Errorf("%s: an object without apiVersion, kind or name:\n%s", c.Name, part)
			}
			found = append(found, o)
		}
	}
	return found
}

// TestEverythingIsInItsNamespace, whatever that is, but for what has none.
func TestEverythingIsInItsNamespace(t *testing.T) {
	for _, o := range objects(t, render(t, Options{Namespace: "elsewhere", CreateNamespace: true, Everything: true, Webhook: true})) {
		cluster := slices.Contains([]string{"Namespace", "ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration"}, o.Kind)
		if cluster != (o.Metadata.Namespace == "") || !cluster && o.Metadata.Namespace != "elsewhere" {
			t.Errorf("%s %s is in namespace %q", o.Kind, o.Metadata.Name, o.Metadata.Namespace)
		}
	}
}

// TestNoRuleIsAWildcard: least privilege names what it allows, and control may not change what it only reads.
func TestNoRuleIsAWildcard(t *testing.T) {
	writes := []string{"create", "update", "patch", "delete", "deletecollection"}
	readOnly := []string{"deployments", "statefulsets", "services", "nodes", "horizontalpodautoscalers", "scaledobjects"}
	seen := 0
	for _, o := range objects(t, render(t, Options{Webhook: true})) {
		for _, r := range o.Rules {
			seen++
			if all := slices.Concat(r.APIGroups, r.Resources, r.Verbs); slices.Contains(all, "*") {
				t.Errorf("%s %s has a wildcard: %+v", o.Kind, o.Metadata.Name, r)
			}
			for _, res := range r.Resources {
				for _, v := range r.Verbs {
					if o.Metadata.Name == "rouse-control" && slices.Contains(readOnly, res) && slices.Contains(writes, v) {
						t.Errorf("control may %s %s", v, res)
					}
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("found %d rules, want all of them", seen)
	}
}

// TestOptionsReachTheObjects.
func TestOptionsReachTheObjects(t *testing.T) {
	all := render(t, Options{Namespace: "elsewhere", Repository: "example.test/rouse", Tag: "v7", Control: 3, Activators: 25,
		PullSecret: "registry", Audience: "rouse", Webhook: true, Sidecar: inject.Sizes{CPURequest: "50m", MemoryLimit: "64Mi"}, Autoscaler: map[string]string{"stable-window": "30s"}})
	var text strings.Builder
	for _, c := range all {
		text.Write(c.YAML)
	}
	for _, want := range []string{
		"image: example.test/rouse/activator:v7", "replicas: 3", "minReplicas: 25", "maxReplicas: 25", `imagePullSecrets: [{name: "registry"}]`,
		`{name: ROUSE_SIDECAR_CPU_REQUEST, value: "50m"}`, `{name: ROUSE_SIDECAR_MEMORY_LIMIT, value: "64Mi"}`,
		`{name: ROUSE_TOKEN_AUDIENCE, value: "rouse"}`, `{name: ROUSE_STATS_URL, value: "ws://autoscaler.elsewhere.svc:8080"}`, `stable-window: "30s"`,
		"ws://autoscaler-0.autoscaler.elsewhere.svc:8081,ws://autoscaler-1.autoscaler.elsewhere.svc:8081,ws://autoscaler-2.autoscaler.elsewhere.svc:8081",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the objects lack %s", want)
		}
	}
	if n := strings.Count(text.String(), "imagePullSecrets"); n != 3 {
		t.Errorf("%d of three kinds of pods have the secret of the registry", n)
	}
	if strings.Contains(text.String(), "ROUSE_SIDECAR_CPU_LIMIT") {
		t.Error("a size was set without being asked for")
	}
	if strings.Contains(text.String(), "kind: Namespace\n") || strings.Contains(text.String(), "kind: Secret\n") {
		t.Error("a namespace or a secret was made without being asked for")
	}
}

// TestValuesOfAnyType: Helm makes numbers of digits and booleans of words, and objects have texts all the same.
func TestValuesOfAnyType(t *testing.T) {
	v, err := Options{Webhook: true}.values()
	if err != nil {
		t.Fatal(err)
	}
	set := func(section, key string, value any) {
		m, _ := v[section].(map[string]any)
		m[key] = value
	}
	set("image", "tag", int64(20260101))
	set("token", "value", int64(42))
	set("token", "secret", int64(1))
	set("reports", "audience", int64(7))
	v["autoscaler"] = map[string]any{"max-scale": float64(10), "enable-scale-to-zero": false}
	all, err := execute(v, "rouse-system")
	if err != nil {
		t.Fatal(err)
	}
	objects(t, all)
	var text strings.Builder
	for _, c := range all {
		text.Write(c.YAML)
	}
	for _, want := range []string{`value: "rouse/queueproxy:20260101"`, "image: rouse/webhook:20260101", `token: "42"`, `resourceNames: ["1"]`, `secretKeyRef: {name: "1"`, `ROUSE_TOKEN_AUDIENCE, value: "7"`,
		`max-scale: "10"`, `enable-scale-to-zero: "false"`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the objects lack %s", want)
		}
	}
}

// TestNoServiceLinks: Services of the namespace name no variables of our own pods.
func TestNoServiceLinks(t *testing.T) {
	seen := 0
	for _, o := range objects(t, render(t, Options{Webhook: true})) {
		if template, ok := o.Spec["template"].(map[string]any); ok {
			seen++
			if spec, _ := template["spec"].(map[string]any); spec["enableServiceLinks"] != false {
				t.Errorf("%s %s: enableServiceLinks is %v", o.Kind, o.Metadata.Name, spec["enableServiceLinks"])
			}
		}
	}
	if seen != 3 {
		t.Errorf("saw %d templates, want three", seen)
	}
}

// TestSlicesOnOpenShift: there a controller that writes addresses of pods needs a right of its own, on a resource that no API
// server serves (openshift/kubernetes, openshift-kube-apiserver/admission/network/restrictedendpoints).
func TestSlicesOnOpenShift(t *testing.T) {
	for _, o := range objects(t, render(t, Options{})) {
		for _, r := range o.Rules {
			if o.Kind == "ClusterRole" && slices.Equal(r.Resources, []string{"endpointslices/restricted"}) && slices.Equal(r.APIGroups, []string{"discovery.k8s.io"}) && slices.Equal(r.Verbs, []string{"create"}) {
				return
			}
		}
	}
	t.Error("control may not write addresses of the cluster's network on OpenShift")
}

// TestSecretsOfControl: it may make the token's Secret, unless there is one already, and read that one alone.
func TestSecretsOfControl(t *testing.T) {
	for secret, want := range map[string]string{"": "get [rouse-token], create []", "mine": "get [mine]"} {
		var got []string
		for _, o := range objects(t, render(t, Options{TokenSecret: secret})) {
			for _, r := range o.Rules {
				if slices.Contains(r.Resources, "secrets") {
					got = append(got, fmt.Sprint(strings.Join(r.Verbs, ","), " ", r.ResourceNames))
				}
			}
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("with --token-secret %q control may %s, want %s", secret, text, want)
		}
	}
}

// values reads a values file as Helm does, into numbers of one type, and lays it over the chart's.
func values(t *testing.T, file string, number func(text json.Number) any) map[string]any {
	t.Helper()
	v, err := Options{}.values()
	if err != nil {
		t.Fatal(err)
	}
	over := map[string]any{}
	if err := yaml.Unmarshal([]byte(file), &over, func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d }); err != nil {
		t.Fatal(err)
	}
	var lay func(onto, over map[string]any)
	lay = func(onto, over map[string]any) {
		for key, value := range over {
			below, both := onto[key].(map[string]any)
			switch value := value.(type) {
			case map[string]any:
				if !both {
					below = map[string]any{}
					onto[key] = below
				}
				lay(below, value)
			case json.Number:
				onto[key] = number(value)
			default:
				onto[key] = value
			}
		}
	}
	lay(v, over)
	return v
}

// numbers are the types in which Helm hands numbers over: of -f, of the chart's own values, of --set.
func numbers(t *testing.T) map[string]func(json.Number) any {
	return map[string]func(json.Number) any{
		"float64": func(n json.Number) any {
			f, err := n.Float64()
			if err != nil {
				t.Error(err)
			}
			return f
		},
		"json.Number": func(n json.Number) any { return n },
		"int64": func(n json.Number) any {
			if i, err := n.Int64(); err == nil {
				return i
			}
			return n.String() // --set leaves what has a point a text
		},
	}
}

// TestNumbersOfAValuesFile: they come out as they went in, however large.
func TestNumbersOfAValuesFile(t *testing.T) {
	const file = `
control: {resources: {requests: {cpu: 2, memory: 1073741824}, limits: {memory: 2147483648}}}
activator: {replicas: 1000000, maxReplicas: 20000000, queueTotal: 123456789, resources: {requests: {cpu: 0.25, memory: 134217728}, limits: {memory: 1000000000000}}}
webhook: {enabled: true, replicas: 30000000, resources: {requests: {cpu: 0.5, memory: 33554432}, limits: {memory: 268435456}}, sidecar: {requests: {cpu: 1, memory: 67108864}}}
autoscaler: {max-scale: 1000000, container-concurrency-target-percentage: 0.7, requests-per-second-target-default: 1500000.5}
`
	for kind, number := range numbers(t) {
		all, err := execute(values(t, file, number), "rouse-system")
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		objects(t, all)
		var text strings.Builder
		for _, c := range all {
			text.Write(c.YAML)
		}
		for _, want := range []string{"cpu: 2\n", "memory: 1073741824\n", "memory: 2147483648\n", "minReplicas: 1000000\n", "maxReplicas: 20000000\n", `ROUSE_QUEUE_TOTAL, value: "123456789"`,
			"cpu: 0.25\n", "memory: 134217728\n", "memory: 1000000000000\n", "replicas: 30000000\n", "cpu: 0.5\n", `SIDECAR_CPU_REQUEST, value: "1"`, `SIDECAR_MEMORY_REQUEST, value: "67108864"`, `max-scale: "1000000"`, `target-percentage: "0.7"`, `target-default: "1500000.5"`} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("as %s the objects lack %s", kind, want)
			}
		}
		if bad := regexp.MustCompile(`[0-9]e\+[0-9].*`).FindString(text.String()); bad != "" {
			t.Errorf("as %s there is %s", kind, bad)
		}
	}
}

// TestNumbersThatAreTexts: of a number in a file it can't be known what it was, so that it is refused. Of digits by --set it can.
func TestNumbersThatAreTexts(t *testing.T) {
	for _, name := range []string{"image.tag", "image.pullSecret", "token.secret", "token.value", "reports.audience"} {
		section, key, _ := strings.Cut(name, ".")
		for kind, number := range numbers(t) {
			for _, written := range []string{"20241129", "1.10"} {
				_, err := execute(values(t, section+": {"+key+": "+written+"}", number), "rouse-system")
				if refused := err != nil && strings.Contains(err.Error(), name+" = ") && strings.Contains(err.Error(), "quotes"); refused != (kind != "int64") {
					t.Errorf("%s: %s as %s: %v", name, written, kind, err)
				}
			}
		}
	}
}

// TestOnlyAccess: the rights alone, those of the webhook with them, for the installation that is asked about.
func TestOnlyAccess(t *testing.T) {
	o := Options{Namespace: "tools", CreateNamespace: true, TokenSecret: "mine", Webhook: true, Only: []string{"access"}}
	found := map[string]int{}
	for _, x := range objects(t, render(t, o)) {
		found[x.Kind]++
		for _, s := range x.Subjects {
			if s.Namespace != "tools" {
				t.Errorf("%s %s is for the account %s of %q", x.Kind, x.Metadata.Name, s.Name, s.Namespace)
			}
		}
	}
	want := map[string]int{"ServiceAccount": 3, "ClusterRole": 2, "ClusterRoleBinding": 2, "Role": 2, "RoleBinding": 2}
	if d := cmp.Diff(want, found); d != "" {
		t.Errorf("objects (-want +got):\n%s", d)
	}
	o.Only = nil // and nothing of the kind is anywhere else
	for _, c := range render(t, o) {
		for _, x := range objects(t, []Component{c}) {
			if _, right := want[x.Kind]; right && c.Name != "10-access.yaml" {
				t.Errorf("%s %s is in %s", x.Kind, x.Metadata.Name, c.Name)
			}
		}
	}
	for _, only := range []string{"acess", "webhook"} { // misspelt, and switched off
		if _, err := Render(Options{Only: []string{only}}); err == nil || !strings.Contains(err.Error(), only) {
			t.Errorf("only %s: %v", only, err)
		}
	}
}

// TestParts: each component is one of them, in their order.
func TestParts(t *testing.T) {
	var got []string
	for _, c := range render(t, Options{CreateNamespace: true, Webhook: true}) {
		got = append(got, c.part())
	}
	if d := cmp.Diff(Parts(), got); d != "" {
		t.Errorf("parts (-want +got):\n%s", d)
	}
}

func TestValidate(t *testing.T) {
	_, err := Render(Options{Control: 21, Activators: -1, Namespace: "a b", Tag: "x\ny", Sidecar: inject.Sizes{CPULimit: "many"}, Autoscaler: map[string]string{"stable-window": "soon", "max-scal": "1"}})
	for _, name := range []string{"control", "activators", "namespace", "image tag", "stable-window", "max-scal:", "sidecar cpu-limit", "need the webhook"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
	}
}

// TestNamesAreWhatTheAPIServerTakes compares with the API server's own functions.
func TestNamesAreWhatTheAPIServerTakes(t *testing.T) {
	names := []string{"a", "rouse-system", "0", "Bad_Name", "a/b", "-a", "a-", "a.b", "a..b", ".a", "a.", "a.-b", "a b", "é", "a\n",
		strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 127) + "a"}
	for _, name := range names {
		if err, want := (Options{Namespace: name}).Validate(), len(validation.IsDNS1123Label(name)) == 0; (err == nil) != want {
			t.Errorf("namespace %q: %v, taken by the API server: %t", name, err, want)
		}
		want := len(validation.IsDNS1123Subdomain(name)) == 0
		for _, o := range []Options{{TokenSecret: name}, {PullSecret: name}} {
			if err := o.Default().Validate(); (err == nil) != want {
				t.Errorf("%+v: %v, taken by the API server: %t", o, err, want)
			}
		}
	}
}

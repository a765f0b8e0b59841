package inject

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// optedOut is an injected manifest whose owner wants no queue-proxy any more.
func optedOut(text []byte) []byte {
	return []byte(strings.Replace(string(text), "rouse.dev/inject: enabled", "rouse.dev/inject: disabled", 1))
}

// reread returns what a manifest says. Probes of readiness are completed as the API server does: in the sidecar they are.
func reread(t *testing.T, text []byte) (v any) {
	t.Helper()
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if probe, ok := v["readinessProbe"].(map[string]any); ok {
				complete(probe)
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	return v
}

// TestTakenOut: a workload that opts out is what it was before its injection.
func TestTakenOut(t *testing.T) {
	grace := strings.Replace(small, "{containers:", "{terminationGracePeriodSeconds: 900, containers:", 1)
	for name, source := range map[string]string{
		"no probe":                    grace,
		"a probe":                     strings.Replace(grace, "{name: user,", `{name: user, readinessProbe: {httpGet: {path: /ok, port: 8080, httpHeaders: [{name: a, value: "1"}]}, periodSeconds: 7, failureThreshold: 2},`, 1),
		"a probe like one made up":    strings.Replace(grace, "{name: user,", "{name: user, readinessProbe: {tcpSocket: {port: 8080}, successThreshold: 1},", 1),
		"an exec probe":               strings.Replace(grace, "{name: user,", "{name: user, readinessProbe: {exec: {command: [x]}},", 1),
		"other hooks":                 strings.Replace(grace, "{name: user,", "{name: user, lifecycle: {postStart: {exec: {command: [x]}}},", 1),
		"a hook of its own":           strings.Replace(grace, "{name: user,", "{name: user, lifecycle: {preStop: {exec: {command: [x]}}}, readinessProbe: {grpc: {port: 8080}},", 1),
		"init containers and volumes": strings.Replace(grace, "{containers:", "{initContainers: [{name: a, image: b}], volumes: [{name: c, emptyDir: {}}], containers:", 1),
	} {
		for _, newer := range []bool{false, true} {
			once := injected(t, "x", []byte(source), options).YAML
			if newer {
				next := options
				next.Image = "rouse/queueproxy:v2"
				once = injected(t, "x", once, next).YAML
			}
			r := injected(t, "x", optedOut(once), options)
			if d := cmp.Diff(reread(t, optedOut([]byte(source))), reread(t, r.YAML)); d != "" || len(r.TakenOut) != 1 || len(r.Faults) > 0 {
				t.Errorf("%s: %v, taken out of %q (-was +is):\n%s", name, r.Faults, r.TakenOut, d)
			}
			if again := injected(t, "x", r.YAML, options); string(again.YAML) != string(r.YAML) || len(again.Left) != 1 {
				t.Errorf("%s: a second time (-once +twice):\n%s", name, cmp.Diff(string(r.YAML), string(again.YAML)))
			}
		}
	}
}

// TestTakenOutSays: what can't be put back is said, and a probe that would be lost is refused.
func TestTakenOutSays(t *testing.T) {
	once := string(optedOut(injected(t, "x", []byte(with("readinessProbe: {httpGet: {path: /ok, port: 8080}},", "")), options).YAML))
	r := injected(t, "x", []byte(once), options)
	if len(r.Faults) != 1 || !r.Faults[0].Minor || !strings.Contains(r.Faults.Error(), "terminationGracePeriodSeconds: stays at 330") || strings.Contains(string(r.YAML), ContainerName) {
		t.Errorf("%v, want a warning of the grace period:\n%s", r.Faults, r.YAML)
	}
	moved := strings.Replace(once, "containerPort: 8080", "containerPort: 3000", 1)
	if r := injected(t, "x", []byte(moved), options); decodedProbePort(t, r.YAML) != 3000 {
		t.Errorf("the probe did not follow the application to another port:\n%s", r.YAML)
	}
	for name, tc := range map[string]struct{ old, new, says string }{
		"no port":  {"ports: [{containerPort: 8080}]", "ports: []", "can't be given back"},
		"no probe": {`'{"failureThreshold":3,"httpGet":{"path":"/ok","port":8080,"scheme":"HTTP"},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1}'`, `'{"httpGet":'`, "can't be read"},
	} {
		text := strings.Replace(once, tc.old, tc.new, 1)
		r := injected(t, "x", []byte(text), options)
		if len(r.Faults.severe()) == 0 || !strings.Contains(r.Faults.Error(), tc.says) || !strings.Contains(r.Faults.Error(), "start from the manifest") || string(r.YAML) != text || len(r.TakenOut) > 0 {
			t.Errorf("%s: %v, want it refused by %q and left alone:\n%s", name, r.Faults, tc.says, text)
		}
	}
}

func decodedProbePort(t *testing.T, text []byte) int {
	t.Helper()
	root := new(yaml.Node)
	if err := yaml.Unmarshal(text, root); err != nil {
		t.Fatal(err)
	}
	all := field{node: root.Content[0]}.at("spec").at("template").at("spec").at("containers").items()
	return all[0].at("readinessProbe").at("httpGet").at("port").number(0)
}

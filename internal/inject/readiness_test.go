package inject

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// sidecarOf returns the queue-proxy of a pod spec.
func sidecarOf(t *testing.T, spec any) map[string]any {
	t.Helper()
	s, _ := spec.(map[string]any)
	all, _ := s["initContainers"].([]any)
	for _, c := range all {
		if c, _ := c.(map[string]any); c["name"] == ContainerName {
			return c
		}
	}
	t.Fatalf("there is no sidecar in %v", spec)
	return nil
}

// fileSidecar injects a Deployment whose container has a probe.
func fileSidecar(t *testing.T, probe string, o Options) map[string]any {
	t.Helper()
	r := injected(t, "x", []byte(with("readinessProbe: "+probe+",", "")), o)
	var d struct {
		Spec struct {
			Template struct{ Spec map[string]any }
		}
	}
	if err := yaml.Unmarshal(r.YAML, &d); err != nil || len(r.Faults) > 0 {
		t.Fatalf("%s: %v, %v", probe, r.Faults, err)
	}
	return sidecarOf(t, d.Spec.Template.Spec)
}

// podSidecar is what the webhook makes of the pods of that Deployment, with the probe as the API server stores it.
func podSidecar(t *testing.T, probe string, o Options) map[string]any {
	t.Helper()
	pod := fmt.Sprintf(`{"metadata": {"generateName": "hello-5d8f9c-", "labels": {"rouse.dev/inject": "enabled", "pod-template-hash": "5d8f9c"},
		"ownerReferences": [{"kind": "ReplicaSet", "name": "hello-5d8f9c", "controller": true}]},
		"spec": {"containers": [{"name": "user", "image": "x", "ports": [{"containerPort": 8080, "protocol": "TCP"}], "readinessProbe": %s}]}}`, probe)
	patch, _, err := Pod([]byte(pod), "default", o)
	if err != nil {
		t.Fatalf("%s: %v", probe, err)
	}
	var out struct{ Spec map[string]any }
	if err := json.Unmarshal(patched(t, []byte(pod), patch), &out); err != nil {
		t.Fatal(err)
	}
	return sidecarOf(t, out.Spec)
}

// TestFileIsPod: a probe means the same in a file as in the pod that the API server makes of it, with its defaults.
func TestFileIsPod(t *testing.T) {
	for _, c := range []struct{ file, pod string }{
		{"{httpGet: {port: 8080}}",
			`{"httpGet":{"path":"/","port":8080,"scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3}`},
		{"{httpGet: {path: /ready, port: 8080}, timeoutSeconds: 5}",
			`{"httpGet":{"path":"/ready","port":8080,"scheme":"HTTP"},"timeoutSeconds":5,"periodSeconds":10,"successThreshold":1,"failureThreshold":3}`},
		{`{httpGet: {path: "", port: "8080", httpHeaders: [{name: A, value: b}]}, periodSeconds: 0, timeoutSeconds: 0, initialDelaySeconds: 0}`,
			`{"httpGet":{"path":"/","port":"8080","scheme":"HTTP","httpHeaders":[{"name":"A","value":"b"}]},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3}`},
		{"{httpGet: null, exec: ~, tcpSocket: {port: 8080}, periodSeconds: ~, failureThreshold: 7}",
			`{"tcpSocket":{"port":8080},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":7}`},
		{"{tcpSocket: {port: 8080, host: localhost}, periodSeconds: 1, successThreshold: 2, initialDelaySeconds: 4}",
			`{"tcpSocket":{"port":8080,"host":"localhost"},"timeoutSeconds":1,"periodSeconds":1,"successThreshold":2,"failureThreshold":3,"initialDelaySeconds":4}`},
		{"{grpc: {port: 8080}, periodSeconds: 300}",
			`{"grpc":{"port":8080,"service":""},"timeoutSeconds":1,"periodSeconds":300,"successThreshold":1,"failureThreshold":3}`},
		{"{grpc: {port: 9000, service: shop}, failureThreshold: 2147483647, periodSeconds: 2147483647}",
			`{"grpc":{"port":9000,"service":"shop"},"timeoutSeconds":1,"periodSeconds":2147483647,"successThreshold":1,"failureThreshold":2147483647}`},
		{"{exec: {command: [a]}, timeoutSeconds: 5}",
			`{"exec":{"command":["a"]},"timeoutSeconds":5,"periodSeconds":10,"successThreshold":1,"failureThreshold":3}`},
		{"null", "null"},
	} {
		file, pod := fileSidecar(t, c.file, options), podSidecar(t, c.pod, options)
		a, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(b), string(a)); d != "" {
			t.Errorf("%s (-by the webhook +in a file):\n%s", c.file, d)
		}
	}
}

// TestHowKubeletAsks: each second, with time for an answer that waits for the application's own period, and its own thresholds. Only
// what is Knative's is patient without a period.
func TestHowKubeletAsks(t *testing.T) {
	knative := options
	knative.KnativeProbes = true
	for _, c := range []struct {
		probe                     string
		options                   Options
		paced                     bool
		timeout, failure, success any
	}{
		{"{httpGet: {port: 8080}}", options, true, 11, 3, nil},
		{"{httpGet: {port: 8080}, timeoutSeconds: 5, failureThreshold: 4, successThreshold: 2}", options, true, 15, 4, 2},
		{"{httpGet: {port: 8080}, timeoutSeconds: 5}", knative, false, patience, nil, nil},
		{"{httpGet: {port: 8080}, periodSeconds: 5}", knative, true, 6, 3, nil},
		{"null", options, false, patience, nil, nil},
	} {
		s := fileSidecar(t, c.probe, c.options)
		p, _ := s["readinessProbe"].(map[string]any)
		want := []any{askPeriod, c.timeout, c.failure, c.success}
		if d := cmp.Diff(want, []any{p["periodSeconds"], p["timeoutSeconds"], p["failureThreshold"], p["successThreshold"]}); d != "" {
			t.Errorf("%s: kubelet asks by %v (-want +got):\n%s", c.probe, p, d)
		}
		if paced := strings.Contains(fmt.Sprint(s["env"]), "ROUSE_READINESS_PACED"); paced != c.paced {
			t.Errorf("%s: the queue-proxy keeps the pace: %t, want %t", c.probe, paced, c.paced)
		}
	}
}

// TestOlderProbes: what an older version has moved into a sidecar is asked the way of this one.
func TestOlderProbes(t *testing.T) {
	once := string(injected(t, "x", []byte(with("readinessProbe: {httpGet: {path: /ok, port: 8080}, timeoutSeconds: 5},", "")), options).YAML)
	older := strings.NewReplacer(`,"scheme":"HTTP"`, "", `"failureThreshold":3,`, "", `"successThreshold":1,`, "", "timeoutSeconds: 15, failureThreshold: 3", "timeoutSeconds: 5, failureThreshold: 30",
		`{name: ROUSE_READINESS_PACED, value: "true"}, `, "").Replace(once)
	got := string(injected(t, "x", []byte(older), options).YAML)
	for _, want := range []string{`"httpGet":{"path":"/ok","port":8080,"scheme":"HTTP"}`, "timeoutSeconds: 15, failureThreshold: 3}", "ROUSE_READINESS_PACED"} {
		if strings.Contains(older, want) || !strings.Contains(got, want) {
			t.Errorf("an older sidecar has not got %s:\n%s", want, got)
		}
	}
}

package inject

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// completed does to a pod what an API server with a LimitRange and with AlwaysPullImages does between two calls of a webhook.
func completed(t *testing.T, pod []byte) []byte {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(pod, &o); err != nil {
		t.Fatal(err)
	}
	spec, _ := o["spec"].(map[string]any)
	for _, list := range []string{"containers", "initContainers"} {
		all, _ := spec[list].([]any)
		for _, c := range all {
			c, _ := c.(map[string]any)
			c["imagePullPolicy"], c["terminationMessagePath"] = "Always", "/dev/termination-log"
			resources, _ := c["resources"].(map[string]any)
			if resources == nil {
				resources = map[string]any{}
				c["resources"] = resources
			}
			resources["limits"] = map[string]any{"cpu": "500m", "memory": "256Mi"}
		}
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSecondCall: a pod that has our sidecar is left alone by the webhook, whatever the API server has added to it since.
func TestSecondCall(t *testing.T) {
	for _, pod := range pods(t) {
		patch, _, err := Pod(pod, "default", options)
		if err != nil || len(patch) == 0 {
			continue
		}
		after := completed(t, patched(t, pod, patch))
		again, warnings, err := Pod(after, "default", options)
		if err != nil || len(again) > 0 || len(warnings) > 0 {
			t.Errorf("a second time: %v, %q, %v; want nothing", again, warnings, err)
		}
	}
}

// TestPodOfAFile: the webhook leaves alone what a file was injected with, by another version and with what only the workload says.
func TestPodOfAFile(t *testing.T) {
	file := injected(t, "x", []byte(with("readinessProbe: {httpGet: {path: /ok, port: 8080}},", `rouse.dev/container-concurrency: "7",`)), Options{Image: "rouse/queueproxy:v0"})
	var o map[string]any
	if err := yaml.Unmarshal(file.YAML, &o); err != nil {
		t.Fatal(err)
	}
	spec, _ := o["spec"].(map[string]any)
	template, _ := spec["template"].(map[string]any)
	template["metadata"] = map[string]any{"labels": map[string]any{Inject: "enabled"}}
	pod, err := json.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	if patch, warnings, err := Pod(pod, "default", options); err != nil || len(patch) > 0 || len(warnings) > 0 {
		t.Errorf("%v, %q, %v; want nothing", patch, warnings, err)
	}
}

// TestForeignSidecar: a native sidecar that merely has the name is nobody's to overwrite.
func TestForeignSidecar(t *testing.T) {
	foreign := strings.Replace(small, "{containers:", "{initContainers: [{name: queue-proxy, image: redis, restartPolicy: Always}], containers:", 1)
	r := injected(t, "x", []byte(foreign), options)
	if len(r.Faults) != 1 || r.Faults[0].Minor || string(r.YAML) != foreign {
		t.Errorf("said %v, and made\n%s\nwant a fault and no change", r.Faults, r.YAML)
	}
	_, _, err := Pod([]byte(`{"metadata": {"labels": {"rouse.dev/inject": "enabled"}}, "spec": {"initContainers": [{"name": "queue-proxy", "image": "redis", "restartPolicy": "Always"}],
		"containers": [{"name": "user", "ports": [{"containerPort": 8080}]}]}}`), "default", options)
	if err == nil || !strings.Contains(err.Error(), "none of ours") {
		t.Errorf("of a pod it says %v, want a fault", err)
	}
}

// TestUpgradeKeeps: injecting into a file that was injected sets what is ours, and keeps what somebody has added to the sidecar.
func TestUpgradeKeeps(t *testing.T) {
	text, err := os.ReadFile("testdata/probes.out.yaml")
	if err != nil {
		t.Fatal(err)
	}
	mine := strings.NewReplacer(
		"        image: rouse/queueproxy:v1\n", "        image: rouse/queueproxy:v1\n        imagePullPolicy: Always # ours is private\n",
		"        env:\n", "        env:\n        - {name: SERVING_ENABLE_REQUEST_LOG, value: \"true\"}\n",
		"          limits:\n", "          limits:\n            cpu: 200m\n",
		"        volumeMounts:\n", "        volumeMounts:\n        - {name: certs, mountPath: /certs}\n",
		"          seccompProfile:\n", "          runAsUser: 1000\n          seccompProfile:\n",
		"            cpu: 50m\n", "            cpu: 50m\n            ephemeral-storage: 1Gi\n",
		"  serviceName: shop\n", "  serviceName: shop # mine\n",
	).Replace(string(text))
	newer := options
	newer.Image = "rouse/queueproxy:v2"
	got := injected(t, "x", []byte(mine), newer)
	if want := strings.Replace(mine, "rouse/queueproxy:v1", "rouse/queueproxy:v2", 1); string(got.YAML) != want {
		t.Errorf("more than the image has changed (-want +got):\n%s", cmp.Diff(want, string(got.YAML)))
	}
	// What only our options brought goes with them; an annotation has the last word.
	changed := strings.Replace(mine, "cpu-resource-request: 50m", "cpu-resource-limit: 300m", 1)
	bare := string(injected(t, "x", []byte(changed), Options{Image: "rouse/queueproxy:v2"}).YAML)
	for _, word := range []string{"ROUSE_STATS_URL", "ROUSE_STATS_TOKEN_FILE", tokenVolume, "cpu: 200m"} {
		if strings.Contains(bare, word) {
			t.Errorf("%s is left:\n%s", word, bare)
		}
	}
	for _, word := range []string{"SERVING_ENABLE_REQUEST_LOG", "mountPath: /certs", "cpu: 300m", "cpu: 50m", "imagePullPolicy: Always"} {
		if !strings.Contains(bare, word) {
			t.Errorf("%s is gone:\n%s", word, bare)
		}
	}
}

// TestRequestBeyondAKeptLimit: no API server takes it.
func TestRequestBeyondAKeptLimit(t *testing.T) {
	once := injected(t, "x", []byte(small), options)
	limited := strings.Replace(string(once.YAML), "requests:", "limits: {cpu: 20m}, requests:", 1)
	limited = strings.Replace(limited, "rouse.dev/inject: enabled", "rouse.dev/inject: enabled, "+sizePrefix+"cpu-resource-request: 50m", 1)
	r := injected(t, "x", []byte(limited), options)
	if len(r.Faults) != 1 || r.Faults[0].Minor || !strings.Contains(r.Faults.Error(), "more than the limit 20m") {
		t.Errorf("said %v of\n%s", r.Faults, limited)
	}
}

package selftest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

const configured = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: blue, file.txt: one}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {TOKEN: secret}
---
apiVersion: v1
kind: Pod
metadata: {name: configured, labels: {app: configured, tier: gold}}
spec:
  containers:
  - name: app
    image: {{image "testapp"}}
    resources: {limits: {memory: 64Mi}}
    ` + listens + `
    envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: keys}, prefix: KEY_}]
    env:
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: BOTH, value: "$(TIER)-$(COLOUR)"}
    volumeMounts: [{name: settings, mountPath: /settings}, {name: scratch, mountPath: /scratch}, {name: info, mountPath: /info}]
  - {name: other, image: local/host, command: [sleep, infinity], volumeMounts: [{name: scratch, mountPath: /scratch}]}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: scratch, emptyDir: {}}
  - {name: info, projected: {sources: [{downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}, {serviceAccountToken: {path: token, audience: rouse, expirationSeconds: 600}}]}}
`

func TestConfiguration(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(configured)
	p := c.WaitPod("configured", "is ready", time.Minute, harness.Ready)
	for name, want := range map[string]string{
		"COLOUR": "blue", "KEY_TOKEN": "secret", "TIER": "gold", "POD_IP": p.Status.PodIP, "MEMORY": "64", "BOTH": "gold-blue", "KUBERNETES_SERVICE_HOST": apiServer(c),
	} {
		if got := strings.TrimSpace(c.Get(harness.At(p, 8080) + "/env?name=" + name).Body); got != want {
			t.Errorf("$%s = %q, want %q", name, got, want)
		}
	}
	sh := func(container, command string) string {
		out, err := c.Kubectl("exec", "configured", "-c", container, "--", "sh", "-c", command)
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		return strings.TrimSpace(out)
	}
	sh("app", "echo shared >/scratch/note")
	for command, want := range map[string]string{
		"cat /settings/file.txt":          "one",
		"grep tier /info/labels":          `tier="gold"`,
		"cut -d. -f2 /info/token | wc -w": "1",
		"id -u":                           "65532",
	} {
		if got := sh("app", command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	if got := sh("other", "cat /scratch/note"); got != "shared" {
		t.Errorf("emptyDir in the other container: %q", got)
	}
	if got := sh("app", "ls /proc | grep -c '^[0-9]'"); got == "0" {
		t.Errorf("processes in sight: %s", got)
	}
}

// TestConfigMapReachesVolume: kubelet renews volumes when it syncs the pod; an annotation makes it sync at once.
func TestConfigMapReachesVolume(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(configured)
	c.WaitPod("configured", "is ready", time.Minute, harness.Ready)
	c.Apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {COLOUR: blue, file.txt: two}}")
	n := 0
	c.Eventually(90*time.Second, "the file changes", func() error {
		n++
		if _, err := c.Kubectl("annotate", "--overwrite", "pod", "configured", fmt.Sprintf("touched=%d", n)); err != nil {
			return err
		}
		out, err := c.Kubectl("exec", "configured", "-c", "app", "--", "cat", "/settings/file.txt")
		if err == nil && out != "two" {
			err = fmt.Errorf("file %q", out)
		}
		return err
	})
}

const hungry = `
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - {name: app, image: local/host, command: [bash, -c, 'x=$(head -c 200M /dev/zero | tr "\\0" x); echo $'], resources: {limits: {memory: 32Mi}}}
`

// TestMemoryLimit holds the limit where the machine has cgroups for it, and that the node says so where it hasn't.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	log, err := os.ReadFile(filepath.Join(os.Getenv(harness.EnvState), "log", "node-agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	enforced := !strings.Contains(string(log), "limits of CPU and memory are not enforced")
	c.Apply(hungry)
	p := c.WaitPod("hungry", "ends", time.Minute, func(p *corev1.Pod) error {
		if s := first(p); s.State.Terminated == nil {
			return fmt.Errorf("%+v", s.State)
		}
		return nil
	})
	end := first(p).State.Terminated
	if killed := end.Reason == "OOMKilled"; killed != enforced {
		t.Errorf("ended with %s, code %d; limits are enforced: %t", end.Reason, end.ExitCode, enforced)
	}
}

func TestLogsAndForwarding(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  containers:
  - {name: app, image: local/host, command: [sh, -c, 'echo to-out; echo to-err >&2; printf unfinished; head -c 40000 /dev/zero | tr "\\0" y; echo; exec sleep infinity']}
`)
	c.WaitPod("talker", "runs", 30*time.Second, harness.Ready)
	c.Eventually(10*time.Second, "kubectl logs shows both streams", func() error {
		out, err := c.Kubectl("logs", "talker")
		rest := strings.Replace(out, "to-err\n", "", 1) // it may stand anywhere, also between two parts of a long line
		if err == nil && (rest == out || !strings.Contains(rest, "to-out\n") || !strings.Contains(rest, "unfinished"+strings.Repeat("y", 40000)+"\n")) {
			err = fmt.Errorf("%d bytes: %.200s", len(out), out)
		}
		return err
	})
	if got := c.Logs("talker", "app"); !strings.Contains(got, "to-out") {
		t.Errorf("by the API: %.200s", got)
	}
	raw, err := c.Client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/node1/proxy/pods").DoRaw(c.Context)
	if err != nil || !strings.Contains(string(raw), "talker") {
		t.Errorf("kubelet's list of pods by way of the API server: %v, %.200s", err, raw)
	}
	if out, err := c.Kubectl("exec", "talker", "--", "sh", "-c", "exit 7"); err == nil || !strings.Contains(out, "7") {
		t.Errorf("exec's exit code: %v: %s", err, out)
	}
}

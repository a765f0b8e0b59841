package selftest

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

const probed = `
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  volumes: [{name: shared, hostPath: {path: {{shared}}}}]
  containers:
  - name: app
    args: [-name, app, -journal, /shared/probed, -grpc, ":9001"]
    %s
    ` + block + `
`

// set switches one of the test program's states by the pod's own address.
func set(c *harness.Cluster, state string) error {
	return c.Reach(harness.At(c.Pod("probed"), 8080) + "/set?" + state)
}

func notReady(p *corev1.Pod) error {
	if harness.Ready(p) == nil {
		return fmt.Errorf("the pod is ready")
	}
	return nil
}

func TestReadinessProbes(t *testing.T) {
	for name, probe := range map[string]struct{ yaml, off, on string }{
		"http": {`{httpGet: {path: /ready, port: 8080}, periodSeconds: 1, failureThreshold: 1}`, "ready=0", "ready=1"},
		"grpc": {`{grpc: {port: 9001}, periodSeconds: 1, failureThreshold: 1}`, "ready=0", "ready=1"},
		"exec": {`{exec: {command: [sh, -c, "! test -e /shared/off"]}, periodSeconds: 1, failureThreshold: 1}`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harness.New(t)
			c.Apply(fmt.Sprintf(probed, "readinessProbe: "+probe.yaml))
			c.WaitPod("probed", "becomes ready", 30*time.Second, harness.Ready)
			turn(t, c, probe.off, "touch /shared/off")
			c.WaitPod("probed", "becomes unready", 10*time.Second, notReady)
			turn(t, c, probe.on, "rm /shared/off")
			c.WaitPod("probed", "becomes ready again", 10*time.Second, harness.Ready)
			if n := first(c.Pod("probed")).RestartCount; n != 0 {
				t.Errorf("%d restarts: readiness must not restart", n)
			}
		})
	}
}

// turn switches by HTTP, or by a command in the container.
func turn(t *testing.T, c *harness.Cluster, state, command string) {
	t.Helper()
	if state != "" {
		if err := set(c, state); err != nil {
			t.Fatal(err)
		}
		return
	}
	if out, err := c.Kubectl("exec", "probed", "--", "sh", "-c", command); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestReadinessByTCP(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(fmt.Sprintf(probed, "readinessProbe: {tcpSocket: {port: 9001}, periodSeconds: 1}"))
	c.WaitPod("probed", "becomes ready", 30*time.Second, harness.Ready)
}

func TestReadinessByTCPOfNothing(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(fmt.Sprintf(probed, "readinessProbe: {tcpSocket: {port: 9999}, periodSeconds: 1}"))
	c.WaitPod("probed", "runs", 30*time.Second, func(p *corev1.Pod) error {
		if p.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("phase %s", p.Status.Phase)
		}
		return nil
	})
	c.Never(3*time.Second, "becomes ready, though nothing listens", func() error { return notReady(c.Pod("probed")) })
}

// TestStartupProbeGates: readiness is not asked before the start-up probe has passed.
func TestStartupProbeGates(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(fmt.Sprintf(probed, `startupProbe: {exec: {command: [test, -e, /shared/started]}, periodSeconds: 1, failureThreshold: 60}
    readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}`))
	c.WaitPod("probed", "runs", 30*time.Second, func(p *corev1.Pod) error {
		if p.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("phase %s", p.Status.Phase)
		}
		return nil
	})
	c.Never(3*time.Second, "is ready before it has started", func() error {
		p := c.Pod("probed")
		if s := first(p); s.Started == nil || *s.Started {
			return fmt.Errorf("started: %v", s.Started)
		}
		return notReady(p)
	})
	turn(t, c, "", "touch /shared/started")
	c.WaitPod("probed", "becomes ready", 10*time.Second, harness.Ready)
}

func TestLivenessRestarts(t *testing.T) {
	for name, probe := range map[string]struct{ yaml, off string }{
		"http": {`{httpGet: {path: /live, port: 8080}, periodSeconds: 1, failureThreshold: 2}`, "live=0"},
		"grpc": {`{grpc: {port: 9001}, periodSeconds: 1, failureThreshold: 2}`, "ready=0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harness.New(t)
			c.Apply(fmt.Sprintf(probed, "livenessProbe: "+probe.yaml))
			c.WaitPod("probed", "is ready", 30*time.Second, harness.Ready)
			c.Eventually(10*time.Second, "it listens", func() error { return set(c, probe.off) })
			c.WaitPod("probed", "is restarted", 30*time.Second, func(p *corev1.Pod) error {
				if s := first(p); s.RestartCount != 1 || s.State.Running == nil {
					return fmt.Errorf("%d restarts, state %+v", s.RestartCount, s.State)
				}
				return nil
			})
			c.Eventually(10*time.Second, "the new process speaks", func() error {
				if got := order(c.Journal("probed")); got[len(got)-1] != "app: listening" {
					return fmt.Errorf("events %v", got)
				}
				return nil
			})
			inOrder(t, order(c.Journal("probed")), "app: sigterm", "app: exit 0", "app: start")
		})
	}
}

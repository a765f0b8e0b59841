package selftest

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// journal mounts the shared directory and names the container in what it writes there.
const journal = `volumeMounts: [{name: shared, mountPath: /shared}], image: {{image "testapp"}}`

// listens makes a pod ready when its process has begun, not when it was started: it would not have heard of signals and hooks before.
const listens = `readinessProbe: {httpGet: {path: /started, port: 8080}, periodSeconds: 1}`

const sidecars = `
apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  terminationGracePeriodSeconds: 20
  volumes: [{name: shared, hostPath: {path: {{shared}}}}]
  initContainers:
  - {name: first, args: [-name, first, -journal, /shared/order, -once, /tmp/done], ` + journal + `}
  - name: proxy
    restartPolicy: Always
    args: [-name, proxy, -journal, /shared/order, -listen, ":9001", -startup, 1500ms]
    startupProbe: {httpGet: {path: /started, port: 9001}, periodSeconds: 1, failureThreshold: 30}
    lifecycle: {preStop: {httpGet: {path: /prestop, port: 9001}}}
    ` + block + `
  - {name: second, args: [-name, second, -journal, /shared/order, -once, /tmp/done], ` + journal + `}
  - name: agent
    restartPolicy: Always
    args: [-name, agent, -journal, /shared/order, -listen, ":9002"]
    startupProbe: {httpGet: {path: /started, port: 9002}, periodSeconds: 1, failureThreshold: 30}
    ` + block + `
  containers:
  - name: app
    args: [-name, app, -journal, /shared/order, -linger, 1s]
    ` + listens + `
    lifecycle: {preStop: {httpGet: {path: /prestop, port: 8080}}}
    ` + block + `
`

const block = `volumeMounts: [{name: shared, mountPath: /shared}]
    image: {{image "testapp"}}`

// first is the first container's status, empty before there is one.
func first(p *corev1.Pod) (s corev1.ContainerStatus) {
	if len(p.Status.ContainerStatuses) > 0 {
		s = p.Status.ContainerStatuses[0]
	}
	return s
}

// order returns the journal without times, in its order.
func order(events []harness.Event) (lines []string) {
	for _, e := range events {
		lines = append(lines, e.Name+": "+strings.TrimSpace(e.What))
	}
	return lines
}

// inOrder fails the test unless the lines appear, in this order, with others between them perhaps.
func inOrder(t *testing.T, got []string, want ...string) {
	t.Helper()
	rest := got
	for _, w := range want {
		i := slices.Index(rest, w)
		if i < 0 {
			t.Fatalf("%q is missing, or too early, in:\n%s", w, strings.Join(got, "\n"))
		}
		rest = rest[i+1:]
	}
}

func TestInitContainersAndSidecars(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(sidecars)
	c.WaitPod("ordered", "is ready", time.Minute, harness.Ready)
	inOrder(t, order(c.Journal("order")), "first: start", "first: exit 0", "proxy: start", "proxy: listening", "second: start", "second: exit 0", "agent: start", "app: start")
	if err := c.Client.CoreV1().Pods(c.Namespace).Delete(c.Context, "ordered", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.WaitPodGone("ordered", time.Minute)
	got := order(c.Journal("order"))
	// The app; then sidecars in reverse. Hooks of all at once: each before its own container's SIGTERM, and nobody waits for another's.
	inOrder(t, got, "app: sigterm", "app: exit 0", "agent: sigterm", "agent: exit 0", "proxy: sigterm", "proxy: exit 0")
	inOrder(t, got, "app: GET /prestop", "app: sigterm")
	inOrder(t, got, "proxy: GET /prestop", "app: exit 0") // which lingers for a second
}

const hooks = `
apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  volumes: [{name: shared, hostPath: {path: {{shared}}}}]
  containers:
  - name: app
    args: [-name, app, -journal, /shared/hooks]
    ` + listens + `
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo 0 hook poststart >>/shared/hooks"]}}
      preStop: %s
    ` + block + `
`

func TestHooks(t *testing.T) {
	for name, hook := range map[string]struct {
		yaml  string
		event string
		least time.Duration // between the deletion and SIGTERM
	}{
		"exec":  {`{exec: {command: [sh, -c, "echo 0 hook prestop >>/shared/hooks"]}}`, "hook: prestop", 0},
		"http":  {`{httpGet: {path: /prestop, port: 8080}}`, "app: GET /prestop", 0},
		"sleep": {`{sleep: {seconds: 2}}`, "", 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harness.New(t)
			c.Apply(fmt.Sprintf(hooks, hook.yaml))
			c.WaitPod("hooked", "is ready", 30*time.Second, harness.Ready)
			deleted := time.Now()
			if err := c.Client.CoreV1().Pods(c.Namespace).Delete(c.Context, "hooked", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			c.WaitPodGone("hooked", 40*time.Second)
			events := c.Journal("hooks")
			inOrder(t, order(events), "hook: poststart", "app: sigterm", "app: exit 0")
			if hook.event != "" {
				inOrder(t, order(events), hook.event, "app: sigterm")
			}
			term := events[slices.IndexFunc(events, func(e harness.Event) bool { return e.What == "sigterm" })].At
			if waited := term.Sub(deleted); waited < hook.least {
				t.Errorf("SIGTERM came %v after the deletion, want the hook's %v first", waited, hook.least)
			}
		})
	}
}

const stubborn = `
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 3
  volumes: [{name: shared, hostPath: {path: {{shared}}}}]
  containers:
  - name: app
    args: [-name, app, -journal, /shared/grace, -linger, 1h]
    ` + listens + `
    ` + block + `
`

// TestGracePeriod: SIGTERM first, SIGKILL when the grace period is over, and the pod's object stays as long as its processes do.
func TestGracePeriod(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(stubborn)
	c.WaitPod("stubborn", "is ready", 30*time.Second, harness.Ready)
	url := harness.At(c.Pod("stubborn"), 8080) + "/"
	if err := c.Client.CoreV1().Pods(c.Namespace).Delete(c.Context, "stubborn", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Eventually(2*time.Second, "SIGTERM comes at once", func() error {
		if events := order(c.Journal("grace")); !slices.Contains(events, "app: sigterm") {
			return fmt.Errorf("events %v", events)
		}
		return nil
	})
	term := time.Now()
	if err := c.Reach(url); err != nil {
		t.Errorf("a terminating pod doesn't answer in its grace period: %v", err)
	}
	c.WaitPodGone("stubborn", 30*time.Second)
	if took := time.Since(term); took < 2*time.Second {
		t.Errorf("the pod went %v after SIGTERM, want its grace period of 3 s", took)
	}
	if err := c.Reach(url); err == nil {
		t.Error("the process answers after its pod is gone")
	}
	if got := order(c.Journal("grace")); slices.Contains(got, "app: exit 0") {
		t.Errorf("events %v, want a process that was killed", got)
	}
}

const failing = `
apiVersion: v1
kind: Pod
metadata: {name: failing}
spec:
  restartPolicy: %s
  containers:
  - name: app
    image: {{image "testapp"}}
    args: %s
    ` + listens + `
`

func TestCrashLoop(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(fmt.Sprintf(failing, "Always", "[-fail, '3']"))
	// The first restart is immediate; a later one waits 10 s and more. Kubelet says so at its next look at the pod, which may be 10 s later again.
	c.WaitPod("failing", "waits in CrashLoopBackOff", 90*time.Second, func(p *corev1.Pod) error {
		s := first(p)
		if s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.RestartCount == 0 {
			return fmt.Errorf("%+v", s)
		}
		if last := s.LastTerminationState.Terminated; last == nil || last.ExitCode != 3 || last.Reason != "Error" {
			return fmt.Errorf("last state %+v", last)
		}
		return nil
	})
}

func TestPhases(t *testing.T) {
	for name, tc := range map[string]struct {
		args  string
		phase corev1.PodPhase
	}{
		"succeeded": {"[-once, /tmp/done]", corev1.PodSucceeded},
		"failed":    {"[-fail, '3']", corev1.PodFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := harness.New(t)
			c.Apply(fmt.Sprintf(failing, "Never", tc.args))
			c.WaitPod("failing", "ends", 30*time.Second, func(p *corev1.Pod) error {
				if p.Status.Phase != tc.phase {
					return fmt.Errorf("phase %s, want %s", p.Status.Phase, tc.phase)
				}
				return nil
			})
		})
	}
}

func TestKilledContainerRestarts(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(fmt.Sprintf(failing, "Always", "[]"))
	c.WaitPod("failing", "is ready", 30*time.Second, harness.Ready)
	c.Signal("failing", "app", syscall.SIGKILL)
	p := c.WaitPod("failing", "is ready again", 30*time.Second, func(p *corev1.Pod) error {
		if s := first(p); s.RestartCount != 1 {
			return fmt.Errorf("%d restarts", s.RestartCount)
		}
		return harness.Ready(p)
	})
	if last := first(p).LastTerminationState.Terminated; last.ExitCode != 137 {
		t.Errorf("last state %+v, want exit code 137", last)
	}
	if out, err := c.Kubectl("logs", "failing", "--previous"); err != nil || !strings.Contains(out, "listening") {
		t.Errorf("log of the killed container: %v\n%s", err, out)
	}
}

func TestImageThatIsMissing(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec: {containers: [{name: app, image: local/nobody-built-this}]}
`)
	c.WaitPod("missing", "says what is missing", 30*time.Second, func(p *corev1.Pod) error {
		if w := first(p).State.Waiting; w == nil || w.Reason != "ErrImagePull" || !strings.Contains(w.Message, "no binary") {
			return fmt.Errorf("%+v", w)
		}
		return nil
	})
}

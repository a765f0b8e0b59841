package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// app is what a team has: a Deployment without a word about a sidecar but one label, and its Service; %s is the name.
const app = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
  annotations:
    autoscaling.knative.dev/class: kpa.autoscaling.knative.dev
    rouse.dev/container-concurrency: "20"
spec:
  replicas: 1
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata:
      labels: {app: %[1]s, rouse.dev/inject: enabled}
      annotations: {rouse.dev/container-concurrency: "20"}
    spec:
      containers:
      - name: user
        image: {{image "testapp"}}
        args: [-journal, /shared/%[1]s]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: http}}
        volumeMounts: [{name: shared, mountPath: /shared}]
      volumes: [{name: shared, hostPath: {path: {{shared}}}}]
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {ports: [{name: http, port: 80, targetPort: http}]}
`

// TestRouseInstalled walks the way of the documentation: what `rouse install --webhook` prints is applied, a Deployment with a label gets its
// queue-proxy from the webhook, scales to zero and back, another comes up under a LimitRange, and `rouse uninstall` takes everything away while the Service is asked.
func TestRouseInstalled(t *testing.T) {
	c := harness.New(t)
	for _, image := range []string{"autoscaler", "activator", "webhook", "queueproxy", "rouse", "rouse-kube"} {
		c.Image(image)
	}
	pipe(t, c, []string{"install", "--webhook", "--image-repository", "local", "--image-tag", "test",
		"--set", "stable-window=6s", "--set", "scale-to-zero-grace-period=6s"}, "apply", "-f", "-")
	t.Cleanup(func() {
		pipe(t, c, []string{"uninstall", "--offline"}, "delete", "--ignore-not-found", "--wait=false", "-f", "-")
	})
	awaitInstalled(t, c)

	c.Apply(fmt.Sprintf(app, "shop"))
	url := c.URL("shop", 80)
	c.Eventually(time.Minute, "the pod that the Deployment began with is ready", func() error { return c.Reach(url + "/") })
	for _, p := range c.Pods("app=shop") {
		if n := len(p.Spec.InitContainers); n != 1 || p.Spec.InitContainers[0].Name != "queue-proxy" {
			t.Errorf("pod %s has %d init containers, want the queue-proxy that the webhook adds", p.Name, n)
		}
	}
	for range 2 {
		c.Eventually(time.Minute, "it sleeps", func() error {
			if n := *c.Deployment("shop").Spec.Replicas; n != 0 {
				return fmt.Errorf("%d replicas", n)
			}
			return nil
		})
		c.WaitGone("app=shop", time.Minute)
		if r := c.Get(url + "/"); r.Status != 200 {
			t.Errorf("the first request after sleep: %d %q", r.Status, r.Body)
		}
	}
	for _, e := range c.Journal("shop") {
		if strings.Contains(e.What, "/metrics") {
			t.Errorf("the application was asked %q: whoever fetches statistics must ask the queue-proxy", e.What)
			break
		}
	}
	limited(t, c)
	uninstalled(t, c, url)
}

// limits makes the API server complete every container, and refuse one without limits.
const limits = `
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec:
  limits:
  - type: Container
    default: {cpu: "1", memory: 256Mi}
    defaultRequest: {cpu: 10m, memory: 16Mi}
    max: {cpu: "2", memory: 1Gi}
`

// limited has the webhook called a second time, after the LimitRange has given its sidecar limits: the pod keeps them and comes up.
func limited(t *testing.T, c *harness.Cluster) {
	t.Helper()
	c.Apply(limits)
	c.Apply(fmt.Sprintf(app, "tight"))
	c.Eventually(time.Minute, "a pod within limits is ready", func() error { return c.Reach(c.URL("tight", 80) + "/") })
	pods := c.Pods("app=tight")
	if len(pods) == 0 {
		t.Error("there is no pod")
	}
	for _, p := range pods {
		if n := len(p.Spec.InitContainers); n != 1 || p.Spec.InitContainers[0].Name != "queue-proxy" {
			t.Errorf("pod %s has %d init containers, want the queue-proxy", p.Name, n)
			continue
		}
		if got := p.Spec.InitContainers[0].Resources.Limits; got.Cpu().String() != "1" || got.Memory().String() != "256Mi" {
			t.Errorf("the queue-proxy of pod %s has the limits %v, want those of the LimitRange", p.Name, got)
		}
	}
	c.Delete(fmt.Sprintf(app, "tight"))
	c.WaitGone("app=tight", time.Minute)
	c.Delete(limits)
}

// uninstalled takes Rouse away while shop, whose Service never had a selector, is asked: nobody notices.
func uninstalled(t *testing.T, c *harness.Cluster, url string) {
	t.Helper()
	c.Eventually(time.Minute, "control fills this test's Service, and none that another test left", func() error {
		if all, own := filled(c, metav1.NamespaceAll), filled(c, c.Namespace); all != own || own <= 0 {
			return fmt.Errorf("%d slices are control's, %d of them here", all, own)
		}
		return nil
	})
	load(t, c, url, func() {
		lasting(c, 2*time.Second) // connections are there
		pipe(t, c, []string{"uninstall", "--timeout", "90s"}, "delete", "--ignore-not-found", "--wait=false", "-f", "-")
		lasting(c, long(10*time.Second, time.Minute))
	})
	if n := filled(c, c.Namespace); n != 0 {
		t.Errorf("%d slices of control's are left", n)
	}
	s, err := c.Client.CoreV1().Services(c.Namespace).Get(c.Context, "shop", metav1.GetOptions{})
	if err != nil || s.Spec.Selector["app"] != "shop" {
		t.Errorf("selector %v (%v), want that of the Deployment", s.Spec.Selector, err)
	}
	for name := range s.Annotations {
		if strings.HasPrefix(name, "rouse.dev/") {
			t.Errorf("annotation %s is left", name)
		}
	}
	if twice := c.Twice("shop"); len(twice) > 0 {
		t.Errorf("%d requests reached an application twice, such as %s", len(twice), twice[0])
	}
}

// filled counts control's slices in a namespace, or in all; -1 when they can't be read.
func filled(c *harness.Cluster, namespace string) int {
	list, err := c.Client.DiscoveryV1().EndpointSlices(namespace).List(c.Context, metav1.ListOptions{LabelSelector: discoveryv1.LabelManagedBy + "=control.rouse.dev"})
	if err != nil {
		return -1
	}
	return len(list.Items)
}

// awaitInstalled waits until everything that was installed is ready.
func awaitInstalled(t *testing.T, c *harness.Cluster) {
	t.Helper()
	const system = "rouse-system"
	c.Eventually(2*time.Minute, "control, activators and webhook are ready", func() error {
		s, err := c.Client.AppsV1().StatefulSets(system).Get(c.Context, "autoscaler", metav1.GetOptions{})
		if err != nil {
			return err
		}
		faults := []error{enough("autoscaler", s.Status.ReadyReplicas)}
		for _, name := range []string{"activator", "rouse-webhook"} {
			d, err := c.Client.AppsV1().Deployments(system).Get(c.Context, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			faults = append(faults, enough(name, d.Status.ReadyReplicas))
		}
		hook, err := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(c.Context, "rouse-inject", metav1.GetOptions{})
		if err == nil && len(hook.Webhooks[0].ClientConfig.CABundle) == 0 {
			err = errors.New("the webhook has no authority yet")
		}
		return errors.Join(append(faults, err)...)
	})
	c.Eventually(time.Minute, "the webhook is asked", func() error {
		probe := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe", Labels: map[string]string{"rouse.dev/inject": "enabled"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "user", Image: "local/testapp:test", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}}}}
		made, err := c.Client.CoreV1().Pods(c.Namespace).Create(c.Context, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && len(made.Spec.InitContainers) == 0 {
			err = errors.New("a pod came back without the queue-proxy")
		}
		return err
	})
}

// enough says when fewer than two are ready.
func enough(name string, ready int32) error {
	if ready < 2 {
		return fmt.Errorf("%d of %s are ready", ready, name)
	}
	return nil
}

// pipe hands what rouse prints to kubectl, as the documentation says.
func pipe(t *testing.T, c *harness.Cluster, from []string, to ...string) {
	t.Helper()
	manifests := exec.Command(filepath.Join(os.Getenv(harness.EnvImages), "rouse"), from...)
	var errs strings.Builder
	manifests.Stderr = &errs
	text, err := manifests.Output()
	if err != nil {
		t.Fatalf("rouse %s: %v: %s", strings.Join(from, " "), err, errs.String())
	}
	apply := exec.Command("kubectl", to...)
	apply.Stdin = strings.NewReader(string(text))
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(to, " "), err, out)
	}
}

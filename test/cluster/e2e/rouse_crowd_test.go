package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// crowd is a Deployment whose pods are objects and nothing else: they are bound to a node that nobody runs. %[1]d are its
// pods, %[2]s is the node.
const crowd = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: hello
  annotations: {autoscaling.knative.dev/class: kpa.autoscaling.knative.dev, autoscaling.knative.dev/min-scale: "%[1]d",
    autoscaling.knative.dev/target-burst-capacity: "0", rouse.dev/pod-probe: queue}
spec:
  replicas: %[1]d
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      nodeName: %[2]s
      automountServiceAccountToken: false
      initContainers: [{name: queue-proxy, image: none, restartPolicy: Always, ports: [{name: queue-port, containerPort: 8012}], env: [{name: ROUSE_STATS_URL, value: "ws://nobody"}]}]
      containers: [{name: user, image: none, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {ports: [{name: http, port: 80, targetPort: 8080}]}
`

// perSlice is how many addresses control puts into a slice.
const perSlice = 100

// TestRouseManyPods: a revision of very many pods. Their addresses are all published, each once, and one pod's change is
// one write. Nobody answers at them: activators go on asking within bounds. The figures are logged.
func TestRouseManyPods(t *testing.T) {
	n := long(150, 1500)
	c := install(t)
	node := deadNode(t, c)
	// One more never becomes ready: without reports of load a revision whose pods are all there would be left to activators.
	c.Apply(fmt.Sprintf(crowd, n+1, node))
	var pods []corev1.Pod
	c.Eventually(3*time.Minute, "every pod is an object", func() error {
		if pods = c.Pods("app=hello"); len(pods) != n+1 {
			return fmt.Errorf("%d pods", len(pods))
		}
		return nil
	})
	eachPod(t, c, pods, "False")
	before := consumed(c)
	span := long(5*time.Second, 30*time.Second)
	lasting(c, span)
	t.Logf("%d addresses where nobody answers, asked for %v: %s", n, span, consumed(c).since(before, span))
	for _, p := range c.Pods("app=activator") {
		if open := figures(c, p.Name)["process_open_fds"]; open > 256 {
			t.Errorf("%s has %v files open: that is no bound", p.Name, open)
		}
	}
	writes := watchSlices(t, c)
	before = consumed(c)
	began := time.Now()
	eachPod(t, c, pods[:n], "True")
	last := time.Now()
	c.Eventually(time.Minute, "every address is published", func() error { return published(c, n) })
	took := time.Since(began)
	t.Logf("%d pods became ready within %v; all were published %v after the last, with %d writes; %s", n, last.Sub(began).Round(time.Millisecond),
		time.Since(last).Round(time.Millisecond), len(writes()), consumed(c).since(before, took))
	lasting(c, 3*time.Second)
	for i, ready := range []string{"False", "True"} {
		settled := len(writes())
		if err := patchPod(c, onIPv6(c), &pods[n/2], n/2, ready); err != nil {
			t.Fatal(err)
		}
		c.Eventually(30*time.Second, "the pod's change is published", func() error { return published(c, n-1+i) })
		lasting(c, 2*time.Second) // what is needless would follow
		if got := writes()[settled:]; len(got) != 1 {
			t.Errorf("one pod whose readiness became %s was written as %q, want one write", ready, got)
		}
	}
	before = consumed(c)
	lasting(c, span)
	t.Logf("at rest: %s", consumed(c).since(before, span))
}

// deadNode makes a node that nobody runs and nothing is scheduled to, and sees to it that it is not given up.
func deadNode(t *testing.T, c *harness.Cluster) (name string) {
	t.Helper()
	name = c.Namespace
	nodes, leases := c.Client.CoreV1().Nodes(), c.Client.CoordinationV1().Leases("kube-node-lease")
	now := metav1.Now()
	// Born ready, as a kubelet's node is: from its first moment the node controllers write to it too.
	_, err := nodes.Create(c.Context, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Unschedulable: true},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now, LastTransitionTime: now, Reason: "Test"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	span := int32(40)
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-node-lease"}, Spec: coordinationv1.LeaseSpec{
		HolderIdentity: &name, LeaseDurationSeconds: &span, RenewTime: &metav1.MicroTime{Time: time.Now()}}}
	if l, err = leases.Create(c.Context, l, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var renewing sync.WaitGroup
	renewing.Go(func() {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			l.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
			if next, err := leases.Update(c.Context, l, metav1.UpdateOptions{}); err == nil {
				l = next
			} else if c.Context.Err() == nil {
				t.Errorf("the node's lease: %v", err)
			}
		}
	})
	t.Cleanup(func() {
		close(done)
		renewing.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's is done
		defer cancel()
		if err := errors.Join(nodes.Delete(ctx, name, metav1.DeleteOptions{}), leases.Delete(ctx, name, metav1.DeleteOptions{})); err != nil {
			t.Error(err)
		}
	})
	return name
}

// eachPod gives every pod its address and a readiness, as fast as the API server takes it.
func eachPod(t *testing.T, c *harness.Cluster, pods []corev1.Pod, ready string) {
	t.Helper()
	six := onIPv6(c)
	const writers = 16
	var all sync.WaitGroup
	failed := make([]error, writers)
	for w := range writers {
		all.Go(func() {
			for i := w; i < len(pods) && failed[w] == nil; i += writers {
				failed[w] = patchPod(c, six, &pods[i], i, ready)
			}
		})
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
}

// patchPod says what a kubelet would.
func patchPod(c *harness.Cluster, six bool, p *corev1.Pod, i int, ready string) error {
	patch := fmt.Appendf(nil, `{"status":{"phase":"Running","podIP":%[1]q,"podIPs":[{"ip":%[1]q}],"conditions":[{"type":"Ready","status":%[2]q},{"type":"ContainersReady","status":%[2]q}]}}`,
		addressOf(i, six), ready)
	_, err := c.Client.CoreV1().Pods(c.Namespace).Patch(c.Context, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// onIPv6 says whether the Service's first family is IPv6.
func onIPv6(c *harness.Cluster) bool { return strings.Contains(c.URL("hello", 80), "[") }

// addressOf is an address where nobody is, of the Service's family.
func addressOf(i int, six bool) string {
	if six {
		return fmt.Sprintf("fd00:10:77::%x", 1+i)
	}
	return fmt.Sprintf("10.77.%d.%d", i/250, 1+i%250)
}

// published says why not so many addresses are behind the Service, each once, in as few slices as can be.
func published(c *harness.Cluster, n int) error {
	list, err := c.Client.DiscoveryV1().EndpointSlices(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=hello"})
	if err != nil {
		return err
	}
	seen := map[string]int{}
	for _, s := range list.Items {
		if s.Labels["rouse.dev/backend"] != "pods" || len(s.Endpoints) > perSlice {
			return fmt.Errorf("slice %s leads to %s, with %d addresses", s.Name, s.Labels["rouse.dev/backend"], len(s.Endpoints))
		}
		for _, e := range s.Endpoints {
			if seen[e.Addresses[0]]++; seen[e.Addresses[0]] > 1 {
				return fmt.Errorf("%s is published twice", e.Addresses[0])
			}
		}
	}
	if fewest := (n + perSlice - 1) / perSlice; len(seen) != n || len(list.Items) != fewest {
		return fmt.Errorf("%d addresses in %d slices, want %d in %d", len(seen), len(list.Items), n, fewest)
	}
	return nil
}

// watchSlices notes every write of a slice of hello.
func watchSlices(t *testing.T, c *harness.Cluster) func() []string {
	t.Helper()
	api := c.Client.DiscoveryV1().EndpointSlices(c.Namespace)
	list, err := api.List(c.Context, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := api.Watch(c.Context, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=hello", ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []string
	var notes sync.WaitGroup
	notes.Go(func() {
		for e := range w.ResultChan() {
			if s, ok := e.Object.(*discoveryv1.EndpointSlice); ok {
				mu.Lock()
				all = append(all, fmt.Sprintf("%s %s: %d addresses", e.Type, s.Name, len(s.Endpoints)))
				mu.Unlock()
			}
		}
	})
	t.Cleanup(func() { w.Stop(); notes.Wait() })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// usage is what the pods of Rouse have used: by name, the figures of their admin pages.
type usage map[string]map[string]float64

func consumed(c *harness.Cluster) usage {
	all := usage{}
	for _, selector := range []string{"app=autoscaler", "app=activator"} {
		for _, p := range c.Pods(selector) {
			all[p.Name] = figures(c, p.Name)
		}
	}
	return all
}

func (u usage) since(before usage, span time.Duration) (text string) {
	for _, name := range slices.Sorted(maps.Keys(u)) {
		cpu := u[name]["process_cpu_seconds_total"] - before[name]["process_cpu_seconds_total"]
		text += fmt.Sprintf("\n  %s: %.2f s of CPU, %.1f %% of a core; %.0f MB; %.0f files", name, cpu, 100*cpu/span.Seconds(),
			u[name]["process_resident_memory_bytes"]/1e6, u[name]["process_open_fds"])
	}
	return text
}

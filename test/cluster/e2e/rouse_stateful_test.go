package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// governing is the headless Service that a StatefulSet's pods are named by; as usual it has the StatefulSet's own name.
// Clients of the pods as a whole use the Service hello.
const governing = `
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: hello}, ports: [{name: http, port: 8080}]}
---`

// shop is the workload of hello as a StatefulSet.
func shop(annotations ...string) string {
	y := governing + hello(0, "", annotations...)
	y = strings.Replace(y, "kind: Deployment\nmetadata:\n  name: hello", "kind: StatefulSet\nmetadata:\n  name: shop", 1)
	y = strings.Replace(y, "spec:\n  replicas: 0", "spec:\n  serviceName: shop\n  replicas: 0", 1)
	y = strings.ReplaceAll(y, "value: hello}", "value: shop}") // whom the queue-proxy reports for
	return strings.Replace(y, "metadata: {name: hello}", "metadata: {name: hello, annotations: {rouse.dev/workload: shop}}", 1)
}

// TestRouseStatefulSet: it wakes, grows, gives up its highest ordinals first, sleeps, and wakes again.
func TestRouseStatefulSet(t *testing.T) {
	c := install(t)
	c.Apply(shop(`target: "4"`, `max-scale: "3"`, `target-burst-capacity: "-1"`))
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	awaitProxy(c, url)
	left := leavers(t, c)
	wake := func() {
		t.Helper()
		began := time.Now()
		if r := c.Get(url + "/"); r.Status != 200 {
			t.Fatalf("at zero: %d %q", r.Status, r.Body)
		}
		t.Logf("woken in %v", time.Since(began).Round(time.Millisecond))
	}
	wake()
	underLoadOf(t, c, url+"/sleep?for=50ms", func() { // ten at a time
		waitOrdinals(c, 0, 1, 2)
		governs(t, c)
		lasting(c, long(time.Second, 30*time.Second))
	})
	underLoad(t, c, url, func() { // one at a time
		waitOrdinals(c, 0)
		lasting(c, long(time.Second, 30*time.Second))
	})
	c.WaitGone("app=hello", time.Minute)
	if got, want := left(), []string{"shop-2", "shop-1", "shop-0"}; !slices.Equal(got, want) {
		t.Errorf("the pods went in the order %v, want %v", got, want)
	}
	wake()
	waitOrdinals(c, 0)
	governs(t, c)
	for _, reason := range []string{"ServiceIsHeadless", "SeveralServices", "NoService"} {
		if n := events(t, c, "shop", reason); n > 0 {
			t.Errorf("%d Events %s", n, reason)
		}
	}
}

// waitOrdinals waits until exactly these pods of the StatefulSet are ready and stay.
func waitOrdinals(c *harness.Cluster, ordinals ...int) {
	var want []string
	for _, i := range ordinals {
		want = append(want, fmt.Sprint("shop-", i))
	}
	c.Eventually(time.Minute, fmt.Sprintf("pods %v are ready", want), func() error {
		var got []string
		for _, p := range c.Pods("app=hello") {
			if p.DeletionTimestamp == nil && harness.Ready(&p) == nil {
				got = append(got, p.Name)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// governs fails unless Kubernetes alone fills the governing Service, with every pod.
func governs(t *testing.T, c *harness.Cluster) {
	t.Helper()
	c.Eventually(10*time.Second, "the governing Service has every pod", func() error {
		list, err := c.Client.DiscoveryV1().EndpointSlices(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=shop"})
		if err != nil {
			return err
		}
		n := 0
		for _, s := range list.Items {
			n += len(s.Endpoints)
			if by := s.Labels[discoveryv1.LabelManagedBy]; by != "endpointslice-controller.k8s.io" {
				t.Errorf("slice %s of the governing Service is written by %s", s.Name, by)
			}
		}
		if pods := len(c.Pods("app=hello")); n != pods {
			return fmt.Errorf("%d addresses, %d pods", n, pods)
		}
		return nil
	})
}

// leavers notes in which order pods are told to go.
func leavers(t *testing.T, c *harness.Cluster) func() []string {
	t.Helper()
	w, err := c.Client.CoreV1().Pods(c.Namespace).Watch(c.Context, metav1.ListOptions{LabelSelector: "app=hello"})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var names []string
	var notes sync.WaitGroup
	notes.Go(func() {
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok || p.DeletionTimestamp == nil {
				continue
			}
			mu.Lock()
			if !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
			mu.Unlock()
		}
	})
	t.Cleanup(func() { w.Stop(); notes.Wait() })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(names)
	}
}

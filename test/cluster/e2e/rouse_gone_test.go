package e2e

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseLeavesNothingBehind: what control published goes with the workload, also when Service and workload have different names.
func TestRouseLeavesNothingBehind(t *testing.T) {
	const kubernetes = "foreign endpointslice-controller.k8s.io"
	c := install(t)
	shop := func(selector string) string { // a Deployment shop behind the Service hello
		return strings.Replace(hello(2, selector, `min-scale: "2"`, `target-burst-capacity: "-1"`), "name: hello\n", "name: shop\n", 1)
	}
	c.Apply(shop("selector: {app: hello},"))
	c.WaitDeployment("shop", 2)
	waitBehind(t, c, kubernetes)
	rouseDo(t, c, "adopt", "hello")
	waitBehind(t, c, "activators")
	url := waitReachable(c)
	underLoad(t, c, url, func() {
		lasting(c, time.Second)
		rouseDo(t, c, "release", "hello")
		waitBehind(t, c, kubernetes)
		lasting(c, long(5*time.Second, time.Minute))
	})
	rouseDo(t, c, "adopt", "hello")
	waitBehind(t, c, "activators")
	remove(t, c)
	waitBehind(t, c, "")
	c.Apply(shop(""))
	c.WaitDeployment("shop", 2)
	waitBehind(t, c, "activators")
	if r := c.Get(waitReachable(c) + "/"); r.Status != 200 {
		t.Errorf("made anew, it answers %d %q", r.Status, r.Body)
	}
}

// remove deletes the Deployment shop, pods first.
func remove(t *testing.T, c *harness.Cluster) {
	t.Helper()
	foreground := metav1.DeletePropagationForeground
	if err := c.Client.AppsV1().Deployments(c.Namespace).Delete(c.Context, "shop", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
}

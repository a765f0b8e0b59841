package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseLetsGoOverARestart: clients hold connections to activators of a workload that was let go a moment ago, and
// every instance of control is killed. The new ones have not seen the workload in control.
func TestRouseLetsGoOverARestart(t *testing.T) {
	const kubernetes = "foreign endpointslice-controller.k8s.io"
	for _, tc := range []struct {
		name, selector string
		leave          func(t *testing.T, c *harness.Cluster)
	}{
		{"released", "selector: {app: hello},", func(t *testing.T, c *harness.Cluster) {
			rouseDo(t, c, "release", "hello")
			waitBehind(t, c, kubernetes)
		}},
		{"opted out", "", func(t *testing.T, c *harness.Cluster) {
			patch := []byte(`{"metadata":{"annotations":{"autoscaling.knative.dev/class":null}}}`)
			if _, err := c.Client.AppsV1().Deployments(c.Namespace).Patch(c.Context, "hello", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			waitBehind(t, c, "pods")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := install(t)
			c.Apply(hello(2, tc.selector, `min-scale: "2"`, `target-burst-capacity: "-1"`))
			c.WaitDeployment("hello", 2)
			if tc.selector != "" {
				waitBehind(t, c, kubernetes)
				rouseDo(t, c, "adopt", "hello")
			}
			waitBehind(t, c, "activators")
			url := waitReachable(c)
			underLoad(t, c, url, func() {
				lasting(c, 2*time.Second) // connections are there
				tc.leave(t, c)
				restartControl(t, c)
				lasting(c, long(5*time.Second, time.Minute))
			})
		})
	}
}

func rouseDo(t *testing.T, c *harness.Cluster, verb, service string) {
	t.Helper()
	if out, err := rouse(c, verb, service, "-n", c.Namespace); err != nil {
		t.Fatalf("rouse %s: %v\n%s", verb, err, out)
	}
}

// restartControl kills every instance at the same time, and waits until new ones have told activators everything.
func restartControl(t *testing.T, c *harness.Cluster) {
	t.Helper()
	instances := c.Pods("app=autoscaler")
	before := map[string]float64{}
	for _, p := range instances {
		before[p.Name] = figures(c, p.Name)["process_start_time_seconds"]
	}
	for _, p := range instances {
		c.Signal(p.Name, "autoscaler", syscall.SIGKILL)
	}
	c.Eventually(time.Minute, "control is back, with every bucket and every activator", func() error {
		held := 0.0
		for _, p := range instances {
			now, err := look(c, p.Name)
			if err != nil {
				return err
			}
			if now["process_start_time_seconds"] == before[p.Name] || now["rouse_control_activators"] != 2 {
				return fmt.Errorf("%s: %v", p.Name, now)
			}
			held += now["rouse_control_buckets_held"]
		}
		if held != 16 {
			return fmt.Errorf("%v buckets are held", held)
		}
		return nil
	})
}

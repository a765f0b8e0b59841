package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseLosesNothing: 200 requests a second by clients that try once, while things go wrong at random moments.
func TestRouseLosesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := install(t)
	// The application goes on after SIGTERM for as long as its queue-proxy may send it something: see docs/queue-proxy.md.
	c.Apply(strings.Replace(hello(3, "", `min-scale: "3"`, `target-burst-capacity: "0"`), "[-journal,", "[-linger, 20s, -journal,", 1))
	c.WaitDeployment("hello", 3)
	waitBehind(t, c, "pods")
	url := waitReachable(c)
	span := long(8*time.Second, 2*time.Minute)
	some := func() { lasting(c, time.Duration(rng.Int64N(int64(span/5)))) }
	// A Deployment's status may still count a pod that has been deleted: pods themselves say whether those that stay are ready.
	victim := func(selector string) string {
		var ready []string
		c.Eventually(time.Minute, "the pods that stay are ready", func() error {
			ready = nil
			for _, p := range c.Pods(selector) {
				if p.DeletionTimestamp != nil {
					continue
				}
				if err := harness.Ready(&p); err != nil {
					return fmt.Errorf("%s: %w", p.Name, err)
				}
				ready = append(ready, p.Name)
			}
			if len(ready) == 0 {
				return errors.New("there is none")
			}
			return nil
		})
		return ready[rng.IntN(len(ready))]
	}
	remove := func(name string) {
		if err := c.Client.CoreV1().Pods(c.Namespace).Delete(c.Context, name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}

	t.Run("pods deleted one by one", func(t *testing.T) {
		underLoad(t, c, url, func() {
			for end := time.Now().Add(span); time.Now().Before(end); {
				remove(victim("app=hello"))
				some()
				c.WaitDeployment("hello", 3)
			}
		})
	})
	t.Run("pods deleted, slices spread 3 s late", func(t *testing.T) {
		c.DelaySlices(3 * time.Second)
		underLoad(t, c, url, func() {
			for end := time.Now().Add(span); time.Now().Before(end); {
				remove(victim("app=hello"))
				some()
				c.WaitDeployment("hello", 3)
			}
		})
	})
	for _, tc := range []struct {
		name  string
		whole bool // the application is told, too, as by a signal to the pod's control group
	}{{"a queue-proxy told to end, its pod deleted later", false}, {"a pod's processes told to end, deleted later", true}} {
		t.Run(tc.name, func(t *testing.T) {
			c.DelaySlices(3 * time.Second)
			underLoad(t, c, url, func() {
				for end := time.Now().Add(span); time.Now().Before(end); {
					name := victim("app=hello")
					c.Signal(name, "queue-proxy", syscall.SIGTERM)
					if tc.whole {
						c.Signal(name, "user", syscall.SIGTERM)
					}
					lasting(c, time.Second+time.Duration(rng.Int64N(int64(2*time.Second))))
					remove(name)
					some()
					c.WaitDeployment("hello", 3)
				}
			})
		})
	}
	t.Run("ten switches between pods and activators", func(t *testing.T) {
		underLoad(t, c, url, func() {
			for range 5 {
				annotate(t, c, "target-burst-capacity", "-1")
				waitBehind(t, c, "activators")
				lasting(c, span/20)
				annotate(t, c, "target-burst-capacity", "0")
				waitBehind(t, c, "pods")
				lasting(c, span/20)
			}
		})
	})
	annotate(t, c, "target-burst-capacity", "-1")
	waitBehind(t, c, "activators")
	t.Run("activators rolled", func(t *testing.T) {
		underLoad(t, c, url, func() {
			patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"rolled":%q}}}}}`, time.Now())
			if _, err := c.Client.AppsV1().Deployments(c.Namespace).Patch(c.Context, "activator", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			lasting(c, span)
			c.WaitDeployment("activator", 2)
		})
	})
	t.Run("an instance of control killed", func(t *testing.T) {
		underLoad(t, c, url, func() {
			some()
			c.Signal(victim("app=autoscaler"), "autoscaler", syscall.SIGKILL)
			lasting(c, span)
		})
	})
	t.Run("API server stopped", func(t *testing.T) {
		underLoad(t, c, url, func() {
			some()
			c.Stop(harness.APIServer)
			lasting(c, long(10*time.Second, 30*time.Second))
			c.Start(harness.APIServer)
			lasting(c, 5*time.Second)
		})
		annotate(t, c, "target-burst-capacity", "0") // everything works again
		waitBehind(t, c, "pods")
		awaitControllers(t, c)
	})
}

// awaitControllers waits until Kubernetes' own controllers are back: their pauses between tries grow to a minute.
func awaitControllers(t *testing.T, c *harness.Cluster) {
	t.Helper()
	const account = "default"
	if err := c.Client.CoreV1().ServiceAccounts(c.Namespace).Delete(c.Context, account, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Eventually(2*time.Minute, "the ServiceAccount is made again", func() error {
		_, err := c.Client.CoreV1().ServiceAccounts(c.Namespace).Get(c.Context, account, metav1.GetOptions{})
		return err
	})
}

// TestRouseAdoptsAndReleases: a Service with a selector comes and goes under load.
func TestRouseAdoptsAndReleases(t *testing.T) {
	c := install(t)
	c.Apply(hello(2, "selector: {app: hello},", `min-scale: "2"`, `target-burst-capacity: "-1"`))
	c.WaitDeployment("hello", 2)
	const kubernetes = "foreign endpointslice-controller.k8s.io"
	waitBehind(t, c, kubernetes)
	url := waitReachable(c)
	move := func(verb string) {
		if out, err := rouse(c, verb, "hello", "-n", c.Namespace); err != nil {
			t.Fatalf("rouse %s: %v\n%s", verb, err, out)
		}
	}
	underLoad(t, c, url, func() {
		for range long(2, 5) {
			move("adopt")
			waitBehind(t, c, "activators")
			lasting(c, long(time.Second, 15*time.Second))
			move("release")
			waitBehind(t, c, kubernetes)
			lasting(c, long(time.Second, 15*time.Second))
		}
	})
	selectsAgain(t, c)
}

// selectsAgain fails unless the Service has its workload's selector, and nothing of ours.
func selectsAgain(t *testing.T, c *harness.Cluster) {
	t.Helper()
	s, err := c.Client.CoreV1().Services(c.Namespace).Get(c.Context, "hello", metav1.GetOptions{})
	if err != nil || s.Spec.Selector["app"] != "hello" {
		t.Errorf("selector %v (%v), want app: hello", s.Spec.Selector, err)
	}
	for name := range s.Annotations {
		t.Errorf("annotation %s is left", name)
	}
}

// TestRouseReleasesWithoutSelector: a Service that never had a selector gets that of its workload under load, comes back
// by adoption, and is released again; of one whose workload sleeps the first pod is awaited.
func TestRouseReleasesWithoutSelector(t *testing.T) {
	const kubernetes = "foreign endpointslice-controller.k8s.io"
	t.Run("under load", func(t *testing.T) {
		c := install(t)
		c.Apply(hello(2, "", `min-scale: "2"`, `target-burst-capacity: "-1"`))
		c.WaitDeployment("hello", 2)
		waitBehind(t, c, "activators")
		url := waitReachable(c)
		underLoad(t, c, url, func() {
			for range long(2, 5) {
				lasting(c, long(time.Second, 15*time.Second)) // connections are there
				rouseDo(t, c, "release", "hello")
				waitBehind(t, c, kubernetes)
				lasting(c, long(time.Second, 15*time.Second))
				selectsAgain(t, c)
				rouseDo(t, c, "adopt", "hello")
				waitBehind(t, c, "activators")
			}
			rouseDo(t, c, "release", "hello")
			waitBehind(t, c, kubernetes)
			lasting(c, long(time.Second, 15*time.Second))
		})
		selectsAgain(t, c)
	})
	t.Run("asleep", func(t *testing.T) {
		c := install(t)
		c.Apply(hello(0, ""))
		waitBehind(t, c, "activators")
		waitAsleep(c)
		rouseDo(t, c, "release", "hello")
		waitBehind(t, c, kubernetes)
		selectsAgain(t, c)
		c.WaitDeployment("hello", 1)
		waitReachable(c)
	})
}

// waitAsleep waits until the workload has no pod and is asked for none.
func waitAsleep(c *harness.Cluster) {
	c.Eventually(time.Minute, "it sleeps", func() error {
		if n := *c.Deployment("hello").Spec.Replicas; n != 0 {
			return fmt.Errorf("%d replicas", n)
		}
		return nil
	})
	c.WaitGone("app=hello", time.Minute)
}

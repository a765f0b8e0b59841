package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseWakesThroughSlices: at zero a request to the ClusterIP is answered, and the pods go again.
func TestRouseWakesThroughSlices(t *testing.T) {
	c := install(t)
	c.Apply(hello(0, ""))
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	rounds := 3
	if full {
		rounds = 20
	}
	var took []time.Duration
	for i := range rounds {
		if n := *c.Deployment("hello").Spec.Replicas; n != 0 {
			t.Fatalf("round %d begins with %d replicas", i, n)
		}
		c.WaitGone("app=hello", time.Minute)
		if i == 0 {
			awaitProxy(c, url)
		}
		began := time.Now()
		r := c.Get(url + "/")
		took = append(took, time.Since(began))
		if r.Status != 200 {
			t.Fatalf("cold start %d: %d %q", i, r.Status, r.Body)
		}
		t.Logf("cold start %d: %v, %s", i, took[i], r.Header.Get("Server-Timing"))
		c.Eventually(time.Minute, "nothing is asked for any more", func() error {
			if n := *c.Deployment("hello").Spec.Replicas; n != 0 {
				return fmt.Errorf("%d replicas", n)
			}
			return nil
		})
	}
	slices.Sort(took)
	t.Logf("median of %d cold starts: %v (kubelet's own probes, readiness every 1 s)", len(took), took[len(took)/2])
}

// awaitProxy waits until kube-proxy knows the Service, without waking it: with the question that control asks.
func awaitProxy(c *harness.Cluster, url string) {
	c.Eventually(30*time.Second, "kube-proxy knows the Service", func() error {
		r, err := harness.Send(c.Context, "GET", url+"/", map[string][]string{"K-Network-Probe": {"activator"}}, nil)
		if err == nil && r.Body != "activator" {
			err = fmt.Errorf("%d %q", r.Status, r.Body)
		}
		return err
	})
}

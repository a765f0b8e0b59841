package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// portsBehind says which backends each port of the Service hello leads to: "http=pods side=activators".
func portsBehind(c *harness.Cluster) (string, error) {
	list, err := c.Client.DiscoveryV1().EndpointSlices(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=hello"})
	if err != nil {
		return "", err
	}
	var all []string
	for _, s := range list.Items {
		for _, p := range s.Ports {
			if len(s.Endpoints) > 0 && p.Name != nil {
				all = append(all, *p.Name+"="+s.Labels["rouse.dev/backend"])
			}
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " "), nil
}

// TestRouseCountsFurtherPorts: a request to a further port keeps the pod, also one that began while requests to the first
// port went past activators.
func TestRouseCountsFurtherPorts(t *testing.T) {
	c := install(t)
	two := strings.Replace(hello(1, "", `min-scale: "1"`, `target-burst-capacity: "0"`), "ports: [{name: http, port: 80, targetPort: 8080}]",
		"ports: [{name: http, port: 80, targetPort: 8080}, {name: side, port: 81, targetPort: 8080}]", 1)
	c.Apply(two)
	c.WaitDeployment("hello", 1)
	c.Eventually(time.Minute, "the first port leads to pods, the other to activators", func() error {
		got, err := portsBehind(c)
		if err == nil && got != "http=pods side=activators" {
			err = fmt.Errorf("they lead to %q", got)
		}
		return err
	})
	side := c.URL("hello", 81)
	c.Eventually(30*time.Second, "the further port answers", func() error { return c.Reach(side) })
	// Longer than the window, the grace and what they are looked at again after.
	const id = "side-one"
	answer := make(chan error, 1)
	go func() {
		r, err := harness.Send(c.Context, "GET", side+"/sleep?for=25s", map[string][]string{"Rouse-Test-Id": {id}}, nil)
		if err == nil && r.Status != 200 {
			err = fmt.Errorf("%d %q", r.Status, r.Body)
		}
		answer <- err
	}()
	c.Eventually(10*time.Second, "the long request is at the pod", func() error {
		if !slices.ContainsFunc(c.Journal("hello"), func(e harness.Event) bool { return strings.HasSuffix(e.What, id) }) {
			return errors.New("not in the journal")
		}
		return nil
	})
	annotate(t, c, "min-scale", "0")
	if err := <-answer; err != nil {
		t.Fatalf("a long request to the further port: %v", err)
	}
	c.Eventually(time.Minute, "nothing is asked for any more", func() error {
		if n := *c.Deployment("hello").Spec.Replicas; n != 0 {
			return fmt.Errorf("%d replicas", n)
		}
		return nil
	})
	if r := c.Get(side + "/"); r.Status != 200 {
		t.Errorf("a request to the further port at zero: %d %q", r.Status, r.Body)
	}
}

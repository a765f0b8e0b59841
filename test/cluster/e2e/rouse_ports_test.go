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
	"k8s.io/apimachinery/pkg/types"

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

// TestRousePortsInAnotherOrder: a tool sorts the ports of a Service that is in use, and each leads to the container that it led to, from zero,
// too.
func TestRousePortsInAnotherOrder(t *testing.T) {
	c := install(t)
	y := strings.Replace(hello(1, "", `min-scale: "1"`, `target-burst-capacity: "0"`), "args: [-journal, /shared/hello]", "args: [-journal, /shared/hello, -name, web]", 1)
	y = strings.Replace(y, "      initContainers:\n", `      - name: admin
        image: {{image "testapp"}}
        args: [-name, admin, -listen, ":9000"]
        ports: [{containerPort: 9000}]
      initContainers:
`, 1)
	c.Apply(strings.Replace(y, "ports: [{name: http, port: 80, targetPort: 8080}]", "ports: [{name: web, port: 80, targetPort: 8080}, {name: admin, port: 9000, targetPort: 9000}]", 1))
	c.WaitDeployment("hello", 1)
	web, admin := c.URL("hello", 80), c.URL("hello", 9000)
	rightly := func(what string) {
		t.Helper()
		for range 20 {
			for url, name := range map[string]string{web: "web", admin: "admin"} {
				if r := c.Get(url + "/"); r.Status != 200 || r.Body != name+"\n" {
					t.Fatalf("%s: %s answers %d %q, want %s", what, url, r.Status, r.Body, name)
				}
			}
		}
	}
	for _, url := range []string{web, admin} {
		c.Eventually(time.Minute, url+" answers", func() error { return c.Reach(url) })
	}
	rightly("as it was")
	sorted := []byte(`[{"op":"replace","path":"/spec/ports","value":[{"name":"admin","port":9000,"targetPort":9000},{"name":"web","port":80,"targetPort":8080}]}]`)
	if _, err := c.Client.CoreV1().Services(c.Namespace).Patch(c.Context, "hello", types.JSONPatchType, sorted, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Eventually(30*time.Second, "control says that the order is another one", func() error {
		if events(t, c, "hello", "ServicePortOrder") == 0 {
			return errors.New("no Event")
		}
		return nil
	})
	lasting(c, 2*time.Second) // slices that it would write are with kube-proxy
	rightly("sorted")
	annotate(t, c, "min-scale", "0")
	for url, name := range map[string]string{web: "web", admin: "admin"} {
		c.Eventually(time.Minute, "nothing is asked for any more", func() error {
			if n := *c.Deployment("hello").Spec.Replicas; n != 0 {
				return fmt.Errorf("%d replicas", n)
			}
			return nil
		})
		if r := c.Get(url + "/"); r.Status != 200 || r.Body != name+"\n" {
			t.Errorf("at zero %s answers %d %q, want %s", url, r.Status, r.Body, name)
		}
	}
}

package e2e

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseWithoutControl: one slot, two activators and no control. Whichever has the slot, both serve, and the pod's queue-proxy keeps the limit.
func TestRouseWithoutControl(t *testing.T) {
	c := install(t)
	one := strings.NewReplacer("class: kpa.autoscaling.knative.dev", `class: kpa.autoscaling.knative.dev, rouse.dev/container-concurrency: "1"`,
		`{name: CONTAINER_CONCURRENCY, value: "0"}`, `{name: CONTAINER_CONCURRENCY, value: "1"}`)
	c.Apply(one.Replace(hello(1, "", `min-scale: "1"`, `max-scale: "1"`, `target-burst-capacity: "-1"`)))
	c.WaitDeployment("hello", 1)
	waitBehind(t, c, "activators")
	activators := listeners(t, c)
	if len(activators) != 2 {
		t.Fatalf("behind the Service are %v, want two activators", activators)
	}
	each := func(when string) {
		t.Helper()
		began := time.Now()
		for _, url := range activators {
			ctx, cancel := context.WithTimeout(c.Context, time.Minute)
			defer cancel()
			if r, err := harness.Send(ctx, "GET", url, nil, nil); err != nil || r.Status != 200 {
				t.Errorf("%s: %s: %d %v", when, url, r.Status, err)
			}
		}
		t.Logf("%s: both answered after %v", when, time.Since(began).Round(time.Millisecond))
	}
	each("with control")
	scaleControl(t, c, 0)
	c.WaitGone("app=autoscaler", time.Minute)
	each("without control")
	var clients sync.WaitGroup
	failed := make(chan error, 8)
	for i := range 8 {
		clients.Go(func() {
			for range 5 {
				r, err := harness.Send(c.Context, "GET", activators[i%2]+"sleep?for=20ms", nil, nil)
				if err == nil && r.Status != 200 {
					err = fmt.Errorf("%d %q", r.Status, r.Body)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	clients.Wait()
	close(failed)
	for err := range failed {
		t.Errorf("at the same time, without control: %v", err)
	}
	scaleControl(t, c, 2)
	for _, name := range []string{"autoscaler-0", "autoscaler-1"} {
		c.WaitPod(name, "is ready", time.Minute, harness.Ready)
	}
	each("with control again")
}

// listeners are the URLs of the activators behind the Service hello, as its slices name them.
func listeners(t *testing.T, c *harness.Cluster) (urls []string) {
	t.Helper()
	list, err := c.Client.DiscoveryV1().EndpointSlices(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=hello"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			urls = append(urls, "http://"+net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*s.Ports[0].Port)))+"/")
		}
	}
	return urls
}

func scaleControl(t *testing.T, c *harness.Cluster, replicas int) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := c.Client.AppsV1().StatefulSets(c.Namespace).Patch(c.Context, "autoscaler", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseServiceChangesHands: a Service is re-pointed from one workload that sleeps to another, there and back. What comes
// in wakes the other one, also by a connection to an activator that was there before.
func TestRouseServiceChangesHands(t *testing.T) {
	c := install(t)
	deployment, service, _ := strings.Cut(hello(0, ""), "\n---\n")
	names := []string{"blue", "green"}
	for _, name := range names {
		c.Apply(strings.ReplaceAll(deployment, "hello", name))
	}
	c.Apply(strings.Replace(service, "{name: hello}", "{name: hello, annotations: {rouse.dev/workload: blue}}", 1))
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	awaitProxy(c, url)
	for i := range long(2, 6) {
		from, to := names[i%2], names[(i+1)%2]
		awaitAsleep(c, from)
		awaitAsleep(c, to)
		conn := &harness.Conn{}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(c.Context, 2*time.Minute)
		defer cancel()
		if r, err := conn.Send(ctx, http.MethodGet, url+"/", http.Header{"K-Network-Probe": {"activator"}}, nil); err != nil || r.Body != "activator" {
			t.Fatalf("the connection to an activator: %d %q, %v", r.Status, r.Body, err)
		}
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"rouse.dev/workload":%q}}}`, to)
		if _, err := c.Client.CoreV1().Services(c.Namespace).Patch(c.Context, "hello", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		// Until control has heard of it, a request is the old one's, and wakes that.
		lasting(c, 2*time.Second)
		for _, by := range []*harness.Conn{conn, {}} { // the one that was there, and a new one
			began := time.Now()
			r, err := by.Send(ctx, http.MethodGet, url+"/", nil, nil)
			if err != nil || r.Status != http.StatusOK {
				t.Errorf("from %s to %s, the same connection: %t: %d %q, %v", from, to, by == conn, r.Status, r.Body, err)
			}
			t.Logf("from %s to %s, the same connection: %t: answered after %s", from, to, by == conn, time.Since(began).Round(time.Millisecond))
			by.Close()
		}
		if n := *c.Deployment(to).Spec.Replicas; n == 0 {
			t.Errorf("%s, which the Service is for, was not woken", to)
		}
		if n := *c.Deployment(from).Spec.Replicas; n != 0 {
			t.Errorf("%s, which the Service was for, has %d replicas", from, n)
		}
		waitBehind(t, c, "activators")
	}
}

// recreated is how long after a workload was made again its requests may still be refused: until every part has heard.
const recreated = 3 * time.Second

// TestRouseWorkloadRecreated: a Deployment is deleted and made again while clients hold connections to activators, and while a
// request is in flight that takes longer than all that. Between the two there is no workload, and requests may be refused.
func TestRouseWorkloadRecreated(t *testing.T) {
	c := install(t)
	text := hello(1, "", `min-scale: "1"`, `target-burst-capacity: "-1"`)
	deployment, _, _ := strings.Cut(text, "\n---\n")
	c.Apply(text)
	c.WaitDeployment("hello", 1)
	waitBehind(t, c, "activators")
	url := waitReachable(c)
	for range long(2, 5) {
		ctx, stop := context.WithCancel(c.Context)
		var clients sync.WaitGroup
		reports := make([]*harness.Report, 2)
		for i, keep := range []bool{true, false} {
			l := harness.Load{URL: url + "/sleep?for=5ms", Rate: 50, KeepAlive: keep, Prefix: fmt.Sprintf("%v@%d", keep, time.Now().UnixNano())}
			clients.Go(func() { reports[i] = l.Run(ctx) })
		}
		clients.Go(func() {
			if r, err := harness.Send(c.Context, http.MethodGet, url+"/sleep?for=15s", nil, nil); err != nil || r.Status != http.StatusOK {
				t.Errorf("the request that was in flight: %d %q, %v", r.Status, r.Body, err)
			}
		})
		lasting(c, 2*time.Second)
		deleted := time.Now()
		c.Delete(deployment)
		c.Apply(deployment)
		until := time.Now().Add(recreated)
		c.WaitDeployment("hello", 1)
		lasting(c, time.Until(until)+5*time.Second)
		stop()
		clients.Wait()
		between, sent := 0, 0
		for _, r := range reports {
			sent += r.Sent
			for _, f := range r.Failures {
				// What was sent a moment before may be met by the deletion.
				if f.At.After(deleted.Add(-time.Second)) && f.At.Before(until) && f.Status == http.StatusNotFound {
					between++
				} else {
					t.Errorf("deleted at %s, made again by %s: %s", deleted.Format("15:04:05.000"), until.Add(-recreated).Format("15:04:05.000"), f)
				}
			}
		}
		t.Logf("%d requests, %d refused around the moment without a workload", sent, between)
	}
	if twice := c.Twice("hello"); len(twice) > 0 {
		t.Errorf("%d requests reached an application twice, such as %s", len(twice), twice[0])
	}
}

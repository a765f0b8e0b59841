package knative

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// allowedOfBurst is how many pods, and how late an answer, a drain-aware burst may have in parts of Knative's.
const allowedOfBurst = 0.5

// burst sends many requests at once to a revision at zero that takes one at a time: Knative's rule starts pods as if the crowd stayed, a drain-aware
// one those that are ready before the queue is empty. In turns, from the same manifest.
func burst(t *testing.T, in *installation) {
	n, limit := long(100, 500), long(40, 200)
	settings := map[string]string{"autoscaling.knative.dev/max-scale": fmt.Sprint(limit), "rouse.dev/burst": "drain-aware"}
	theirs, ours := in.with(columns[0]), in.plain()
	knative := revision{name: "crowd", concurrency: 1, annotations: settings, tokenless: true}
	plain := revision{name: "throng", concurrency: 1, annotations: settings, tokenless: true}
	theirs.deploy(knative)
	ours.deploy(plain)
	// A hundred pods that go take as much of the node as those that come.
	quiet := func() { theirs.sleeps(knative); ours.sleeps(plain) }
	var a, b []outcome
	for i := range long(1, 3) {
		quiet()
		a = append(a, in.burst(theirs, knative, n))
		quiet()
		b = append(b, in.burst(ours, plain, n))
		t.Logf("round %d of %d requests, at most %d pods: %s: %v", i, n, limit, theirs.name, a[i])
		t.Logf("round %d of %d requests, at most %d pods: %s: %v", i, n, limit, ours.name, b[i])
	}
	pods := float64(medianBy(b, outcome.podCount)) / float64(medianBy(a, outcome.podCount))
	late := float64(medianBy(b, outcome.p99)) / float64(medianBy(a, outcome.p99))
	t.Logf("medians: pods %.2f×, p99 %.2f×", pods, late)
	if pods > allowedOfBurst {
		t.Errorf("a drain-aware burst took %.2f× Knative's pods, want at most %.1f×", pods, allowedOfBurst)
	}
}

// outcome is what a burst met.
type outcome struct {
	pods    int             // made, ready or not
	served  int             // pods that answered a request
	latency []time.Duration // sorted
}

func (o outcome) podCount() int      { return o.pods }
func (o outcome) p99() time.Duration { return o.latency[len(o.latency)*99/100] }
func (o outcome) p50() time.Duration { return o.latency[len(o.latency)/2] }

func (o outcome) String() string {
	return fmt.Sprintf("%d pods, %d of them answered; p50 %v, p99 %v, last %v", o.pods, o.served, ms(o.p50()), ms(o.p99()), ms(o.latency[len(o.latency)-1]))
}

func medianBy[V int | time.Duration](all []outcome, of func(outcome) V) V {
	var values []V
	for _, o := range all {
		values = append(values, of(o))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// burst blocks until every request is answered. Each is sent once, on a connection of its own; one that fails fails the test.
func (in *installation) burst(c contestant, r revision, n int) (o outcome) {
	in.t.Helper()
	pods, err := in.Client.CoreV1().Pods(in.Namespace).Watch(in.Context, metav1.ListOptions{LabelSelector: c.selector(r)})
	if err != nil {
		in.t.Fatal(err)
	}
	var counting sync.WaitGroup
	made := make(map[string]bool)
	counting.Go(func() {
		for e := range pods.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok && e.Type == watch.Added {
				made[p.Name] = true
			}
		}
	})
	url, header := c.url(r), http.Header{}
	if c.header != nil {
		header = c.header(r)
	}
	var mu sync.Mutex
	served := make(map[string]bool)
	var requests sync.WaitGroup
	for range n {
		requests.Go(func() {
			began := time.Now()
			resp, err := harness.Send(in.Context, http.MethodGet, url+"/sleep?for=50ms", header, nil)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || resp.Status != http.StatusOK {
				in.t.Errorf("%s: status %d %q after %v: %v", c.name, resp.Status, resp.Body, took, err)
			}
			o.latency = append(o.latency, took)
			served[resp.Body] = true
		})
	}
	requests.Wait()
	// What was asked for is made, and no more: the windows forget the crowd.
	in.Eventually(2*time.Minute, "nothing is asked for any more", func() error {
		if d := in.Deployment(c.deployment(r)); *d.Spec.Replicas > 1 {
			return fmt.Errorf("%d replicas", *d.Spec.Replicas)
		}
		return nil
	})
	pods.Stop()
	counting.Wait()
	slices.Sort(o.latency)
	o.pods, o.served = len(made), len(served)
	return o
}

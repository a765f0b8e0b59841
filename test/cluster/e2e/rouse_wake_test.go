package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseWakesThroughSlices: at zero a request to the ClusterIP is answered, and the pods go again.
func TestRouseWakesThroughSlices(t *testing.T) {
	c := install(t)
	c.Apply(hello(0, ""))
	waitBehind(t, c, "activators")
	url := c.URL("hello", 80)
	rounds := long(2, 20)
	watch := follow(t, c)
	var all []phases
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
		answered := time.Now()
		if r.Status != 200 {
			t.Fatalf("cold start %d: %d %q", i, r.Status, r.Body)
		}
		p := watch.phases(c, began, answered)
		all = append(all, p)
		t.Logf("cold start %d: %v; %s", i, p, r.Header.Get("Server-Timing"))
		c.Eventually(time.Minute, "nothing is asked for any more", func() error {
			if n := *c.Deployment("hello").Spec.Replicas; n != 0 {
				return fmt.Errorf("%d replicas", n)
			}
			return nil
		})
	}
	t.Logf("median of %d cold starts: %v (kubelet probes readiness every 1 s; the activator asks by itself)", len(all), median(all))
}

// phases are when each step of a cold start was over, counted from the moment in which the request was sent.
type phases struct {
	decided, patched, pod, started, listening, answered time.Duration
}

func (p phases) String() string {
	return fmt.Sprintf("decided %v, patch seen %v, pod object %v, process started %v, listening %v, answered %v (listening to first byte %v)",
		p.decided, p.patched, p.pod, p.started, p.listening, p.answered, p.answered-p.listening)
}

// median takes each phase by itself.
func median(all []phases) (m phases) {
	of := func(get func(*phases) *time.Duration) {
		var d []time.Duration
		for i := range all {
			d = append(d, *get(&all[i]))
		}
		slices.Sort(d)
		*get(&m) = d[len(d)/2]
	}
	for _, get := range []func(*phases) *time.Duration{
		func(p *phases) *time.Duration { return &p.decided }, func(p *phases) *time.Duration { return &p.patched },
		func(p *phases) *time.Duration { return &p.pod }, func(p *phases) *time.Duration { return &p.started },
		func(p *phases) *time.Duration { return &p.listening }, func(p *phases) *time.Duration { return &p.answered },
	} {
		of(get)
	}
	return m
}

// watcher notes when objects changed, as anybody sees it who watches the API server.
type watcher struct {
	mu      sync.Mutex
	patched []time.Time // guarded by mu; hello was asked to have pods
	pods    []time.Time // guarded by mu; a pod of hello was made
}

func follow(t *testing.T, c *harness.Cluster) *watcher {
	t.Helper()
	w := &watcher{}
	deployments, err := c.Client.AppsV1().Deployments(c.Namespace).Watch(c.Context, metav1.ListOptions{FieldSelector: "metadata.name=hello"})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := c.Client.CoreV1().Pods(c.Namespace).Watch(c.Context, metav1.ListOptions{LabelSelector: "app=hello"})
	if err != nil {
		t.Fatal(err)
	}
	var notes sync.WaitGroup
	t.Cleanup(func() { deployments.Stop(); pods.Stop(); notes.Wait() })
	notes.Go(func() {
		before := int32(0)
		for e := range deployments.ResultChan() {
			d, ok := e.Object.(*appsv1.Deployment)
			if ok && before == 0 && *d.Spec.Replicas > 0 {
				w.note(&w.patched)
			}
			if ok {
				before = *d.Spec.Replicas
			}
		}
	})
	notes.Go(func() {
		for e := range pods.ResultChan() {
			if e.Type == apiwatch.Added {
				w.note(&w.pods)
			}
		}
	})
	return w
}

func (w *watcher) note(list *[]time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*list = append(*list, time.Now())
}

// phases puts together what was noted after began, by the watches, the application's journal and control's log.
func (w *watcher) phases(c *harness.Cluster, began, answered time.Time) (p phases) {
	p.answered = answered.Sub(began)
	first := func(at time.Time, into *time.Duration) {
		if *into == 0 && at.After(began) {
			*into = at.Sub(began)
		}
	}
	w.mu.Lock()
	for _, at := range w.patched {
		first(at, &p.patched)
	}
	for _, at := range w.pods {
		first(at, &p.pod)
	}
	w.mu.Unlock()
	for _, e := range c.Journal("hello") {
		switch e.What {
		case "start":
			first(e.At, &p.started)
		case "listening":
			first(e.At, &p.listening)
		}
	}
	for _, pod := range []string{"autoscaler-0", "autoscaler-1"} {
		for line := range strings.Lines(c.Logs(pod, "autoscaler")) {
			var l struct {
				Time time.Time
				Msg  string
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "waking" {
				first(l.Time, &p.decided)
			}
		}
	}
	return p
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

package selftest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/rousehq/rouse/test/cluster/harness"
)

const walker = `
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {app: walker}}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: %[3]t
  containers:
  - name: app
    image: {{image "testapp"}}
    %[2]s
---
apiVersion: v1
kind: Service
metadata: {name: walkers}
spec: {selector: {app: walker}, ports: [{port: 80, targetPort: 8080}]}
`

// moments holds when a pod's stations were first seen, by informers as a controller has them.
type moments struct {
	mu sync.Mutex // guards at
	at map[string]map[string]time.Time
}

func (m *moments) see(pod, station string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at[pod] == nil {
		m.at[pod] = make(map[string]time.Time)
	}
	if m.at[pod][station].IsZero() {
		m.at[pod][station] = time.Now()
	}
}

func (m *moments) pod(o any) {
	p := o.(*corev1.Pod)
	m.see(p.Name, "object")
	if p.Spec.NodeName != "" {
		m.see(p.Name, "bound")
	}
	if p.Status.PodIP != "" {
		m.see(p.Name, "address")
	}
	if harness.Ready(p) == nil {
		m.see(p.Name, "ready")
	}
}

func (m *moments) slice(o any) {
	for _, e := range o.(*discoveryv1.EndpointSlice).Endpoints {
		m.see(e.TargetRef.Name, "in slice")
		if *e.Conditions.Ready {
			m.see(e.TargetRef.Name, "ready in slice")
		}
	}
}

// watch fills the moments until the test ends.
func (m *moments) watch(t *testing.T, c *harness.Cluster) {
	ctx, cancel := context.WithCancel(context.Background())
	f := informers.NewSharedInformerFactoryWithOptions(c.Client, 0, informers.WithNamespace(c.Namespace))
	t.Cleanup(func() {
		cancel()
		f.Shutdown()
	})
	for _, h := range []struct {
		informer cache.SharedIndexInformer
		see      func(any)
	}{{f.Core().V1().Pods().Informer(), m.pod}, {f.Discovery().V1().EndpointSlices().Informer(), m.slice}} {
		if _, err := h.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: h.see, UpdateFunc: func(_, o any) { h.see(o) }}); err != nil {
			t.Fatal(err)
		}
	}
	f.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
}

// stations in the order in which the table shows them.
var stations = []string{"object", "bound", "start", "listening", "address", "in slice", "ready", "ready in slice"}

// walks are the kinds of pods whose way is measured.
var walks = []struct {
	name, probes string
	volumes      bool
}{
	{"no probe", "", true},
	{"no probe, no volumes", "", false},
	{"readiness every 1 s", "readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}", true},
	{"readiness every 10 s", "readinessProbe: {httpGet: {path: /ready, port: 8080}}", true},
	{"start-up and readiness every 1 s", "startupProbe: {httpGet: {path: /started, port: 8080}, periodSeconds: 1}\n    " +
		"readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}", true},
}

// TestReadinessPath measures the way from a pod's creation to its place in the EndpointSlice, one pod after the other. It asserts that every
// pod got there; the figures are for the README: make e2e RUN=TestReadinessPath
func TestReadinessPath(t *testing.T) {
	pods := 10
	if !harness.Full() {
		pods = 3
	}
	for _, w := range walks {
		t.Run(w.name, func(t *testing.T) {
			c := harness.New(t)
			m := &moments{at: make(map[string]map[string]time.Time)}
			m.watch(t, c)
			since := make(map[string][]time.Duration)
			for i := range pods {
				pod := fmt.Sprintf("walker-%d", i)
				created := time.Now()
				c.Apply(fmt.Sprintf(walker, pod, w.probes, w.volumes))
				c.Eventually(40*time.Second, pod+" is ready in the slice", func() error { return m.arrived(pod) })
				m.note(c, pod, created, since)
				if err := c.Client.CoreV1().Pods(c.Namespace).Delete(c.Context, pod, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				c.WaitPodGone(pod, 30*time.Second)
			}
			t.Log(table(since, pods))
		})
	}
}

func (m *moments) arrived(pod string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at[pod]["ready in slice"].IsZero() {
		return fmt.Errorf("seen: %v", m.at[pod])
	}
	return nil
}

func (m *moments) note(c *harness.Cluster, pod string, created time.Time, since map[string][]time.Duration) {
	for _, e := range c.Told(pod, "app") {
		if e.What == "start" || e.What == "listening" {
			since[e.What] = append(since[e.What], e.At.Sub(created))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for station, at := range m.at[pod] {
		since[station] = append(since[station], at.Sub(created))
	}
}

func table(since map[string][]time.Duration, pods int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ms after the pod's creation, %d pods\n", pods)
	for _, s := range stations {
		d := since[s]
		slices.Sort(d)
		if len(d) > 0 {
			fmt.Fprintf(&b, "%-16s min %5d  median %5d  max %5d\n", s, d[0].Milliseconds(), d[len(d)/2].Milliseconds(), d[len(d)-1].Milliseconds())
		}
	}
	return b.String()
}

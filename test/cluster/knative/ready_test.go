package knative

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// replaced counts, for each queue-proxy, how long a pod takes from its creation until Kubernetes calls it ready.
func replaced(t *testing.T, in *installation) {
	for _, c := range columns[:2] {
		in.on(t).use(c)
		on := in.on(t)
		r := revision{name: "ready", annotations: map[string]string{"autoscaling.knative.dev/min-scale": "1"}}
		on.deploy(r)
		n := 15
		var all []time.Duration
		for range n {
			all = append(all, on.replace(r))
		}
		slices.Sort(all)
		t.Logf("%s: created to ready: %v", c.name, all)
		list, _ := on.Client.CoreV1().Events(on.Namespace).List(on.Context, metav1.ListOptions{})
		for _, e := range list.Items {
			if e.Reason == "Unhealthy" {
				t.Logf("  %s x%d %s", e.InvolvedObject.Name, e.Count, e.Message)
			}
		}
	}
}

func (in *installation) replace(r revision) time.Duration {
	in.t.Helper()
	old := in.pods(r)[0].Name
	w, err := in.Client.CoreV1().Pods(in.Namespace).Watch(in.Context, metav1.ListOptions{LabelSelector: "serving.knative.dev/revision=" + r.String()})
	if err != nil {
		in.t.Fatal(err)
	}
	var mu sync.Mutex
	at := map[string]time.Time{}
	pod := ""
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok || p.Name == old || p.DeletionTimestamp != nil || (pod != "" && p.Name != pod) {
				continue
			}
			mu.Lock()
			see := func(s string) {
				if at[s].IsZero() {
					at[s] = time.Now()
				}
			}
			if e.Type == watch.Added {
				pod = p.Name
				see("0 object")
			}
			if p.Spec.NodeName != "" {
				see("1 bound")
			}
			if p.Status.PodIP != "" {
				see("4 address")
			}
			if harness.Ready(p) == nil && at["5 ready"].IsZero() {
				see("5 ready")
				close(done)
			}
			mu.Unlock()
		}
	})
	if err := in.Client.CoreV1().Pods(in.Namespace).Delete(in.Context, old, metav1.DeleteOptions{}); err != nil {
		in.t.Fatal(err)
	}
	<-done
	w.Stop()
	wg.Wait()
	for _, e := range in.Told(pod, "user-container") {
		if e.What == "start" || e.What == "listening" {
			at["2 "+e.What] = e.At
		}
	}
	log := in.Logs(pod, "queue-proxy")
	first, _, _ := strings.Cut(log, "\n")
	var b strings.Builder
	began := at["0 object"]
	for _, s := range slices.Sorted(maps.Keys(at)) {
		fmt.Fprintf(&b, "%s %d, ", s, at[s].Sub(began).Milliseconds())
	}
	in.t.Logf("%s %s began %s\n%s", pod, b.String(), began.UTC().Format(time.RFC3339Nano), first)
	if d := at["5 ready"].Sub(began); d > 3*time.Second {
		in.t.Logf("SLOW %s\n%s", pod, log)
	}
	return at["5 ready"].Sub(began)
}

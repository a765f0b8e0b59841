package knative

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// readiness replaces pods one by one under either queue-proxy. Kubelet asks a pod that starts once when it has seen its containers run, and once
// more within a second, at its next look at them; after that it waits for the probe's period, 10 s. So what counts is that the queue-proxy listens
// when it is asked: no more of ours than of Knative's may miss that. How long it took is said.
func readiness(t *testing.T, in *installation) {
	n := 6
	if harness.Full() {
		n = 20
	}
	missed := make(map[string]int)
	pair := columns[:2] // they have Knative's own activator
	for _, c := range pair {
		on := in.on(t)
		on.use(c)
		r := revision{name: "replaced", annotations: map[string]string{"autoscaling.knative.dev/min-scale": "1"}}
		on.deploy(r)
		var took []time.Duration
		for range n {
			took = append(took, on.replace(r))
		}
		slices.Sort(took)
		missed[c.name] = on.refused()
		t.Logf("%s: %d pods, created to ready: least %v, median %v, most %v; of these and the first one, %d were asked before they listened",
			c.name, n, ms(took[0]), ms(took[n/2]), ms(took[n-1]), missed[c.name])
	}
	if theirs, ours := missed[pair[0].name], missed[pair[1].name]; ours > theirs {
		t.Errorf("%d of our queue-proxies did not listen when kubelet asked, of Knative's %d; want no more", ours, theirs)
	}
}

// replace deletes a revision's only pod and returns how long the next one took from its creation until it was ready, as anybody sees it who watches.
func (in *installation) replace(r revision) time.Duration {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.Context, soon)
	defer cancel()
	old := in.pods(r)[0].Name
	pods, err := in.Client.CoreV1().Pods(in.Namespace).Watch(ctx, metav1.ListOptions{LabelSelector: "serving.knative.dev/revision=" + r.String()})
	if err != nil {
		in.t.Fatal(err)
	}
	defer pods.Stop()
	if err := in.Client.CoreV1().Pods(in.Namespace).Delete(ctx, old, metav1.DeleteOptions{}); err != nil {
		in.t.Fatal(err)
	}
	created := make(map[string]time.Time)
	for e := range pods.ResultChan() {
		p, ok := e.Object.(*corev1.Pod)
		if !ok || p.DeletionTimestamp != nil {
			continue
		}
		if created[p.Name].IsZero() {
			created[p.Name] = time.Now()
		}
		if p.Name != old && harness.Ready(p) == nil {
			return time.Since(created[p.Name])
		}
	}
	in.t.Fatalf("no pod of %s is ready again within %v", r, soon)
	return 0
}

// refused counts the pods that kubelet asked in vain because nobody listened.
func (in *installation) refused() int {
	in.t.Helper()
	events, err := in.Client.CoreV1().Events(in.Namespace).List(in.Context, metav1.ListOptions{FieldSelector: "reason=Unhealthy"})
	if err != nil {
		in.t.Fatal(err)
	}
	pods := make(map[string]bool)
	for _, e := range events.Items {
		if strings.Contains(e.Message, "connection refused") {
			pods[e.InvolvedObject.Name] = true
		}
	}
	return len(pods)
}

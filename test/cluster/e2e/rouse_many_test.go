package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseManyWorkloads: what control costs with very many workloads at zero, and how long a new instance takes to know
// them. The figures are logged; that every one of them is published is what can fail.
func TestRouseManyWorkloads(t *testing.T) {
	n := long(100, 2000)
	c := install(t)
	var makers sync.WaitGroup
	for w := range 8 {
		makers.Go(func() {
			for i := w; i < n; i += 8 {
				if err := sleeper(c, fmt.Sprint("w", i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	makers.Wait()
	allPublished := func() error {
		list, err := c.Client.DiscoveryV1().EndpointSlices(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: "rouse.dev/backend=activators"})
		if err != nil {
			return err
		}
		led := map[string]bool{}
		for _, s := range list.Items {
			led[s.Labels[discoveryv1.LabelServiceName]] = led[s.Labels[discoveryv1.LabelServiceName]] || len(s.Endpoints) > 0
		}
		if len(led) != n {
			return fmt.Errorf("%d of %d Services lead to activators", len(led), n)
		}
		return nil
	}
	c.Eventually(3*time.Minute, "every Service leads to activators", allPublished)
	before := figures(c, "autoscaler-0")
	span := long(5*time.Second, 30*time.Second)
	lasting(c, span)
	after := figures(c, "autoscaler-0")
	t.Logf("%d workloads: %.0f MB resident, %.2f %% of a core", n, after["process_resident_memory_bytes"]/1e6,
		100*(after["process_cpu_seconds_total"]-before["process_cpu_seconds_total"])/span.Seconds())
	old := c.Pod("autoscaler-0").UID
	if err := c.Client.CoreV1().Pods(c.Namespace).Delete(c.Context, "autoscaler-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Eventually(time.Minute, "the new instance has read the cluster", func() error {
		if err := renewed(c, old); err != nil {
			return err
		}
		for line := range strings.Lines(c.Logs("autoscaler-0", "autoscaler")) {
			var l struct {
				Msg, Took string
				Workloads int
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "the cluster is read" && l.Workloads >= n {
				t.Logf("after a restart it knew %d workloads in %s", l.Workloads, l.Took)
				return nil
			}
		}
		return fmt.Errorf("it has not said so")
	})
	if err := allPublished(); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// renewed says whether another autoscaler-0 than the one with that UID is ready.
func renewed(c *harness.Cluster, old types.UID) error {
	for _, p := range c.Pods("app=autoscaler") {
		if p.Name == "autoscaler-0" && p.UID != old {
			return harness.Ready(&p)
		}
	}
	return errors.New("it is not there yet")
}

// sleeper makes a workload without pods.
func sleeper(c *harness.Cluster, name string) error {
	none := int32(0)
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
			"autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev", "autoscaling.knative.dev/target": "10", "autoscaling.knative.dev/max-scale": "50",
		}},
		Spec: appsv1.DeploymentSpec{Replicas: &none, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "user", Image: "local/testapp:test"}}},
		}},
	}
	if _, err := c.Client.AppsV1().Deployments(c.Namespace).Create(c.Context, d, metav1.CreateOptions{}); err != nil {
		return err
	}
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
	_, err := c.Client.CoreV1().Services(c.Namespace).Create(c.Context, s, metav1.CreateOptions{})
	return err
}

// figures reads the metrics without labels of a pod's admin page.
func figures(c *harness.Cluster, pod string) map[string]float64 {
	return parsed(c.Get(harness.At(c.Pod(pod), 9090) + "/metrics").Body)
}

// look is figures of a pod that may not be there yet.
func look(c *harness.Cluster, pod string) (map[string]float64, error) {
	r, err := harness.Send(c.Context, "GET", harness.At(c.Pod(pod), 9090)+"/metrics", nil, nil)
	return parsed(r.Body), err
}

func parsed(text string) map[string]float64 {
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		var name string
		var value float64
		if _, err := fmt.Sscanf(line, "%s %g", &name, &value); err == nil {
			out[name] = value
		}
	}
	return out
}

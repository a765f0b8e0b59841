package kube

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// written says where groups lead, sorted: the backend, its ports, its addresses.
func written(groups []sliceplan.Group) (all []string) {
	for _, g := range groups {
		text := []string{string(g.Backend)}
		for _, p := range g.Ports {
			text = append(text, fmt.Sprintf("%s:%d", p.Name, p.Number))
		}
		for _, e := range g.Endpoints {
			text = append(text, e.Addr.String())
		}
		all = append(all, strings.Join(text, " "))
	}
	slices.Sort(all)
	return all
}

// TestAPortThatAPodLacks: where a Service leads to a name that no container has, its other ports lead to the pod all the same.
func TestAPortThatAPodLacks(t *testing.T) {
	named := func(p *corev1.Pod) {
		p.Status.PodIPs[0].IP = "10.88.0.3"
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{Name: "metrics", ContainerPort: 9100})
	}
	for _, tc := range []struct {
		name      string
		uncounted string
		pods      []func(*corev1.Pod)
		leaving   bool
		alone     bool // no activator is there
		want      []string
	}{
		{"counted", "", []func(*corev1.Pod){counted}, false, false, []string{"activators metrics:20002 10.88.9.1", "pods http:9012 10.88.0.2"}},
		{"uncounted", "metrics", []func(*corev1.Pod){counted}, false, false, []string{"pods http:9012 10.88.0.2"}},
		{"without activators", "", []func(*corev1.Pod){counted}, false, true, []string{"pods http:9012 10.88.0.2"}},
		{"opted out", "", []func(*corev1.Pod){counted}, true, false, []string{"pods http:9012 10.88.0.2"}},
		{"no queue-proxy", "metrics", []func(*corev1.Pod){nil}, false, false, []string{"activators http:20001 10.88.9.1"}},
		{"another pod has it", "metrics", []func(*corev1.Pod){counted, func(p *corev1.Pod) { counted(p); named(p) }}, false, false,
			[]string{"pods http:9012 10.88.0.2", "pods metrics:9100 http:9012 10.88.0.3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.deployment(1)
			r.service(helloService(func(s *corev1.Service) {
				s.Annotations = map[string]string{workload.UncountedPorts: tc.uncounted}
				metrics := corev1.ServicePort{Name: "metrics", Port: 9100, TargetPort: intstr.FromString("metrics")}
				s.Spec.Ports = append([]corev1.ServicePort{metrics}, s.Spec.Ports...)
			}))
			for i, change := range tc.pods {
				r.pod(podObject(fmt.Sprint("a", i), change))
			}
			if !tc.alone {
				r.activators = []Activator{activatorAt(1, 20001, 20002)}
			}
			h := *r.hello()
			h.leaving = tc.leaving
			if got := written(r.publisher.want(&h, mode{serve: true}, nil)); !slices.Equal(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

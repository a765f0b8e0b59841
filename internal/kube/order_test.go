package kube

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// orderly is a sink that notes how many ready pods the book has of a workload, and of its further ports, when it is put.
type orderly struct {
	*rig
	pods []int
}

func (o *orderly) Put(x Routed) {
	o.rig.Put(x)
	o.pods = append(o.pods, o.mirror.book.Snapshot(x.Config.ID).Count(endpoint.Ready))
	for _, e := range x.Extra {
		o.pods = append(o.pods, o.mirror.book.Snapshot(e.ID).Count(endpoint.Ready))
	}
}

// TestPodsAreKnownFirst: whoever begins to decide about a workload knows the pods that it has, be it ours, another instance's, or one that
// comes back after it had opted out.
func TestPodsAreKnownFirst(t *testing.T) {
	for _, ours := range []bool{true, false} {
		r := newRig(t)
		o := &orderly{rig: r}
		r.mirror.sink, r.mirror.owns = o, func(identity.Revision) bool { return ours }
		r.service(helloService(func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "metrics", Port: 9100})
		}))
		r.pod(podObject("a", counted))
		r.pod(podObject("b", counted))
		r.deployment(2)
		r.hello()
		out := *r.deployments.get(key{"default", "hello"})
		out.Annotations = nil
		r.deployments.put(key{"default", "hello"}, &out)
		r.hello()
		r.pod(podObject("c", counted))
		r.deployment(3)
		r.hello()
		if want := []int{2, 2, 3, 3}; !slices.Equal(o.pods, want) {
			t.Errorf("ours: %t: pods known when the workload is put, at its port and at the further one: %v, want %v", ours, o.pods, want)
		}
	}
}

package kube

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/rousehq/rouse/internal/sliceplan"
)

// BenchmarkLook is what one changed pod of many costs: the look at its workload, and the plan of its Service's slices.
// lookPerPod and writePerPod keep the product with the number of changes within bounds.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{15, 150, 1500} {
		r := newRig(b)
		r.deployment(n)
		r.service(helloService(nil))
		change := func(i int, ready bool) {
			r.pod(podObject(fmt.Sprint("p", i), func(p *corev1.Pod) {
				p.Status.PodIPs[0].IP = fmt.Sprintf("10.77.%d.%d", i/250, 1+i%250)
				p.Spec.InitContainers = []corev1.Container{sidecarOf()}
				if !ready {
					p.Status.Conditions = []corev1.PodCondition{}
				}
			}))
		}
		for i := range n {
			change(i, true)
		}
		t := r.hello()
		b.Run(fmt.Sprintf("mirror-%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				change(0, i%2 == 0)
				r.hello()
			}
		})
		b.Run(fmt.Sprintf("slices-%d", n), func(b *testing.B) {
			b.ReportAllocs()
			plan := sliceplan.Make("hello", r.publisher.want(t, mode{serve: true}, nil), nil, 100)
			for b.Loop() {
				sliceplan.Make("hello", r.publisher.want(t, mode{serve: true}, nil), plan.Create, 100)
			}
		})
	}
}

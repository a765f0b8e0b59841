package kube

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// systemPod is a pod of our own namespace at the address of activatorAt(1).
func systemPod(name string, age time.Duration, change func(*corev1.Pod)) *corev1.Pod {
	return podObject(name, func(p *corev1.Pod) {
		p.Namespace, p.CreationTimestamp, p.Status.PodIPs[0].IP = "rouse-system", metav1.NewTime(time.Unix(1_000_000, 0).Add(-age)), "10.88.9.1"
		if change != nil {
			change(p)
		}
	})
}

// TestAnAddressThatTwoPodsClaim: an evicted pod keeps its address in its status, and so does one whose node is cut off.
func TestAnAddressThatTwoPodsClaim(t *testing.T) {
	unready := func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
	evicted := func(p *corev1.Pod) { unready(p); p.Status.Phase = corev1.PodFailed }
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	live := systemPod("live", 0, on("node2"))
	const behind = "activators 10.88.9.1:20001"
	for name, other := range map[string]*corev1.Pod{
		"evicted":         systemPod("other", time.Hour, evicted),
		"evicted, ready":  systemPod("other", time.Hour, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		"evicted, newer":  systemPod("other", -time.Hour, evicted),
		"cut off":         systemPod("other", time.Hour, unready),
		"older and ready": systemPod("other", time.Hour, nil),
		"about to end":    systemPod("other", -time.Hour, func(p *corev1.Pod) { p.DeletionTimestamp = ptr(metav1.Now()) }),
	} {
		for _, list := range [][]any{{live, other}, {other, live}} {
			r := newRig(t)
			r.deployment(0)
			r.service(helloService(nil))
			r.activators = []Activator{activatorAt(1, 20001)}
			expect := func(what string) {
				t.Helper()
				groups := r.publisher.want(r.hello(), mode{}, nil)
				if got := addressesOf(groups); !slices.Equal(got, []string{behind}) || groups[0].Endpoints[0].Node != "node2" {
					t.Errorf("%s, %s: behind the Service %v, want %s on node2", name, what, groups, behind)
				}
			}
			_ = r.pods.Replace(list, "5")
			expect("listed")
			r.pod(other)
			expect("the other changed")
			r.pod(live)
			expect("the live one changed")
			_ = r.pods.Delete(other)
			expect("the other went")
		}
	}
}

// TestTheNextPodAtAnAddressAppears when the one that counted goes, or stops taking requests.
func TestTheNextPodAtAnAddressAppears(t *testing.T) {
	named := func(r *rig) string {
		p := r.podAt(activatorAt(1).Addr)
		if p == nil {
			return "none"
		}
		return p.name
	}
	unready := func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
	r := newRig(t)
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"both ready", func() { r.pod(systemPod("a", 0, nil)); r.pod(systemPod("b", time.Hour, nil)) }, "a"},
		{"the first is not ready", func() { r.pod(systemPod("a", 0, unready)) }, "b"},
		{"it is again", func() { r.pod(systemPod("a", 0, nil)) }, "a"},
		{"it failed", func() { r.pod(systemPod("a", 0, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })) }, "b"},
		{"the second went", func() { r.pods.put(key{"rouse-system", "b"}, nil) }, "none"},
		{"both went", func() { r.pods.put(key{"rouse-system", "a"}, nil) }, "none"},
	} {
		step.do()
		if got := named(r); got != step.want {
			t.Errorf("%s: the pod at the address is %s, want %s", step.what, got, step.want)
		}
	}
	if len(r.podsAt) != 0 {
		t.Errorf("%v are remembered", r.podsAt)
	}
}

package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/endpoint"
)

const gate = corev1.PodConditionType("example.com/balanced")

// conditions replaces the conditions of a pod: those that are named are true, and Ready is not unless it is named.
func conditions(yes ...corev1.PodConditionType) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
		for _, c := range yes {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue})
		}
	}
}

// called says what kubelet thinks of a container.
func called(name string, ready bool) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: name, Ready: ready})
	}
}

// TestOnlyOrdinaryPodsAreAskedEarly: activators use a pod before Kubernetes calls it ready where that depends on nothing but
// its queue-proxy's answer.
func TestOnlyOrdinaryPodsAreAskedEarly(t *testing.T) {
	exec := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"ready"}}}}
	execReadiness := func(p *corev1.Pod) { p.Spec.Containers[0].ReadinessProbe = exec }
	startup := func(p *corev1.Pod) { p.Spec.Containers[0].StartupProbe = exec }
	gated := func(p *corev1.Pod) { p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}} }
	nativeSidecar := func(p *corev1.Pod) {
		envoy := corev1.Container{Name: "envoy", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways), ReadinessProbe: exec}
		p.Spec.InitContainers = append(p.Spec.InitContainers, envoy)
	}
	ownProbe := func(p *corev1.Pod) { p.Spec.InitContainers[0].ReadinessProbe = exec }
	passing := func(p *corev1.Pod) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "migrate", ReadinessProbe: exec})
	}
	without := func(p *corev1.Pod) { p.Spec.InitContainers = nil }
	nowhere := func(p *corev1.Pod) { p.Status.PodIPs = nil }
	const asked, held, absent = "asked", "held", "not there"
	for _, tc := range []struct {
		name   string
		change []func(*corev1.Pod)
		want   string
	}{
		{"ready", nil, "ready"},
		{"starts", []func(*corev1.Pod){conditions(), ownProbe}, asked},
		{"starts without any condition", []func(*corev1.Pod){func(p *corev1.Pod) { p.Status.Conditions = nil }}, asked},
		{"starts after an init container", []func(*corev1.Pod){conditions(), passing}, asked},
		{"on a node that is lost", []func(*corev1.Pod){conditions(corev1.ContainersReady)}, held},
		{"a readiness gate is not there yet", []func(*corev1.Pod){conditions(), gated}, held},
		{"a readiness gate is shut", []func(*corev1.Pod){conditions(corev1.ContainersReady), gated}, held},
		{"a readiness gate is open", []func(*corev1.Pod){conditions(gate), gated}, asked},
		{"an exec probe that was not asked yet", []func(*corev1.Pod){conditions(), execReadiness}, held},
		{"an exec probe that fails", []func(*corev1.Pod){conditions(), execReadiness, called("user", false), called("queue-proxy", true)}, held},
		{"an exec probe that succeeded", []func(*corev1.Pod){conditions(), execReadiness, called("user", true), called("queue-proxy", false)}, asked},
		{"a start-up probe", []func(*corev1.Pod){conditions(), startup, called("user", false)}, held},
		{"a start-up probe that succeeded", []func(*corev1.Pod){conditions(), startup, called("user", true)}, asked},
		{"a probe of a native sidecar", []func(*corev1.Pod){conditions(), nativeSidecar, called("user", true)}, held},
		{"no queue-proxy", []func(*corev1.Pod){without, conditions()}, held},
		{"no address", []func(*corev1.Pod){conditions(), nowhere}, held},
		{"no address, no queue-proxy", []func(*corev1.Pod){without, conditions(), nowhere}, held},
		{"no address, and going", []func(*corev1.Pod){conditions(), nowhere, func(p *corev1.Pod) { p.DeletionTimestamp = ptr(metav1.Now()) }}, absent},
		{"failed", []func(*corev1.Pod){conditions(), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }}, absent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.deployment(1)
			r.service(helloService(func(s *corev1.Service) {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "metrics", Port: 9100})
			}))
			r.stripped(t, podObject("a", func(p *corev1.Pod) {
				counted(p)
				for _, c := range tc.change {
					c(p)
				}
			}))
			h := r.hello()
			got := absent
			for _, e := range r.mirror.book.Snapshot(h.rev).Endpoints {
				if got = e.State.String(); e.State == endpoint.Starting {
					got = map[bool]string{false: asked, true: held}[e.Held]
				}
			}
			if got != tc.want {
				t.Errorf("the pod is %s, want %s", got, tc.want)
			}
			// Nobody counts the pods of further ports, and nobody asks there.
			if further := len(r.mirror.book.Snapshot(h.sent.Extra[0].ID).Endpoints); further > 0 != (tc.want == "ready") {
				t.Errorf("%d pods at the further port of one that is %s", further, tc.want)
			}
		})
	}
}

// stripped takes a pod as the watch brings it.
func (r *rig) stripped(t *testing.T, p *corev1.Pod) {
	t.Helper()
	if err := r.pods.Update(p); err != nil {
		t.Fatal(err)
	}
}

package kube

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// TestFaultsThatAreEndured: what begins to be wrong with a workload that sleeps does not turn its requests away, nor does it
// end the scaling of one that is awake, unless another autoscaler is there or its Service can't lead to activators any more.
func TestFaultsThatAreEndured(t *testing.T) {
	secondService := func(r *rig) {
		r.service(helloService(func(s *corev1.Service) {
			s.Name, s.UID, s.Annotations = "front", "s2", map[string]string{workload.ServiceFor: "hello"}
		}))
	}
	udp := func(r *rig) {
		r.service(helloService(func(s *corev1.Service) {
			s.Spec.Ports = append([]corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}}, s.Spec.Ports...)
		}))
	}
	local := func(r *rig) {
		r.service(helloService(func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal) }))
	}
	hpa := func(r *rig) {
		r.hpas.put(key{"default", "hello"}, &rival{"HorizontalPodAutoscaler", "hello", workload.Deployment})
	}
	headless := func(r *rig) {
		r.service(helloService(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }))
	}
	selects := func(r *rig) {
		r.service(helloService(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "hello"} }))
	}
	another := func(r *rig) {
		secondService(r)
		r.service(helloService(func(s *corev1.Service) { s.UID = "s3" }))
	}
	for _, tc := range []struct {
		name          string
		fault         func(*rig)
		reason        workload.Reason
		asleep, awake bool // it stays in control
	}{
		{"a second Service", secondService, workload.ManyServices, true, true},
		{"a UDP port", udp, workload.ServicePorts, true, true},
		{"internalTrafficPolicy: Local", local, workload.InternalLocal, true, true},
		{"another autoscaler", hpa, workload.OtherAutoscaler, true, false},
		{"a second Service and another autoscaler", func(r *rig) { hpa(r); secondService(r) }, workload.OtherAutoscaler, true, false},
		{"a second Service, and the first was made anew", another, workload.ManyServices, false, false},
		{"headless", headless, "", false, false},
		{"a selector", selects, workload.ServiceSelects, false, false},
	} {
		for _, awake := range []bool{false, true} {
			r := newRig(t)
			r.deployment(0)
			r.service(helloService(nil))
			r.activators = []Activator{activatorAt(1, 20001)}
			want := []string{"activators 10.88.9.1:20001"}
			if awake {
				r.deployment(1)
				r.pod(podObject("a", nil))
			}
			before := r.hello()
			tc.fault(r)
			now := r.hello()
			stays := tc.asleep && !awake || tc.awake && awake
			if in := now != nil && !now.leaving; in != stays || (len(r.left) == 0) != stays {
				t.Errorf("%s, awake: %t: it stays in control: %t, want %t", tc.name, awake, in, stays)
				continue
			}
			said := r.mirror.reporter.said[subjectOf(before.object).key][subjectOf(before.object)][fromLook]
			if tc.reason != "" && !slices.ContainsFunc(said, func(s complaint) bool { return s.reason == string(tc.reason) }) {
				t.Errorf("%s, awake: %t: said %v, want %s", tc.name, awake, said, tc.reason)
			}
			if !stays {
				continue
			}
			if got := addressesOf(r.publisher.want(now, mode{}, nil)); !slices.Equal(got, want) || now.sent.Config != before.sent.Config {
				t.Errorf("%s, awake: %t: its Service leads to %v, want %v, with the settings of before", tc.name, awake, got, want)
			}
		}
	}
}

// TestAnotherAutoscalerTakesOverWithAPod: until then requests are parked; what has been let go stays so at zero.
func TestAnotherAutoscalerTakesOverWithAPod(t *testing.T) {
	r := newRig(t)
	r.deployment(0)
	r.service(helloService(nil))
	r.hello()
	r.hpas.put(key{"default", "hello"}, &rival{"HorizontalPodAutoscaler", "hello", workload.Deployment})
	unready := func(p *corev1.Pod) { p.Status.Conditions = nil }
	r.deployment(1)
	r.pod(podObject("a", unready))
	if now := r.hello(); now == nil || now.leaving {
		t.Fatal("it was let go before its first pod was ready")
	}
	r.pod(podObject("a", nil))
	if now := r.hello(); now == nil || !now.leaving {
		t.Fatal("it has a pod, and is in control beside another autoscaler")
	}
	r.pod(podObject("a", unready))
	if now := r.hello(); now != nil && !now.leaving {
		t.Error("it was let go, and is in control again")
	}
}

// TestARestartEnduresToo: an instance that has just started sees by the slices that the workload was asleep in control.
func TestARestartEnduresToo(t *testing.T) {
	for _, tc := range []struct {
		backend sliceplan.Backend
		stays   bool
	}{{sliceplan.Activators, true}, {sliceplan.Pods, false}, {"", false}} {
		r := newRig(t)
		r.deployment(0)
		r.service(helloService(nil))
		if tc.backend != "" {
			r.slices.put(key{"default", "hello-0"}, &slice{service: key{"default", "hello"}, name: "hello-0", writer: managedBy, version: "1", contents: sliceplan.Slice{Backend: tc.backend}})
		}
		r.hpas.put(key{"default", "hello"}, &rival{"HorizontalPodAutoscaler", "hello", workload.Deployment})
		now := r.hello()
		if in := now != nil && !now.leaving; in != tc.stays {
			t.Errorf("slices of %q: it is in control: %t, want %t", tc.backend, in, tc.stays)
		}
	}
}

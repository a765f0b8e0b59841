package kube

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/rousehq/rouse/internal/workload"
)

// selecting makes a Service that selects the pods of hello.
func selecting(change func(*corev1.Service)) *corev1.Service {
	return helloService(func(s *corev1.Service) {
		s.Spec.Selector = map[string]string{"app": "hello"}
		if change != nil {
			change(s)
		}
	})
}

// unpatched fails the test when something was changed in the cluster.
func unpatched(t *testing.T, name string, core *fake.Clientset) {
	t.Helper()
	for _, a := range core.Actions() {
		if a.GetVerb() != "get" && a.GetVerb() != "list" {
			t.Errorf("%s: it was refused after a %s of %s", name, a.GetVerb(), a.GetResource().Resource)
		}
	}
}

// TestAdoptRefusesWhatControlWould: at once, in control's words, and the Service stays as it was.
func TestAdoptRefusesWhatControlWould(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		change     func(*corev1.Service)
	}{
		{"headless", "is headless", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }},
		{"UDP", "protocol UDP is not carried", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }},
		{"to its own node", "InternalTrafficPolicyLocal: Service hello has internalTrafficPolicy: Local", func(s *corev1.Service) {
			s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
		}},
	} {
		core := fake.NewClientset(selecting(tc.change), workloadObject(workload.Deployment, "hello", ourClass, byLabels(map[string]string{"app": "hello"})))
		err := (&Client{core: core}).Adopt(t.Context(), "default", "hello", func(string) {})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: Adopt = %v, want %q", tc.name, err, tc.want)
		}
		unpatched(t, tc.name, core)
	}
	var said []string
	err := unfit(selecting(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }), func(text string) { said = append(said, text) })
	if err != nil || len(said) != 1 || !strings.Contains(said[0], "rouse.dev/session-affinity") {
		t.Errorf("sessionAffinity: %v, said %q, want a warning", err, said)
	}
	if problems := workload.Unfit(&serviceOf(selecting(nil)).Service); len(problems) != 0 {
		t.Errorf("a selector alone is in the way of adoption: %+v", problems)
	}
}

// TestAdoptRefusesASelectorOfSeveral: pods of others that the selector matches would lose their traffic.
func TestAdoptRefusesASelectorOfSeveral(t *testing.T) {
	pod := func(name string, change func(*corev1.Pod)) *corev1.Pod {
		return podObject(name, func(p *corev1.Pod) {
			p.Labels["app"] = "hello"
			if change != nil {
				change(p)
			}
		})
	}
	of := func(kind, name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.OwnerReferences[0].Kind, p.OwnerReferences[0].Name = kind, name }
	}
	for _, tc := range []struct {
		name, want string // empty when nothing is in the way
		pods       []runtime.Object
	}{
		{"its own", "", []runtime.Object{pod("a", nil), pod("b", nil)}},
		{"no pod", "", nil},
		{"a canary", "the pods of Deployment hello-canary, which", []runtime.Object{pod("a", nil), pod("b", of("ReplicaSet", "hello-canary-74f9"))}},
		{"several", "of DaemonSet x and Pod c and StatefulSet y, which", []runtime.Object{pod("a", of("DaemonSet", "x")), pod("b", of("StatefulSet", "y")),
			pod("c", func(p *corev1.Pod) { p.OwnerReferences = nil })}},
		{"one with other labels", "", []runtime.Object{podObject("a", of("StatefulSet", "y"))}},
		{"one that goes, and one that has ended", "", []runtime.Object{pod("a", func(p *corev1.Pod) { of("StatefulSet", "y")(p); p.DeletionTimestamp = ptr(metav1.Now()) }),
			pod("b", func(p *corev1.Pod) { of("Job", "z")(p); p.Status.Phase = corev1.PodSucceeded })}},
	} {
		core := fake.NewClientset(tc.pods...)
		err := (&Client{core: core}).alone(t.Context(), selecting(nil), "Deployment hello")
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	core := fake.NewClientset(selecting(nil), pod("b", of("ReplicaSet", "hello-canary-74f9")),
		workloadObject(workload.Deployment, "hello", ourClass, byLabels(map[string]string{"app": "hello"})))
	if err := (&Client{core: core}).Adopt(t.Context(), "default", "hello", func(string) {}); err == nil || !strings.Contains(err.Error(), "Deployment hello-canary") {
		t.Errorf("Adopt = %v, want the canary's name", err)
	}
	unpatched(t, "a canary", core)
}

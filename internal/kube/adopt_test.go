package kube

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
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

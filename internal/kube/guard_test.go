package kube

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/workload"
)

func TestGuardOf(t *testing.T) {
	const selects = "podSelector: {matchLabels: {app: hello}}"
	for _, tc := range []struct {
		name, spec string
		policies   int
		open       bool
	}{
		{"no policy", "", 0, false},
		{"of other pods", "podSelector: {matchLabels: {app: other}}", 0, false},
		{"of all pods, nothing comes in", "podSelector: {}", 1, false},
		{"of what goes out", selects + "\npolicyTypes: [Egress]", 0, false},
		{"from some", selects + "\ningress: [{from: [{podSelector: {}}]}]", 1, false},
		{"from everybody", selects + "\ningress: [{}]", 1, true},
		{"from everybody to the port", selects + "\ningress: [{ports: [{port: 8080}]}]", 1, true},
		{"to the port by name", selects + "\ningress: [{ports: [{port: web}]}]", 1, true},
		{"to a range", selects + "\ningress: [{ports: [{port: 8000, endPort: 9000}]}]", 1, true},
		{"to another port", selects + "\ningress: [{ports: [{port: 8012}, {port: metrics}]}]", 1, false},
		{"to any port of a protocol", selects + "\ningress: [{ports: [{protocol: TCP}]}]", 1, true},
	} {
		a := &annotated{ports: []named{{"web", 8080}}}
		a.PodLabels = map[string]string{"app": "hello"}
		var policies []*policy
		if tc.spec != "" {
			p := &networkingv1.NetworkPolicy{}
			p.Name = "policy"
			if err := yaml.Unmarshal([]byte(tc.spec), &p.Spec); err != nil {
				t.Fatal(err)
			}
			policies = append(policies, policyOf(p))
		}
		g := guardOf(policies, a, workload.Port{Number: 80, TargetName: "web"})
		if len(g.Policies) != tc.policies || (g.Open != "") != tc.open || g.Port != 8080 {
			t.Errorf("%s: %+v, want %d policies, open %t", tc.name, g, tc.policies, tc.open)
		}
	}
}

// TestGuardKnowsNativeSidecars: the application's port may be one of theirs, and is never one of another protocol.
func TestGuardKnowsNativeSidecars(t *testing.T) {
	v := newView()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "hello", Annotations: map[string]string{class: ourClass}}}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "mesh", ContainerPort: 53, Protocol: corev1.ProtocolUDP}}}}
	d.Spec.Template.Spec.InitContainers = []corev1.Container{{RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{Name: "mesh", ContainerPort: 15001}}}}
	v.add(d, "")
	if got := target(v.workloads[0], workload.Port{TargetName: "mesh"}); got != 15001 {
		t.Errorf("mesh is port %d, want 15001", got)
	}
}

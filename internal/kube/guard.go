package kube

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rousehq/rouse/internal/workload"
)

// Guard says what keeps clients from an application's own port, past the queue-proxy.
type Guard struct {
	Known bool
	Port  uint16 // of the application; 0 when a name leads nowhere
	// Policies are the NetworkPolicies that restrict who reaches the workload's pods.
	Policies []string
	// Open is one of them that lets everybody reach the port, empty when none does.
	Open string
}

// policy is a NetworkPolicy, as far as it restricts who reaches pods.
type policy struct {
	name    string
	pods    labels.Selector
	ingress []networkingv1.NetworkPolicyIngressRule
	egress  bool // it restricts nothing that comes in
}

func policyOf(p *networkingv1.NetworkPolicy) *policy {
	out := &policy{name: p.Name, ingress: p.Spec.Ingress, egress: len(p.Spec.PolicyTypes) > 0}
	for _, t := range p.Spec.PolicyTypes {
		out.egress = out.egress && t != networkingv1.PolicyTypeIngress
	}
	var err error
	if out.pods, err = metav1.LabelSelectorAsSelector(&p.Spec.PodSelector); err != nil {
		out.pods = labels.Nothing() // the server takes none that can't be read
	}
	return out
}

// guardOf tells which of a namespace's policies guard the port that a Service's port leads to. Whom exactly a policy lets
// in is not judged: an operator who wrote one has thought of it.
func guardOf(policies []*policy, a *annotated, port workload.Port) Guard {
	g := Guard{Port: target(a, port)}
	for _, p := range policies {
		if p.egress || !p.pods.Matches(labels.Set(a.PodLabels)) {
			continue
		}
		g.Policies = append(g.Policies, p.name)
		for _, rule := range p.ingress {
			if len(rule.From) == 0 && admits(rule.Ports, g.Port, a) {
				g.Open = p.name
			}
		}
	}
	return g
}

// target is the application's own port behind a port of a Service.
func target(a *annotated, port workload.Port) uint16 {
	if port.TargetName == "" {
		if port.Target != 0 {
			return port.Target
		}
		return port.Number
	}
	return a.named(port.TargetName)
}

func (a *annotated) named(name string) uint16 {
	for _, p := range a.ports {
		if p.name == name {
			return p.port
		}
	}
	return 0
}

// admits says whether a rule for these ports, for all when there are none, is about a port.
func admits(ports []networkingv1.NetworkPolicyPort, port uint16, a *annotated) bool {
	if len(ports) == 0 {
		return true
	}
	for _, p := range ports {
		switch {
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			if a.named(p.Port.StrVal) == port {
				return true
			}
		default:
			first, last := p.Port.IntVal, p.Port.IntVal
			if p.EndPort != nil {
				last = *p.EndPort
			}
			if int32(port) >= first && int32(port) <= last {
				return true
			}
		}
	}
	return false
}

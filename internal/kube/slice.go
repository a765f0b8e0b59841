package kube

import (
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/sliceplan"
)

const (
	// managedBy marks our slices, as every writer of slices must.
	managedBy = "control.rouse.dev"
	// mirroring makes slices of the Endpoints objects of Services without a selector.
	mirroring    = "endpointslicemirroring-controller.k8s.io"
	backendLabel = config.PrefixRouse + "backend"
)

// slice is an EndpointSlice. Of a foreign one only its name and its writer are kept.
type slice struct {
	service  key
	name     string
	writer   string
	version  string
	owner    string // UID of the Service that it goes with; ours only
	ready    int
	contents sliceplan.Slice // ours only
}

func (s *slice) ours() bool { return s.writer == managedBy }

func stripSlice(obj any) (any, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return obj, nil
	}
	stripMeta(&s.ObjectMeta)
	s.Annotations = nil
	return obj, nil
}

func sliceOf(obj any) *slice {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok || s.Labels[discoveryv1.LabelServiceName] == "" {
		return nil
	}
	out := &slice{
		service: key{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}, name: s.Name, version: s.ResourceVersion,
		writer: s.Labels[discoveryv1.LabelManagedBy],
	}
	for _, e := range s.Endpoints {
		if e.Conditions.Ready == nil || *e.Conditions.Ready {
			out.ready++
		}
	}
	if out.ours() {
		out.owner, out.contents = ownerUID(s), contentsOf(s)
	}
	return out
}

// ownerUID is that of the first owner: ours have one.
func ownerUID(s *discoveryv1.EndpointSlice) string {
	if len(s.OwnerReferences) == 0 {
		return ""
	}
	return string(s.OwnerReferences[0].UID)
}

func contentsOf(s *discoveryv1.EndpointSlice) sliceplan.Slice {
	c := sliceplan.Slice{Name: s.Name, Backend: sliceplan.Backend(s.Labels[backendLabel]), IPv6: s.AddressType == discoveryv1.AddressTypeIPv6}
	for _, p := range s.Ports {
		port := sliceplan.Port{}
		if p.Name != nil {
			port.Name = *p.Name
		}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		if p.Port != nil {
			port.Number = uint16(*p.Port)
		}
		c.Ports = append(c.Ports, port)
	}
	for _, e := range s.Endpoints {
		if len(e.Addresses) == 0 {
			continue
		}
		a, err := netip.ParseAddr(e.Addresses[0])
		if err != nil {
			continue
		}
		out := sliceplan.Endpoint{Addr: a, Serving: e.Conditions.Ready == nil || *e.Conditions.Ready}
		if e.TargetRef != nil {
			out.Pod, out.UID = e.TargetRef.Name, string(e.TargetRef.UID)
		}
		if e.NodeName != nil {
			out.Node = *e.NodeName
		}
		if e.Zone != nil {
			out.Zone = *e.Zone
		}
		c.Endpoints = append(c.Endpoints, out)
	}
	return c
}

// objectOf makes the object of a planned slice. It goes with its Service.
func objectOf(svc *service, s sliceplan.Slice, podNamespace string) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: s.Name, Namespace: svc.Namespace,
			Labels: map[string]string{
				discoveryv1.LabelServiceName: svc.Name, discoveryv1.LabelManagedBy: managedBy, backendLabel: string(s.Backend),
			},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: svc.Name, UID: typesUID(svc.UID)}},
		},
		AddressType: addressType(s.IPv6),
	}
	tcp := corev1.ProtocolTCP
	for _, p := range s.Ports {
		port := discoveryv1.EndpointPort{Name: ptr(p.Name), Port: ptr(int32(p.Number)), Protocol: &tcp}
		if p.AppProtocol != "" {
			port.AppProtocol = ptr(p.AppProtocol)
		}
		out.Ports = append(out.Ports, port)
	}
	for _, e := range s.Endpoints {
		out.Endpoints = append(out.Endpoints, endpointOf(e, podNamespace))
	}
	return out
}

func addressType(six bool) discoveryv1.AddressType {
	if six {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

func endpointOf(e sliceplan.Endpoint, podNamespace string) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{
		Addresses:  []string{e.Addr.String()},
		Conditions: discoveryv1.EndpointConditions{Ready: ptr(e.Serving), Serving: ptr(true), Terminating: ptr(!e.Serving)},
	}
	if e.Pod != "" {
		out.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: podNamespace, Name: e.Pod, UID: typesUID(e.UID)}
	}
	if e.Node != "" {
		out.NodeName = ptr(e.Node)
	}
	if e.Zone != "" {
		out.Zone = ptr(e.Zone)
	}
	return out
}

func ptr[T any](v T) *T { return &v }

// sliceChanged keeps slicesOf. The watch and a writer may come here in another order than their changes: what the table has
// now counts, so that whoever comes last leaves the latest.
func (c *Cluster) sliceChanged(k key, old, now *slice) {
	c.mu.Lock()
	if old != nil {
		unset(c.slicesOf, old.service, old.name)
	}
	if s := c.slices.get(k); s != nil {
		if c.slicesOf[s.service] == nil {
			c.slicesOf[s.service] = make(map[string]*slice, 1)
		}
		c.slicesOf[s.service][s.name] = s
	}
	c.mu.Unlock()
	if now == nil || old == nil || now.version != old.version {
		c.onService(serviceKey(old, now))
	}
}

func serviceKey(old, now *slice) key {
	if now != nil {
		return now.service
	}
	return old.service
}

// slicesFor returns the slices of a Service: ours, and those of others.
func (c *Cluster) slicesFor(svc key) (ours, foreign []*slice) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, s := range c.slicesOf[svc] {
		if s.ours() {
			ours = append(ours, s)
		} else {
			foreign = append(foreign, s)
		}
	}
	return ours, foreign
}

// newer compares resource versions, which grow: an event that was overtaken by our own write must not undo it.
func newer(a, b string) bool {
	x, err1 := strconv.ParseUint(a, 10, 64)
	y, err2 := strconv.ParseUint(b, 10, 64)
	return err1 != nil || err2 != nil || x > y
}

// older says that a is of before b, as far as their versions can be compared.
func older(a, b string) bool { return a != b && !newer(a, b) }

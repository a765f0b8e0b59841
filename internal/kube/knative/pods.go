package knative

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// portH2C is how Knative names the port of a revision that speaks HTTP/2 in clear text, portHTTP that of any other.
const (
	portHTTP = "http"
	portH2C  = "http2"
)

// podsOf lists the pods of a private Service's Endpoints by UID. Addresses that are not ready are pods that start.
func podsOf(e *corev1.Endpoints) []endpoint.Endpoint {
	var pods []endpoint.Endpoint
	for i := range e.Subsets {
		s := &e.Subsets[i]
		port, protocol, ok := servingPort(s.Ports)
		if !ok {
			continue
		}
		add := func(addresses []corev1.EndpointAddress, state endpoint.State) {
			for _, a := range addresses {
				if ip, err := netip.ParseAddr(a.IP); err == nil {
					pods = append(pods, endpoint.Endpoint{
						Pod:      identity.Pod{UID: podUID(a), Addr: netip.AddrPortFrom(ip, port)},
						Protocol: protocol, State: state, Sidecar: true,
					})
				}
			}
		}
		add(s.Addresses, endpoint.Ready)
		add(s.NotReadyAddresses, endpoint.Starting)
	}
	slices.SortFunc(pods, func(a, b endpoint.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Pod.UID, b.Pod.UID), cmp.Compare(b.State, a.State))
	})
	// A pod stands twice while its ports become ready one by one; the better state comes first.
	return slices.CompactFunc(pods, func(a, b endpoint.Endpoint) bool { return a.Pod.UID == b.Pod.UID })
}

// podUID falls back to the address for endpoints that somebody made by hand.
func podUID(a corev1.EndpointAddress) string {
	if a.TargetRef != nil && a.TargetRef.UID != "" {
		return string(a.TargetRef.UID)
	}
	return a.IP
}

func servingPort(ports []corev1.EndpointPort) (uint16, endpoint.Protocol, bool) {
	for _, p := range ports {
		switch p.Name {
		case portHTTP:
			return uint16(p.Port), endpoint.H1, true
		case portH2C:
			return uint16(p.Port), endpoint.H2C, true
		}
	}
	return 0, 0, false
}

// delta is what turns the pods of one moment into those of another; both are ordered by UID.
func delta(from, to []endpoint.Endpoint) (upserted []endpoint.Endpoint, removed []string) {
	old := make(map[string]endpoint.Endpoint, len(from))
	for _, e := range from {
		old[e.Pod.UID] = e
	}
	for _, e := range to {
		if was, ok := old[e.Pod.UID]; !ok || was != e {
			upserted = append(upserted, e)
		}
		delete(old, e.Pod.UID)
	}
	for _, e := range from {
		if _, gone := old[e.Pod.UID]; gone {
			removed = append(removed, e.Pod.UID)
		}
	}
	return upserted, removed
}

// addressesOf lists the ready addresses of a public Service's Endpoints: the activators in mode proxy, pods in mode
// serve.
func addressesOf(e *corev1.Endpoints) []netip.Addr {
	var all []netip.Addr
	for i := range e.Subsets {
		for _, a := range e.Subsets[i].Addresses {
			if ip, err := netip.ParseAddr(a.IP); err == nil {
				all = append(all, ip)
			}
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// stripEndpoints keeps of Endpoints what podsOf and addressesOf read.
func stripEndpoints(obj any) (any, error) {
	if e, ok := obj.(*corev1.Endpoints); ok {
		e.ManagedFields, e.Annotations, e.OwnerReferences = nil, nil, nil
		e.Labels = map[string]string{labelRevision: e.Labels[labelRevision]}
	}
	return obj, nil
}

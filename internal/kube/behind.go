package kube

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/member"
	"github.com/rousehq/rouse/internal/sliceplan"
)

// want returns what should be behind the Service: pods in mode serve, as long as one is ready, else activators; and
// pods when there is no activator at all. Each family of the Service is decided by itself: pods and activators that were
// there before the cluster became dual-stack have addresses of one alone, and an activator reaches a pod by either.
// Further ports lead to activators in mode serve, too, if there are some, and so does every port while a ready pod has no
// queue-proxy: nobody else counts what is in flight, which the last pod must not go under.
func (p *Publisher) want(t *tracked, m mode, ours []*slice) (groups []sliceplan.Group) {
	pods := p.pods(t)
	if t.leaving {
		return pods
	}
	for _, six := range []bool{false, true} {
		if !t.service.hasFamily(six) {
			continue
		}
		own := ofFamily(pods, six)
		if m.serve && len(own) > 0 {
			groups = append(groups, p.serving(t, six, m, own, ours)...)
		} else if g := p.listeners(t, six, max(m.activators, fewest), ours); len(g.Endpoints) > 0 {
			groups = append(groups, g)
		} else {
			groups = append(groups, own...)
		}
	}
	return groups
}

// serving returns what is behind the Service in one family in mode serve: its pods, and activators for the ports that can't
// lead straight to them.
func (p *Publisher) serving(t *tracked, six bool, m mode, own []sliceplan.Group, ours []*slice) []sliceplan.Group {
	bare := p.bare(t)
	counted := t.pick(func(i int) bool { return !t.straight(i, bare) })
	if len(counted) == 0 {
		return own
	}
	rest := p.listeners(t, six, max(m.activators, fewest), ours, counted...)
	if len(rest.Endpoints) == 0 {
		return own
	}
	for i := range own {
		own[i].Ports = slices.DeleteFunc(slices.Clone(own[i].Ports), func(p sliceplan.Port) bool { return led(rest.Ports, p.Name) })
	}
	own = slices.DeleteFunc(own, func(g sliceplan.Group) bool { return len(g.Ports) == 0 })
	return append(own, rest)
}

// led says whether a port of the Service is among those of a group.
func led(ports []sliceplan.Port, name string) bool {
	return slices.ContainsFunc(ports, func(p sliceplan.Port) bool { return p.Name == name })
}

// bare says whether a pod without a queue-proxy may be behind the Service.
func (p *Publisher) bare(t *tracked) bool {
	return slices.ContainsFunc(p.cluster.podsFor(t.object), func(pod *pod) bool { return pod.serves() && pod.sidecar == 0 })
}

// serves says whether a pod may be behind a Service.
func (p *pod) serves() bool { return p.ready && !p.terminating && !p.ended }

// pick returns the places of some of the Service's ports.
func (t *tracked) pick(which func(int) bool) (at []int) {
	for i := range t.service.Ports {
		if which(i) {
			at = append(at, i)
		}
	}
	return at
}

// ofFamily returns the groups with the endpoints of one family.
func ofFamily(all []sliceplan.Group, six bool) (some []sliceplan.Group) {
	for _, g := range all {
		g.Endpoints = slices.DeleteFunc(slices.Clone(g.Endpoints), func(e sliceplan.Endpoint) bool { return e.Addr.Is6() != six })
		if len(g.Endpoints) > 0 {
			some = append(some, g)
		}
	}
	return some
}

// reach says whether groups have an endpoint of a family.
func reach(groups []sliceplan.Group, six bool) bool {
	return slices.ContainsFunc(groups, func(g sliceplan.Group) bool {
		return slices.ContainsFunc(g.Endpoints, func(e sliceplan.Endpoint) bool { return e.Addr.Is6() == six })
	})
}

// pods groups the ready pods by the ports on which they answer.
func (p *Publisher) pods(t *tracked) (groups []sliceplan.Group) {
	for _, pod := range p.cluster.podsFor(t.object) {
		if !pod.serves() {
			continue
		}
		ports := portsOf(t, pod)
		if len(ports) == 0 {
			continue
		}
		var endpoints []sliceplan.Endpoint
		for _, a := range pod.addrs {
			if t.service.takes(a) {
				endpoints = append(endpoints, sliceplan.Endpoint{Addr: a, Pod: pod.name, UID: pod.uid, Node: pod.node, Zone: p.cluster.zoneOf(pod.node), Serving: true})
			}
		}
		i := slices.IndexFunc(groups, func(g sliceplan.Group) bool { return slices.Equal(g.Ports, ports) })
		if i < 0 && len(endpoints) > 0 {
			groups = append(groups, sliceplan.Group{Backend: sliceplan.Pods, Ports: ports})
			i = len(groups) - 1
		}
		if len(endpoints) > 0 {
			groups[i].Endpoints = append(groups[i].Endpoints, endpoints...)
		}
	}
	slices.SortFunc(groups, func(a, b sliceplan.Group) int { return strings.Compare(fmt.Sprint(a.Ports), fmt.Sprint(b.Ports)) })
	return groups
}

// takes says whether an address is of a family of the Service.
func (s *service) takes(a netip.Addr) bool { return a.IsValid() && s.hasFamily(a.Is6()) }

func (s *service) hasFamily(six bool) bool {
	if six {
		return s.IPv6
	}
	return s.IPv4
}

// portsOf returns where a pod answers the ports of the Service. As in Kubernetes it is not behind one that leads to a name
// that none of its containers has.
func portsOf(t *tracked, p *pod) (ports []sliceplan.Port) {
	for i, port := range t.service.Ports {
		if n, ok := p.portFor(port, i == t.primary); ok {
			ports = append(ports, sliceplan.Port{Name: port.Name, AppProtocol: port.AppProtocol, Number: n})
		}
	}
	return ports
}

// listenersOn are the activators that should carry the Service in one family: of those that listen for it on these ports
// always the same, so that they share its revision's slots with few. They are chosen by the address that they name
// themselves, so that they are the same in both families. They get the ports at these places, without any all of them.
func (p *Publisher) listenersOn(t *tracked, ports []uint16, six bool, n int, ours []*slice, at []int) sliceplan.Group {
	g := sliceplan.Group{Backend: sliceplan.Activators}
	if !t.listening() {
		return g
	}
	for i, port := range t.service.Ports {
		if len(at) == 0 || slices.Contains(at, i) {
			g.Ports = append(g.Ports, sliceplan.Port{Name: port.Name, AppProtocol: port.AppProtocol, Number: ports[i]})
		}
	}
	known := make(map[netip.Addr]bool)
	byName := make(map[string]sliceplan.Endpoint)
	for _, a := range p.activators() {
		addrs := p.cluster.addressesAt(a.Addr)
		for _, addr := range addrs {
			known[addr] = true
		}
		i := slices.IndexFunc(addrs, func(addr netip.Addr) bool { return addr.Is6() == six })
		if i >= 0 && a.Connected && a.listens(ports) && p.sound(a.Addr, false) {
			byName[a.Addr.String()] = p.listener(addrs[i], a.Zone)
		}
	}
	if time.Since(p.began) < settling {
		for _, e := range published(ours, g.Ports) {
			if e.Addr.Is6() == six && !known[e.Addr] && p.sound(e.Addr, true) {
				byName[p.cluster.addressesAt(e.Addr)[0].String()] = e
			}
		}
	}
	names := slices.Collect(maps.Keys(byName))
	for _, name := range member.Closest(t.service.Namespace+"/"+t.service.Name, names, n) {
		g.Endpoints = append(g.Endpoints, byName[name])
	}
	return g
}

// addressesAt returns all addresses of the pod of our namespace that has one, in the pod's order; without such a pod that
// one alone. An activator names one address of itself, its pod's status has those of both families.
func (c *Cluster) addressesAt(a netip.Addr) []netip.Addr {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if pod := c.podAt(a); pod != nil {
		return pod.addrs
	}
	return []netip.Addr{a}
}

// concerned says whether a change of a pod of our namespace may change what activators can carry: control may hear of an
// activator by its stream before the pod's status has its addresses, or says that it is ready.
func (p *Publisher) concerned(old, now *pod) bool {
	if old != nil && now != nil && old.takes() == now.takes() && old.ended == now.ended && slices.Equal(old.addrs, now.addrs) {
		return false
	}
	return slices.ContainsFunc(p.activators(), func(a Activator) bool {
		return old != nil && slices.Contains(old.addrs, a.Addr) || now != nil && slices.Contains(now.addrs, a.Addr)
	})
}

func (p *Publisher) listener(a netip.Addr, zone string) sliceplan.Endpoint {
	e := sliceplan.Endpoint{Addr: a, Zone: zone, Serving: true}
	p.cluster.mu.RLock()
	defer p.cluster.mu.RUnlock()
	if pod := p.cluster.podAt(a); pod != nil {
		e.Node = pod.node
	}
	return e
}

// sound says whether the pod at an address of our namespace may get requests; known asks that there is one.
func (p *Publisher) sound(a netip.Addr, known bool) bool {
	p.cluster.mu.RLock()
	defer p.cluster.mu.RUnlock()
	pod := p.cluster.podAt(a)
	if pod == nil {
		return !known
	}
	return pod.takes()
}

// published returns the activators that our slices name at these ports.
func published(ours []*slice, ports []sliceplan.Port) (all []sliceplan.Endpoint) {
	for _, s := range ours {
		lacks := func(p sliceplan.Port) bool { return !slices.Contains(s.contents.Ports, p) }
		if s.contents.Backend == sliceplan.Activators && !slices.ContainsFunc(ports, lacks) {
			all = append(all, s.contents.Endpoints...)
		}
	}
	return all
}

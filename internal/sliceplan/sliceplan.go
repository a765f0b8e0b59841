// Package sliceplan decides which EndpointSlices a Service should have, and in which order they get there.
//
// What it promises: nothing is broken before its replacement is made. A plan's creations and updates, in this order,
// lose no endpoint that is still wanted, and its deletions come last; after them the slices hold exactly the wanted
// endpoints, each once. A slice holds one backend, one address family and one set of ports, and at most so many
// endpoints as are allowed. An endpoint that stays keeps its slice, so that a change of one pod writes one slice, and a
// plan that was carried out is followed by an empty one. Equal input gives an equal plan: two writers that see the same
// cluster never fight.
//
// What it does not: write them. Foreign slices, those of another writer, are none of its business.
//
// Concurrency: values only. A plan shares memory with its input.
package sliceplan

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
)

// MaxEndpoints is the most that Kubernetes takes in one slice.
const MaxEndpoints = 1000

// Backend is what stands behind a slice's addresses.
type Backend string

// The backends.
const (
	Pods       Backend = "pods"
	Activators Backend = "activators"
)

// Port is a port of the Service, at the number where this backend answers it.
type Port struct {
	Name        string
	AppProtocol string
	Number      uint16
}

// Endpoint is one address of a backend.
type Endpoint struct {
	Addr    netip.Addr
	Pod     string // name of the pod
	UID     string // of the pod
	Node    string
	Zone    string
	Serving bool // false while it takes nothing new but finishes what it has
}

// Group is what should be published of one backend with one set of ports. Endpoints may be of both families.
type Group struct {
	Backend   Backend
	Ports     []Port
	Endpoints []Endpoint
}

// Slice is an EndpointSlice of ours.
type Slice struct {
	Name      string
	Backend   Backend
	IPv6      bool
	Ports     []Port
	Endpoints []Endpoint
}

// Plan is what there is to do, in the order of the fields.
type Plan struct {
	Create []Slice
	Update []Slice
	Delete []string // names
}

// Empty says that there is nothing to do.
func (p *Plan) Empty() bool { return len(p.Create)+len(p.Update)+len(p.Delete) == 0 }

// Make plans how the slices of a Service get from have to want, with at most limit endpoints in each.
func Make(service string, want []Group, have []Slice, limit int) Plan {
	p := &planner{service: service, limit: min(max(limit, 1), MaxEndpoints), have: make(map[string][]Slice), used: make(map[string]bool)}
	for _, s := range have {
		k := keyOf(s.Backend, s.IPv6, s.Ports)
		p.have[k] = append(p.have[k], s)
		p.used[s.Name] = true
	}
	for _, g := range split(want) {
		k := keyOf(g.Backend, g.IPv6, g.Ports)
		p.pack(k, g, p.have[k])
		delete(p.have, k)
	}
	for _, left := range p.have {
		for _, s := range left {
			p.plan.Delete = append(p.plan.Delete, s.Name)
		}
	}
	slices.Sort(p.plan.Delete)
	return p.plan
}

// split gives each address family a group of its own, merges groups that go into the same slices, and drops repeated
// addresses. The order is that of the keys.
func split(want []Group) []Slice {
	groups := make(map[string]*Slice)
	for _, g := range want {
		keys := map[bool]string{false: keyOf(g.Backend, false, g.Ports), true: keyOf(g.Backend, true, g.Ports)}
		for _, e := range g.Endpoints {
			v6 := e.Addr.Is6()
			k := keys[v6]
			s := groups[k]
			if s == nil {
				s = &Slice{Name: k, Backend: g.Backend, IPv6: v6, Ports: g.Ports}
				groups[k] = s
			}
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	all := make([]Slice, 0, len(groups))
	for _, s := range groups {
		slices.SortFunc(s.Endpoints, compare)
		s.Endpoints = slices.CompactFunc(s.Endpoints, func(a, b Endpoint) bool { return a.Addr == b.Addr })
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Slice) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func compare(a, b Endpoint) int {
	return cmp.Or(a.Addr.Compare(b.Addr), strings.Compare(a.UID, b.UID))
}

// keyOf names what all endpoints of a slice have in common.
func keyOf(b Backend, v6 bool, ports []Port) string {
	h := fnv.New32a()
	for _, p := range ports {
		fmt.Fprintf(h, "%s\x00%s\x00%d\x00", p.Name, p.AppProtocol, p.Number)
	}
	family := 4
	if v6 {
		family = 6
	}
	return fmt.Sprintf("%s-%d-%08x", b, family, h.Sum32())
}

type planner struct {
	service string
	limit   int
	have    map[string][]Slice
	used    map[string]bool // names
	plan    Plan
}

// pack distributes the wanted endpoints of one key over its slices.
func (p *planner) pack(key string, want Slice, have []Slice) {
	missing := make(map[netip.Addr]Endpoint, len(want.Endpoints))
	for _, e := range want.Endpoints {
		missing[e.Addr] = e
	}
	slices.SortFunc(have, func(a, b Slice) int { return strings.Compare(a.Name, b.Name) })
	kept, trimmed := make([]Slice, len(have)), make([]bool, len(have))
	for i, s := range have {
		kept[i] = s
		kept[i].Endpoints = keep(s.Endpoints, missing, p.limit)
		trimmed[i] = len(s.Endpoints) > p.limit && len(kept[i].Endpoints) == p.limit
	}
	p.dissolve(kept, missing)
	fresh := sorted(missing)
	for _, i := range byFill(kept) {
		if n := min(p.limit-len(kept[i].Endpoints), len(fresh)); n > 0 && len(kept[i].Endpoints) > 0 {
			kept[i].Endpoints = append(kept[i].Endpoints, fresh[:n]...)
			fresh = fresh[n:]
		}
	}
	for len(fresh) > 0 { // into slices that would be deleted otherwise, then into new ones
		n := min(p.limit, len(fresh))
		if i := slices.IndexFunc(kept, func(s Slice) bool { return len(s.Endpoints) == 0 }); i >= 0 {
			kept[i].Endpoints = fresh[:n:n]
		} else {
			p.plan.Create = append(p.plan.Create, Slice{p.name(key), want.Backend, want.IPv6, want.Ports, fresh[:n:n]})
		}
		fresh = fresh[n:]
	}
	var last []Slice // a slice that was fuller than it may be now is written after those that take what it loses
	for i, s := range kept {
		switch {
		case len(s.Endpoints) == 0:
			p.plan.Delete = append(p.plan.Delete, s.Name)
		case trimmed[i]:
			last = append(last, s)
		case !slices.Equal(s.Endpoints, have[i].Endpoints):
			p.plan.Update = append(p.plan.Update, s)
		}
	}
	p.plan.Update = append(p.plan.Update, last...)
}

// keep returns the endpoints of a slice that are still wanted, with their present properties, and takes them out of
// missing.
func keep(have []Endpoint, missing map[netip.Addr]Endpoint, limit int) []Endpoint {
	kept := make([]Endpoint, 0, min(len(have), limit))
	for _, e := range have {
		if now, ok := missing[e.Addr]; ok && len(kept) < limit {
			kept = append(kept, now)
			delete(missing, e.Addr)
		}
	}
	return kept
}

// dissolve empties slices that are less than a quarter full, smallest first, when the others have room for what they
// hold: their endpoints become missing again.
func (p *planner) dissolve(kept []Slice, missing map[netip.Addr]Endpoint) {
	room := -len(missing)
	for _, s := range kept {
		if len(s.Endpoints) > 0 {
			room += p.limit - len(s.Endpoints)
		}
	}
	order := byFill(kept)
	slices.Reverse(order)
	for _, i := range order {
		n := len(kept[i].Endpoints)
		if n == 0 || 4*n >= p.limit || room-(p.limit-n) < n {
			continue
		}
		for _, e := range kept[i].Endpoints {
			missing[e.Addr] = e
		}
		room -= p.limit // its own room, and what its endpoints take elsewhere
		kept[i].Endpoints = nil
	}
}

// byFill returns the indexes of the slices, fullest first.
func byFill(all []Slice) []int {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(all[b].Endpoints) - len(all[a].Endpoints) })
	return order
}

func sorted(m map[netip.Addr]Endpoint) []Endpoint {
	all := make([]Endpoint, 0, len(m))
	for _, e := range m {
		all = append(all, e)
	}
	slices.SortFunc(all, compare)
	return all
}

// name returns the first free name of a new slice. It says nothing that the slice does not say itself, but two writers
// choose the same and so notice each other.
func (p *planner) name(key string) string {
	for n := 0; ; n++ {
		name := fmt.Sprintf("%s-rouse-%s-%d", p.service, key, n)
		if !p.used[name] {
			p.used[name] = true
			return name
		}
	}
}

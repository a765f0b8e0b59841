package kube

import (
	"net/netip"
	"slices"
)

// claim notes where a pod of our own namespace is; the caller holds c.mu. One that has ended keeps its addresses in its
// status while the next pod has them already, and so does for a while one whose node is cut off.
func (c *Cluster) claim(p *pod) {
	if p.namespace != c.cfg.Namespace || p.ended {
		return
	}
	for _, a := range p.addrs {
		at, _ := slices.BinarySearchFunc(c.podsAt[a], p, before)
		c.podsAt[a] = slices.Insert(c.podsAt[a], at, p)
	}
}

// unclaim undoes claim; the caller holds c.mu.
func (c *Cluster) unclaim(p *pod) {
	for _, a := range p.addrs {
		left := slices.DeleteFunc(c.podsAt[a], func(other *pod) bool { return other == p })
		if len(left) == 0 {
			delete(c.podsAt, a)
		} else {
			c.podsAt[a] = left
		}
	}
}

// before orders the pods that claim one address: who takes requests first, of those the youngest.
func before(a, b *pod) int {
	if takes := a.takes(); takes != b.takes() {
		if takes {
			return -1
		}
		return 1
	}
	return b.created.Compare(a.created)
}

// takes says whether a pod may get requests.
func (p *pod) takes() bool { return p.ready && !p.terminating && !p.ended }

// podAt returns the pod of our own namespace that has an address, nil when there is none; the caller holds c.mu.
func (c *Cluster) podAt(a netip.Addr) *pod {
	if all := c.podsAt[a]; len(all) > 0 {
		return all[0]
	}
	return nil
}

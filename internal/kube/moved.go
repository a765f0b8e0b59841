package kube

import (
	"github.com/rousehq/rouse/internal/sliceplan"
)

// A port on the activators becomes another when ROUSE_ACTIVATOR_PORTS does. The new one is published when it serves as
// well as the former one, and activators listen on both until nobody can come to the former one any more, which the book of
// ports says: nobody else has it until then.

// keep notes where activators go on listening for a workload besides its ports.
func (t *tracked) keep(book *Ports) {
	t.former = nil
	for i, port := range t.ports {
		former, ok := book.former(t.holder(i))
		if !ok || port == 0 {
			continue
		}
		if t.former == nil {
			t.former = make([]uint16, len(t.ports))
		}
		t.former[i] = former
		if i == t.primary {
			t.sent.Ports = append(t.sent.Ports, former)
			continue
		}
		id := part(t.rev, t.service.Ports[i].Label())
		for at := range t.sent.Extra {
			if x := &t.sent.Extra[at]; x.ID == id {
				x.Ports = append(x.Ports, former)
			}
		}
	}
}

// formerAt returns where activators listened before for a port of the Service, 0 for nowhere.
func (t *tracked) formerAt(i int) uint16 {
	if t.former == nil {
		return 0
	}
	return t.former[i]
}

// before returns the ports as they were before some became others, nil when none did.
func (t *tracked) before() []uint16 {
	if t.former == nil {
		return nil
	}
	ports := make([]uint16, len(t.ports))
	for i := range ports {
		if ports[i] = t.former[i]; ports[i] == 0 {
			ports[i] = t.ports[i]
		}
	}
	return ports
}

// listeners returns the activators that are published: on the former ports as long as more of them listen there.
func (p *Publisher) listeners(t *tracked, six bool, n int, ours []*slice, at ...int) sliceplan.Group {
	now := p.listenersOn(t, t.ports, six, n, ours, at)
	if before := t.before(); before != nil {
		if former := p.listenersOn(t, before, six, n, ours, at); len(former.Endpoints) > len(now.Endpoints) {
			return former
		}
	}
	return now
}

package assign

import (
	"cmp"
	"maps"
	"slices"

	"github.com/rousehq/rouse/control/slots"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// part names what of a revision has changed.
type part uint8

const (
	partConfig part = 1 << iota
	partEndpoints
	partFailure
	partAll = partConfig | partEndpoints | partFailure
)

// The most that goes into one frame: a snapshot of thousands of revisions is many frames, each soon written.
const (
	frameRevisions = 256
	frameEndpoints = 4096
)

// unsent is what an activator was not told of one shard yet: names, of which the newest state is sent when its turn
// comes. It is never more than there is.
type unsent struct {
	begin, end bool
	revs       map[identity.Revision]part
	removed    map[identity.Revision]struct{}
	routes     map[string]struct{}
	grants     map[identity.Revision]slots.Grant
}

// known is what an activator was told of a revision on this stream.
type known struct {
	epoch     uint64
	endpoints *endpoint.Snapshot
	joined    bool            // it has said what leases it holds
	idle      map[string]bool // draining pods that it has nothing in flight in
	load      wireLoad
}

// begin makes everything of a shard unsent. The caller holds the server's lock.
func (st *session) begin(shard int) {
	u := &unsent{
		begin: true, end: true, revs: map[identity.Revision]part{}, removed: map[identity.Revision]struct{}{},
		routes: map[string]struct{}{}, grants: map[identity.Revision]slots.Grant{},
	}
	for id, e := range st.s.revs {
		if e.Shard == shard {
			u.revs[id] = partAll
			delete(st.known, id)
		}
	}
	for name, r := range st.s.routes {
		if r.Shard == shard {
			u.routes[name] = struct{}{}
		}
	}
	st.unsent[shard] = u
	delete(st.former, shard)
	st.wake()
}

// disown makes nothing of a shard unsent but that it is not ours. The caller holds the server's lock.
func (st *session) disown(shard int, epoch uint64) {
	delete(st.unsent, shard)
	st.former[shard] = epoch
	st.wake()
}

func (st *session) wake() {
	select {
	case st.more <- struct{}{}:
	default:
	}
}

func (st *session) mark(e *entry, p part) {
	if u := st.unsent[e.Shard]; u != nil {
		u.revs[e.ID] |= p
		st.wake()
	}
}

func (st *session) remove(e *entry) {
	delete(st.known, e.ID)
	if u := st.unsent[e.Shard]; u != nil {
		delete(u.revs, e.ID)
		delete(u.grants, e.ID)
		u.removed[e.ID] = struct{}{}
		st.wake()
	}
}

func (st *session) reroute(shard int, name string) {
	if u := st.unsent[shard]; u != nil {
		u.routes[name] = struct{}{}
		st.wake()
	}
}

func (st *session) grant(e *entry, g slots.Grant) {
	if u := st.unsent[e.Shard]; u != nil {
		u.grants[e.ID] = g
		st.wake()
	}
}

// take makes the next frame, nil when there is nothing to say.
func (st *session) take() *down {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	for shard, epoch := range st.former {
		delete(st.former, shard)
		return &down{Version: protocolVersion, Shard: shard, Epoch: epoch, Shards: st.s.cfg.Shards, Disowned: true}
	}
	for _, shard := range st.turns() {
		epoch, owned := st.s.owned[shard]
		u := st.unsent[shard]
		if !owned || u.empty() {
			continue
		}
		d := &down{Version: protocolVersion, Shard: shard, Epoch: epoch, Shards: st.s.cfg.Shards, Begin: u.begin}
		u.begin = false
		st.takeRevisions(u, d)
		st.takeRoutes(u, d)
		d.End = u.end && len(u.revs) == 0
		u.end = u.end && !d.End
		st.next = shard + 1
		return d
	}
	return nil
}

// turns returns the shards in the order in which they are looked at, the one that had the last frame at the end: where one
// always has something to say to an activator that is slow, the others have their turn.
func (st *session) turns() []int {
	shards := slices.Sorted(maps.Keys(st.unsent))
	after, _ := slices.BinarySearch(shards, st.next)
	return slices.Concat(shards[after:], shards[:after])
}

func (u *unsent) empty() bool {
	return !u.begin && !u.end && len(u.revs) == 0 && len(u.removed) == 0 && len(u.routes) == 0 && len(u.grants) == 0
}

func (st *session) takeRevisions(u *unsent, d *down) {
	for id := range u.removed {
		if st.s.revs[id] == nil {
			d.Removed = append(d.Removed, idOf(id))
		}
	}
	clear(u.removed)
	endpoints := 0
	for id, p := range u.revs {
		if len(d.Revisions) == frameRevisions || endpoints > frameEndpoints {
			break
		}
		delete(u.revs, id)
		e := st.s.revs[id]
		if e == nil {
			continue
		}
		w := st.encode(e, p, d.Epoch)
		if w.Endpoints != nil {
			endpoints += len(w.Endpoints.Upserted)
		}
		d.Revisions = append(d.Revisions, w)
	}
	for id, g := range u.grants {
		if st.known[id] == nil { // its settings go first
			continue
		}
		d.Grants = append(d.Grants, wireGrant{idOf(id), g.Seq, g.Unlimited, g.Pods})
		delete(u.grants, id)
	}
}

// encode makes what the activator needs to know of a revision: everything when it knows nothing.
func (st *session) encode(e *entry, p part, epoch uint64) wireRevision {
	k := st.known[e.ID]
	if k == nil {
		k, p = &known{epoch: epoch}, partAll
		st.known[e.ID] = k
	}
	w := wireRevision{ID: idOf(e.ID)}
	if p&partConfig != 0 {
		w.Config = &wireConfig{e.Service, e.Configuration, e.Settings, e.Ports}
	}
	if p&partEndpoints != 0 {
		now := e.endpoints
		w.Endpoints = encodeEndpoints(k.endpoints, &now)
		k.endpoints = &now
	}
	if p&partFailure != 0 {
		reason := e.failure
		w.Failure = &reason
	}
	return w
}

func (st *session) takeRoutes(u *unsent, d *down) {
	for name := range u.routes {
		if r := st.s.routes[name]; r != nil && r.Shard == d.Shard {
			d.Routes = append(d.Routes, encodeRoutes(r))
		} else {
			d.Unrouted = append(d.Unrouted, name)
		}
	}
	clear(u.routes)
	slices.Sort(d.Unrouted)
	slices.SortFunc(d.Routes, func(a, b wireRoutes) int { return cmp.Compare(a.Name, b.Name) })
}

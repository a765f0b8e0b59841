package assign

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

// linger is for how long the load of a revision without any is looked at: an activator reports the first request of an
// idle time at once, and what comes within a report's period later.
const linger = 2 * time.Second

// loadCost is the share of the load period that each active revision may take at least, so that looking at very many
// costs a bounded part of a core.
const loadCost = 20 * time.Microsecond

// mirror is what the activator was told. It belongs to the goroutine of Run.
type mirror struct {
	c      *Client
	revs   map[identity.Revision]*mirrored
	routes map[string]*mirroredRoutes
	shards map[int]*shard
	active map[identity.Revision]time.Time // looked at, by when it last had load
	greet  map[*link]bool                  // streams that were told the state of ports
	ports  map[uint16]wirePortState
	state  string
	synced bool

	removed          []identity.Revision // the receiver still knows them: until routes and ports lead elsewhere
	rerouted, ported bool                // routes or ports differ from what the receiver was told
	published        time.Time           // when they were handed over last
	cost             time.Duration
	late             *time.Timer // fires when they may be handed over again
	alone            *time.Timer // fires when an owner may have been silent for long
}

// publishShare keeps the handing over of all routes and ports, at every change of some, to a fraction of the time.
const publishShare = 5

// untold stands for a load that control was not told.
const untold = -1

// shard is one owner's part of the world.
type shard struct {
	epoch  uint64
	from   *link     // where its owner speaks
	silent time.Time // since when nobody does; zero while somebody does, or once that was met
	mute   bool      // nobody did for long
	begun  bool      // a snapshot is under way
	whole  bool      // one was completed
	seen   map[identity.Revision]struct{}
	routes map[string]struct{}
}

// mirrored is one revision.
type mirrored struct {
	Revision
	known     bool // it was put
	endpoints endpoint.Snapshot
	failure   string
	leased    bool // grants counts, nil or not
	grants    map[string]int
	borrowed  bool // the receiver has more than grants
	seq       uint64
	told      map[string]int // bounds of the last acknowledgement
	parked    int            // as it was told last
	use       map[string]int
	blocked   []string
	draining  map[string]struct{} // pods whose idleness control was not told
}

type mirroredRoutes struct {
	shard int
	cfg   route.Config
}

func newMirror(c *Client) *mirror {
	return &mirror{
		c: c, revs: map[identity.Revision]*mirrored{}, routes: map[string]*mirroredRoutes{}, shards: map[int]*shard{},
		active: map[identity.Revision]time.Time{}, greet: map[*link]bool{}, ports: map[uint16]wirePortState{}, late: time.NewTimer(0),
		alone: time.NewTimer(0),
	}
}

// run takes over frames and wishes until ctx ends.
func (m *mirror) run(ctx context.Context) {
	tick := time.NewTicker(m.c.cfg.LoadPeriod)
	tick.Stop()
	defer m.late.Stop()
	defer m.alone.Stop()
	ticking := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-m.c.in:
			m.hear(h)
		case <-m.late.C:
			m.publish()
		case <-m.alone.C:
			m.borrow(time.Now())
		case <-m.c.poke:
			m.serveWants()
		case <-tick.C:
			for id := range m.active {
				m.look(id, false)
			}
		}
		if period := m.period(); period != ticking {
			tick.Stop()
			if ticking = period; period > 0 {
				tick.Reset(period)
			}
		}
	}
}

// period is how often the active revisions are looked at, 0 when there are none.
func (m *mirror) period() time.Duration {
	if len(m.active) == 0 {
		return 0
	}
	// In steps, so that the ticker is not set anew for each revision.
	return max(m.c.cfg.LoadPeriod, (time.Duration(len(m.active)) * loadCost).Truncate(m.c.cfg.LoadPeriod))
}

// hear takes over a frame, unless its speaker is not the owner any more.
func (m *mirror) hear(h heard) {
	if h.d == nil {
		m.forget(h.from)
		return
	}
	d := h.d
	sh := m.shards[d.Shard]
	if sh == nil {
		sh = &shard{}
		m.shards[d.Shard] = sh
	}
	if d.Epoch < sh.epoch || !d.Begin && (sh.from != h.from || d.Epoch != sh.epoch) {
		return
	}
	if d.Disowned {
		m.leave(sh)
		return
	}
	if d.Begin {
		*sh = shard{
			epoch: d.Epoch, from: h.from, begun: true, whole: sh.whole,
			seen: map[identity.Revision]struct{}{}, routes: map[string]struct{}{},
		}
		m.giveBack(d.Shard)
	}
	m.apply(sh, d)
}

// forget lets go of a stream that ended; what it said stays.
func (m *mirror) forget(l *link) {
	delete(m.greet, l)
	for _, sh := range m.shards {
		if sh.from == l {
			m.leave(sh)
		}
	}
}

// leave is for an owner that is gone, or not the owner any more.
func (m *mirror) leave(sh *shard) {
	sh.from, sh.silent = nil, time.Now()
	m.await()
}

func (m *mirror) apply(sh *shard, d *down) {
	ports := false
	for i := range d.Revisions {
		ports = m.revision(sh, d, &d.Revisions[i]) || ports
	}
	for _, w := range d.Removed {
		ports = m.remove(w.id()) || ports
	}
	rerouted := m.reroute(sh, d)
	for i := range d.Grants {
		m.grant(sh, &d.Grants[i])
	}
	if d.End && sh.begun {
		p, r := m.end(d.Shard, sh)
		ports, rerouted = ports || p, rerouted || r
	}
	m.rerouted, m.ported = m.rerouted || rerouted, m.ported || ports
	if d.End {
		m.publish() // who waits for the snapshot wants all of it
		m.complete(d.Shards)
		return
	}
	if wait := time.Until(m.published.Add(publishShare * m.cost)); wait > 0 && (m.rerouted || m.ported) {
		m.late.Reset(wait)
	} else {
		m.publish()
	}
}

// publish hands over routes and ports that have changed, and after them what is gone: who asked for that may find its
// successor.
func (m *mirror) publish() {
	defer m.let()
	if !m.rerouted && !m.ported {
		return
	}
	began := time.Now()
	if m.rerouted {
		m.publishRoutes()
	}
	if m.ported {
		m.publishPorts()
	}
	m.rerouted, m.ported = false, false
	m.published = time.Now()
	m.cost = m.published.Sub(began)
}

// let makes the receiver forget what is gone.
func (m *mirror) let() {
	for _, id := range m.removed {
		m.c.to.Remove(id)
	}
	m.removed = nil
}

// revision takes over what changed of one, and reports whether its ports did.
func (m *mirror) revision(sh *shard, d *down, w *wireRevision) (ports bool) {
	id := w.ID.id()
	if sh.begun {
		sh.seen[id] = struct{}{}
	}
	r := m.revs[id]
	if w.Config != nil {
		r, ports = m.configure(r, d.Shard, id, w.Config)
	}
	if r == nil {
		return false // of a newer protocol: a part without its whole
	}
	if w.Config != nil {
		r.parked = untold
		m.acknowledge(sh, r, true)
	}
	if w.Endpoints != nil {
		m.endpoints(sh, r, w.Endpoints)
	}
	if w.Failure != nil && *w.Failure != r.failure {
		r.failure = *w.Failure
		m.c.to.Fail(id, r.failure)
	}
	return ports
}

func (m *mirror) configure(r *mirrored, shard int, id identity.Revision, w *wireConfig) (_ *mirrored, ports bool) {
	next := Revision{ID: id, Shard: shard, Service: w.Service, Configuration: w.Configuration, Settings: w.Settings, Ports: w.Ports}
	if r == nil {
		if slices.Contains(m.removed, id) {
			m.let() // it is back: not to be removed after it was put
		}
		r = &mirrored{endpoints: endpoint.Snapshot{Revision: id}, draining: map[string]struct{}{}}
		m.revs[id] = r
	}
	if r.known && reflect.DeepEqual(r.Revision, next) {
		return r, false
	}
	ports = !slices.Equal(r.Ports, next.Ports)
	first := !r.known
	r.Revision, r.known = next, true
	m.c.to.Put(next)
	m.lease(r, first)
	return r, ports
}

// lease begins or ends leasing, as the limit says. A revision that is new sends nothing before the first grant; one
// that had no limit goes on without until then, and control knows that.
func (m *mirror) lease(r *mirrored, first bool) {
	switch limited := r.Settings.ContainerConcurrency > 0; {
	case limited && first:
		r.leased, r.grants = true, map[string]int{}
		m.c.to.Grant(r.ID, r.grants)
	case limited:
		r.leased = true
	case r.grants != nil:
		r.leased, r.grants = false, nil
		m.c.to.Grant(r.ID, nil)
	}
}

// endpoints takes over a snapshot or a delta; one that does not follow cuts the stream, and the next begins anew.
func (m *mirror) endpoints(sh *shard, r *mirrored, w *wireEndpoints) {
	before := r.endpoints
	var changed []endpoint.Endpoint
	for i := range w.Upserted {
		e, err := w.Upserted[i].decode()
		if err != nil {
			m.warn("an endpoint is left out", "revision", r.ID.String(), "error", err.Error())
			continue
		}
		changed = append(changed, e)
	}
	removed := w.Removed
	switch {
	case w.From == nil:
		removed = missing(before.Endpoints, changed)
	case *w.From != before.Version:
		m.warn("a delta of endpoints does not follow: the stream begins anew", "revision", r.ID.String())
		_ = sh.from.conn.CloseNow() // that is the point
		return
	}
	r.endpoints = endpoint.Snapshot{Revision: r.ID, Version: w.Version, Endpoints: merged(before.Endpoints, changed, removed)}
	m.c.to.Endpoints(endpoint.Update{
		Snapshot: r.endpoints,
		Delta:    endpoint.Delta{Revision: r.ID, Version: w.Version, Upserted: changed, Removed: removed},
	})
	for _, e := range changed {
		if e.State == endpoint.Draining {
			r.draining[e.Pod.UID] = struct{}{}
		}
	}
	if len(r.draining) > 0 {
		m.look(r.ID, true)
	}
}

// missing lists the pods of before that are not in now.
func missing(before, now []endpoint.Endpoint) (gone []string) {
	kept := make(map[string]bool, len(now))
	for i := range now {
		kept[now[i].Pod.UID] = true
	}
	for i := range before {
		if uid := before[i].Pod.UID; !kept[uid] {
			gone = append(gone, uid)
		}
	}
	return gone
}

func merged(before, changed []endpoint.Endpoint, removed []string) []endpoint.Endpoint {
	all := make(map[string]endpoint.Endpoint, len(before)+len(changed))
	for _, e := range before {
		all[e.Pod.UID] = e
	}
	for _, uid := range removed {
		delete(all, uid)
	}
	for _, e := range changed {
		all[e.Pod.UID] = e
	}
	return slices.SortedFunc(maps.Values(all), func(a, b endpoint.Endpoint) int { return strings.Compare(a.Pod.UID, b.Pod.UID) })
}

func (m *mirror) remove(id identity.Revision) (ports bool) {
	r := m.revs[id]
	if r == nil {
		return false
	}
	delete(m.revs, id)
	delete(m.active, id)
	m.removed = append(m.removed, id)
	return len(r.Ports) > 0
}

func (m *mirror) reroute(sh *shard, d *down) (changed bool) {
	for i := range d.Routes {
		w := &d.Routes[i]
		if sh.begun {
			sh.routes[w.Name] = struct{}{}
		}
		next := &mirroredRoutes{d.Shard, w.decode()}
		if old := m.routes[w.Name]; old == nil || !reflect.DeepEqual(old, next) {
			m.routes[w.Name] = next
			changed = true
		}
	}
	for _, name := range d.Unrouted {
		if r := m.routes[name]; r != nil && r.shard == d.Shard {
			delete(m.routes, name)
			changed = true
		}
	}
	return changed
}

// end completes a snapshot: what of the shard it did not mention is gone.
func (m *mirror) end(n int, sh *shard) (ports, routes bool) {
	for id, r := range m.revs {
		if _, seen := sh.seen[id]; r.Shard == n && !seen {
			ports = m.remove(id) || ports
		}
	}
	for name, r := range m.routes {
		if _, seen := sh.routes[name]; r.shard == n && !seen {
			delete(m.routes, name)
			routes = true
		}
	}
	sh.begun, sh.whole, sh.seen, sh.routes = false, true, nil, nil
	return ports, routes
}

// complete tells who waits for it that every shard was heard of.
func (m *mirror) complete(shards int) {
	whole := 0
	for _, sh := range m.shards {
		if sh.whole {
			whole++
		}
	}
	if !m.synced && whole >= shards {
		m.synced = true
		close(m.c.synced)
	}
}

func (m *mirror) publishRoutes() {
	var cfg route.Config
	for _, name := range slices.Sorted(maps.Keys(m.routes)) {
		r := m.routes[name]
		cfg.Routes = append(cfg.Routes, r.cfg.Routes...)
		cfg.Answers = append(cfg.Answers, r.cfg.Answers...)
	}
	if err := m.c.to.Routes(cfg); err != nil {
		m.warn("the routes stay as they were", "error", err.Error())
	}
}

func (m *mirror) publishPorts() {
	ports := map[uint16]identity.Revision{}
	for _, r := range m.revs {
		for _, p := range r.Ports {
			if other, taken := ports[p]; !taken || r.ID.String() < other.String() {
				ports[p] = r.ID
			}
		}
	}
	m.c.to.Ports(ports)
}

func (m *mirror) warn(text string, args ...any) {
	if m.c.cfg.Log != nil {
		m.c.cfg.Log.Warn(text, args...)
	}
}

package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/member"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// Activator is one activator, as its own stream to control tells.
type Activator struct {
	Addr netip.Addr
	Zone string
	// Connected is false once its stream broke or it said that it will end.
	Connected bool
	// Port says whether it listens on a port, or why it can't. For a moment one may still lead to another workload, whose
	// Service it was: what is parked there goes on when the activator hears of it.
	Port func(port uint16) (open bool, refused string)
}

// listens says whether an activator listens on all of these ports.
func (a Activator) listens(ports []uint16) bool {
	return !slices.ContainsFunc(ports, func(p uint16) bool { open, _ := a.Port(p); return !open })
}

// writePerPod is how long a Service's slices are not written again, for each of its workload's pods: a slice goes to every
// node of the cluster, so that a thousand pods that become ready must not be a thousand writes. One of ten pods waits
// for 2 ms, one of a thousand for 200.
const writePerPod = 200 * time.Microsecond

// longestPause bounds that pause.
const longestPause = time.Second

// publishers is how many Services are written at the same time.
const publishers = 16

// fewest is the least number of activators behind a Service, if there are so many.
const fewest = 2

// settling is how long after its start control believes slices that name activators which have not come back to it.
const settling = 15 * time.Second

// Publisher owns the EndpointSlices of the Services of all workloads: it makes them lead to pods or to activators.
type Publisher struct {
	client     *Client
	cluster    *Cluster
	mirror     *Mirror
	owns       func(identity.Revision) bool
	fence      func() error
	activators func() []Activator
	reporter   *reporter
	log        *slog.Logger
	perSlice   int
	began      time.Time

	queue *queue

	mu    sync.Mutex
	modes map[key]*mode     // guarded by mu
	gone  map[key]time.Time // workloads that are not there, whose Services lead somewhere, since when; guarded by mu
}

// mode is what the slices of a workload should lead to.
type mode struct {
	rev        identity.Revision
	serve      bool
	activators int
	asked      uint64 // how often SetMode was called
	done       uint64 // the last of those calls that was carried out, or failed
	err        error
	change     chan struct{} // closed when done changes
}

// SetMode makes a workload's Service lead to its pods or to so many activators, and returns when the API server has
// taken it. In mode serve it leads to activators all the same while no pod is ready.
func (p *Publisher) SetMode(ctx context.Context, rev identity.Revision, serve bool, activators int) error {
	k := key{rev.Namespace, rev.Name}
	p.mu.Lock()
	m := p.modes[k]
	if m == nil || m.rev != rev {
		m.end(fmt.Errorf("%w: %s", ErrNotThere, k))
		m = &mode{rev: rev, change: make(chan struct{})}
		p.modes[k] = m
	}
	m.serve, m.activators = serve, activators
	m.asked++
	turn := m.asked
	p.mu.Unlock()
	p.queue.Forget(k)
	p.queue.Release(k)
	p.queue.Add(k)
	for {
		p.mu.Lock()
		done, err, change := m.done >= turn, m.err, m.change
		p.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("endpoints of %s: %w", rev, ctx.Err())
		case <-change:
		}
	}
}

// end answers those who wait for a mode that nobody will carry out.
func (m *mode) end(why error) {
	if m != nil && m.done < m.asked {
		m.done, m.err = m.asked, why
		close(m.change)
		m.change = make(chan struct{})
	}
}

// intent returns what the slices should lead to. Before the first decision that is what they lead to already.
func (p *Publisher) intent(k key, rev identity.Revision, ours []*slice) (m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.gone, k)
	if known := p.modes[k]; known != nil && known.rev == rev {
		return *known
	}
	m.serve = slices.ContainsFunc(ours, func(s *slice) bool { return s.contents.Backend == sliceplan.Pods })
	m.activators = carriers(ours)
	return m
}

// carriers returns how many activators slices lead to: each has one address of each family at most.
func carriers(ours []*slice) int {
	n := make(map[bool]int, 2)
	for _, s := range ours {
		if s.contents.Backend == sliceplan.Activators {
			n[s.contents.IPv6] += len(s.contents.Endpoints)
		}
	}
	return max(n[false], n[true])
}

// settle notes the outcome of the calls up to turn.
func (p *Publisher) settle(k key, turn uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.modes[k]
	if m == nil || m.done >= turn {
		return
	}
	m.done, m.err = turn, err
	close(m.change)
	m.change = make(chan struct{})
}

// all looks at every Service again.
func (p *Publisher) all() {
	for _, k := range p.mirror.keys() {
		p.queue.Add(k)
	}
}

// run writes until ctx ends.
func (p *Publisher) run(ctx context.Context) {
	p.queue.work(ctx, publishers, func(k key) {
		if p.one(ctx, k) != nil {
			p.queue.Retry(k)
			return
		}
		p.queue.Forget(k)
		if t := p.mirror.get(k); t != nil {
			p.queue.Hold(k, min(time.Duration(p.cluster.podCount(t.object))*writePerPod, longestPause))
		}
	})
}

// errNobody says that there is neither a pod nor an activator to publish.
var errNobody = errors.New("no activator listens for it yet")

// one brings the slices of one workload's Service up to date.
func (p *Publisher) one(ctx context.Context, k key) error {
	t := p.mirror.get(k)
	if t == nil || t.leaving && (t.service.selfFilled() || p.mirror.bequeathed(t) || p.mirror.serviceless(t)) {
		p.forget(k, fmt.Errorf("%w: %s", ErrNotThere, k))
		return p.retire(ctx, k)
	}
	ours, foreign := p.cluster.slicesFor(key{t.service.Namespace, t.service.Name})
	m := p.intent(k, t.rev, ours)
	if !p.owns(t.rev) {
		p.forget(k, fmt.Errorf("endpoints of %s: another instance of control owns it", t.rev))
		return nil
	}
	if err := p.fence(); err != nil {
		p.settle(k, m.asked, fmt.Errorf("endpoints of %s: %w", t.rev, err))
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := p.write(ctx, t, m, ours)
	if err == nil && len(t.service.Selector) == 0 {
		err = p.removeForeign(ctx, t, foreign)
	}
	p.said(t, err)
	p.saidPorts(t)
	p.settle(k, m.asked, err)
	if errors.Is(err, errNobody) {
		return nil // an activator that comes asks again
	}
	return err
}

func (p *Publisher) said(t *tracked, err error) {
	switch {
	case err == nil:
		p.reporter.say(subjectOf(t.object), fromEndpoints)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause): // forbidden, too, but by nobody's fault
	case apierrors.IsForbidden(err):
		p.reporter.say(subjectOf(t.object), fromEndpoints, complaint{string(workload.PermissionDenied),
			"the endpoints of Service " + t.service.Name + " may not be written: " + err.Error() + "; see the ClusterRole of control"})
	case !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !errors.Is(err, errNobody):
		p.log.Warn("endpoints are not written yet", "namespace", t.service.Namespace, "service", t.service.Name, "error", err)
	}
}

// saidPorts says that an activator can't listen for a workload, if so: of several the one with the lowest address.
func (p *Publisher) saidPorts(t *tracked) {
	all := slices.SortedFunc(slices.Values(p.activators()), func(a, b Activator) int { return a.Addr.Compare(b.Addr) })
	for _, a := range all {
		for _, port := range t.ports {
			if _, refused := a.Port(port); refused != "" && a.Connected {
				p.reporter.say(subjectOf(t.object), fromPorts, complaint{string(workload.PortRefused), fmt.Sprintf(
					"the activator at %s gets none of the requests of Service %s, as it can't listen on port %d: %s; it tries again every 2 s: end what listens there, or give control another ROUSE_ACTIVATOR_PORTS",
					a.Addr, t.service.Name, port, refused)})
				return
			}
		}
	}
	p.reporter.say(subjectOf(t.object), fromPorts)
}

// forget drops what was asked for, and fails whoever waits for it: when the workload is ours again, its slices tell where
// they lead.
func (p *Publisher) forget(k key, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.modes[k].end(why)
	delete(p.modes, k)
}

// write carries out the plan.
func (p *Publisher) write(ctx context.Context, t *tracked, m mode, ours []*slice) error {
	groups := p.want(t, m, ours)
	if len(groups) == 0 && !t.leaving {
		return errNobody // what is there stays: nothing better is known
	}
	versions := make(map[string]string, len(ours))
	for _, s := range ours {
		versions[s.name] = s.version
	}
	plan := sliceplan.Make(t.service.Name, groups, replaceable(t, groups, ours), p.perSlice)
	plan.Update = append(plan.Update, orphans(t.service, ours, &plan)...)
	return p.carryOut(ctx, t.service, plan, versions)
}

// replaceable returns those of our slices that a plan may change: not those of a family of the Service for which nobody
// is known, which stay as they are.
func replaceable(t *tracked, groups []sliceplan.Group, ours []*slice) []sliceplan.Slice {
	have := make([]sliceplan.Slice, 0, len(ours))
	for _, s := range ours {
		if t.leaving || !t.service.hasFamily(s.contents.IPv6) || reach(groups, s.contents.IPv6) {
			have = append(have, s.contents)
		}
	}
	return have
}

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
	straight := func(i int) bool { return t.straight(i, bare) }
	counted := t.pick(func(i int) bool { return !straight(i) })
	if len(counted) == 0 {
		return own
	}
	rest := p.listeners(t, six, max(m.activators, fewest), ours, counted...)
	if len(rest.Endpoints) == 0 {
		return own
	}
	uncounted := t.pick(straight)
	if len(uncounted) == 0 {
		return []sliceplan.Group{rest}
	}
	for i := range own {
		ports := own[i].Ports
		own[i].Ports = nil
		for _, at := range uncounted {
			own[i].Ports = append(own[i].Ports, ports[at])
		}
	}
	return append(own, rest)
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
		ports, ok := portsOf(t, pod)
		if !ok {
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

// portsOf returns where a pod answers each port of the Service, false when it lacks one.
func portsOf(t *tracked, p *pod) (ports []sliceplan.Port, ok bool) {
	for i, port := range t.service.Ports {
		n, ok := p.portFor(port, i == t.primary)
		if !ok {
			return nil, false
		}
		ports = append(ports, sliceplan.Port{Name: port.Name, AppProtocol: port.AppProtocol, Number: n})
	}
	return ports, true
}

// listeners are the activators that should carry the Service in one family: of those that listen for it always the same,
// so that they share its revision's slots with few. They are chosen by the address that they name themselves, so that
// they are the same in both families. They get the ports at these places, without any all of them.
func (p *Publisher) listeners(t *tracked, six bool, n int, ours []*slice, at ...int) sliceplan.Group {
	g := sliceplan.Group{Backend: sliceplan.Activators}
	if !t.listening() {
		return g
	}
	for i, port := range t.service.Ports {
		if len(at) == 0 || slices.Contains(at, i) {
			g.Ports = append(g.Ports, sliceplan.Port{Name: port.Name, AppProtocol: port.AppProtocol, Number: t.ports[i]})
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
		if i >= 0 && a.Connected && a.listens(t.ports) && p.sound(a.Addr, false) {
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

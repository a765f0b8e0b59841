package kube

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/workload"
)

// Routed is a workload that is to be scaled, and how activators reach it.
type Routed struct {
	Config *config.Revision
	// Replicas is what its scale is set to.
	Replicas int
	// Ports are where activators listen for it alone: the one that was assigned, and the one before while clients may still
	// come there; empty until then.
	Ports []uint16
	// Extra are the further ports of its Service. Each looks to activators like a revision of its own.
	Extra []Extra
	// Releasing asks for one pod at least: its Service is about to get its selector back.
	Releasing bool
}

// Extra is a port of a Service besides the one that requests are counted on: a request to it wakes the workload, and goes
// to another port of the same pods, past the queue-proxy.
type Extra struct {
	// ID is the workload's with the port's name: see [Whole].
	ID identity.Revision
	// Ports are where activators listen for it, as those of Routed.
	Ports []uint16
}

// extraMark separates the workload's name from the port's; it can't be part of either.
const extraMark = ":"

// part names a further port of a workload.
func part(id identity.Revision, port string) identity.Revision {
	id.Name += extraMark + port
	id.UID += extraMark + port
	return id
}

// Whole returns the name and the UID of the workload that a name and a UID of an [Extra] stand for, and the port's name;
// ok is false for the workload's own.
func Whole(name, uid string) (wholeName, wholeUID, port string, ok bool) {
	wholeName, port, ok = strings.Cut(name, extraMark)
	wholeUID, _, _ = strings.Cut(uid, extraMark)
	return wholeName, wholeUID, port, ok
}

// Sink takes what the cluster holds. Calls about one workload come one at a time. The pods that a workload has are in the book
// before it is put, so that nobody begins to decide about it without them, and it is removed after its last.
type Sink interface {
	Put(r Routed)
	// Linger makes activators know a workload whose scaling ended under an instance of control before this one.
	Linger(r Routed)
	// Leave ends the scaling of a workload. Activators go on as before: clients hold connections to them.
	Leave(id identity.Revision)
	// Unlisten lets activators close the workload's ports once their connections are gone.
	Unlisten(id identity.Revision)
	Remove(id identity.Revision)
}

// tracked is a workload that is in control: an immutable value, replaced when anything changes.
type tracked struct {
	object  *opted
	service *service
	rev     identity.Revision
	sent    Routed
	primary int      // of the Service's ports: the one that is scaled by
	ports   []uint16 // on the activators, as the Service's; 0 while there is none
	former  []uint16 // where they listened before, likewise; nil when that is nowhere
	// leaving is true once the workload is not opted in any more. Its Service has no selector, so that somebody has to
	// publish its pods.
	leaving bool
	left    time.Time // since when; zero when activators do not know it
	mute    bool      // activators were told to close its ports
}

// known says whether activators know the workload.
func (t *tracked) known() bool { return t != nil && (!t.leaving || !t.left.IsZero()) }

// serviceKey names the Service.
func (t *tracked) serviceKey() key { return key{t.service.Namespace, t.service.Name} }

// bereft says whether the Service of a workload that lingers is another's now.
func (t *tracked) bereft() bool { return t.leaving && t.service.target() != t.object.Name }

// heir names the workload that the Service is for.
func (t *tracked) heir() key { return key{t.service.Namespace, t.service.target()} }

// listening says whether every port of the Service has one on the activators.
func (t *tracked) listening() bool { return len(t.ports) > 0 && !slices.Contains(t.ports, 0) }

// Mirror turns what the cluster holds into revisions and endpoints, workload by workload.
type Mirror struct {
	cluster  *Cluster
	ports    *Ports
	book     *endpoint.Book
	sink     Sink
	reporter *reporter
	owns     func(identity.Revision) bool
	touched  func(key) // the slices may have to change
	scrape   func(identity.Revision, []identity.Pod)
	log      *slog.Logger

	base  atomic.Pointer[config.Autoscaler]
	queue *queue

	mu      sync.RWMutex
	tracked map[key]*tracked                      // guarded by mu
	since   map[key]map[workload.Reason]time.Time // when a workload's passing problems were first seen; guarded by mu
	former  map[key]key                           // by Service: the workload that it was taken from and that lingers; guarded by mu
}

const workloadVersion = "apps/v1"

// subjectOf names a workload for Events.
func subjectOf(o *opted) subject {
	return subject{workloadVersion, string(o.Kind), key{o.Namespace, o.Name}, o.UID}
}

// get returns a workload that is in control, nil otherwise.
func (m *Mirror) get(k key) *tracked {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.tracked[k]
}

// keys returns the workloads that are in control.
func (m *Mirror) keys() []key {
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make([]key, 0, len(m.tracked))
	for k, t := range m.tracked {
		if !t.leaving {
			all = append(all, k)
		}
	}
	return all
}

// configure takes the data of config-autoscaler. A bad one changes nothing; of the first one what is good counts.
func (m *Mirror) configure(data map[string]string, about subject) {
	base, faults := config.ParseAutoscaler(data, nil)
	first := m.base.Load() == nil
	var complaints []complaint
	if err := config.Join(faults); err != nil {
		instead := "; the last good settings stay in force"
		if first {
			instead = "; until that is mended its default is in force, and the other settings are"
		}
		complaints = append(complaints, complaint{string(workload.BadSettings), err.Error() + instead})
	}
	if unknown := config.UnknownKeys(data); len(unknown) > 0 {
		complaints = append(complaints, complaint{string(workload.UnknownSettings), "nothing reads " + strings.Join(unknown, ", ")})
	}
	m.reporter.say(about, fromLook, complaints...)
	if len(faults) > 0 && !first {
		return
	}
	m.base.Store(&base)
	m.all()
}

// all looks at every workload again.
func (m *Mirror) all() {
	for _, t := range []*table[opted]{m.cluster.deployments, m.cluster.sets} {
		var keys []key
		t.all(func(k key, _ *opted) { keys = append(keys, k) })
		for _, k := range keys {
			m.queue.Add(k)
		}
	}
}

// lookPerPod is how long a workload is not looked at again, for each of its pods: a look costs control one or two
// microseconds per pod, and activators as much, whatever has changed (BenchmarkLook).
const lookPerPod = 50 * time.Microsecond

// run works until ctx ends.
func (m *Mirror) run(ctx context.Context) {
	m.queue.work(ctx, 2, func(k key) {
		m.sync(k)
		if t := m.get(k); t != nil {
			m.queue.Hold(k, min(time.Duration(m.cluster.podCount(t.object))*lookPerPod, longestPause))
		}
	})
}

// sync looks at one workload. Only one goroutine at a time does so.
func (m *Mirror) sync(k key) {
	if s := m.cluster.shadowed(k); s != nil {
		taken := workload.Taken()
		m.reporter.say(subjectOf(s), fromLook, complaint{string(taken.Reason), taken.Text})
	}
	m.reporter.only(k, m.cluster.uids(k)...)
	before, o := m.get(k), m.cluster.workload(k)
	if before != nil && (o == nil || o.UID != before.object.UID) {
		m.drop(k, before)
		before = nil
	}
	if o == nil {
		m.lasting(k, nil)
		m.touched(k) // its Service may have slices of ours still
		return
	}
	if !o.OptedIn() {
		m.lasting(k, nil)
		m.leave(k, before, o)
		m.sayLeft(k, o)
		return
	}
	o = m.fronted(before, o)
	bound, problems := workload.Resolve(&o.Object, m.cluster.candidates(o), m.cluster.rivals(o), m.settings())
	now := m.admit(before, o, bound, problems)
	if now == nil {
		m.leave(k, before, o)
		m.complain(o, problems)
		return
	}
	if before != nil && before.leaving {
		before = nil // it is back
	}
	m.assign(now)
	m.publish(now)
	m.put(k, before, now)
	m.complain(o, append(problems, m.portProblems(now)...))
	m.touched(k)
}

func (m *Mirror) settings() config.Autoscaler {
	if b := m.base.Load(); b != nil {
		return *b
	}
	return config.DefaultAutoscaler()
}

// complain reports a workload's problems, when it is ours to do so.
func (m *Mirror) complain(o *opted, problems []workload.Problem) {
	problems = m.lasting(key{o.Namespace, o.Name}, problems)
	if !m.owns(o.Revision()) {
		return
	}
	var complaints []complaint
	for _, p := range problems {
		complaints = append(complaints, complaint{string(p.Reason), p.Text})
	}
	m.reporter.say(subjectOf(o), fromLook, complaints...)
}

// patience is how long a passing problem is not said.
const patience = 3 * time.Second

// passing says whether a problem is often over in a moment: a workload and its Service are made one after the other, of a
// StatefulSet's two the headless one comes first, and adoption leaves the selector until control has published its slices.
func passing(r workload.Reason) bool {
	return r == workload.NoService || r == workload.ServiceHeadless || r == workload.SelectorIsBack
}

// lasting leaves out the passing problems that have not been there for long enough, and looks again when they have. It
// must be told of all problems: what is not among them is over.
func (m *Mirror) lasting(k key, problems []workload.Problem) (said []workload.Problem) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.since[k]
	delete(m.since, k)
	now := time.Now()
	for _, p := range problems {
		if !passing(p.Reason) {
			said = append(said, p)
			continue
		}
		since, known := before[p.Reason]
		if !known {
			since = now
		}
		if m.since[k] == nil {
			m.since[k] = make(map[workload.Reason]time.Time, 1)
		}
		m.since[k][p.Reason] = since
		if left := patience - now.Sub(since); left > 0 {
			m.queue.AddAfter(k, left)
		} else {
			said = append(said, p)
		}
	}
	return said
}

// straight says whether requests to a port of the Service may go to pods past the activators: their queue-proxies count
// them, unless a pod is bare, or nobody needs to know.
func (t *tracked) straight(i int, bare bool) bool {
	return i == t.primary && !bare || t.service.Uncounted(t.service.Ports[i])
}

// holder names a port of the Service in the book of ports.
func (t *tracked) holder(i int) portalloc.Holder {
	return portalloc.HolderOf(t.service.Namespace, t.service.Name, t.service.Ports[i].Label())
}

// assign finds the workload's ports on the activators.
func (m *Mirror) assign(t *tracked) {
	t.ports = make([]uint16, len(t.service.Ports))
	t.sent.Ports, t.sent.Extra = nil, nil
	ask := ""
	if m.owns(t.rev) {
		ask = t.object.Name
	}
	for i := range t.ports {
		if port, ok, _ := m.ports.port(t.holder(i), ask); ok {
			t.listen(i, port)
		}
	}
	t.keep(m.ports)
}

// listen notes where activators listen for a port of the Service.
func (t *tracked) listen(i int, port uint16) {
	t.ports[i] = port
	if i == t.primary {
		t.sent.Ports = []uint16{port}
	} else {
		t.sent.Extra = append(t.sent.Extra, Extra{part(t.rev, t.service.Ports[i].Label()), []uint16{port}})
	}
}

func (m *Mirror) portProblems(t *tracked) (problems []workload.Problem) {
	for i := range t.ports {
		if _, _, err := m.ports.port(t.holder(i), ""); err != nil {
			return []workload.Problem{{Reason: workload.PortsExhausted, Text: err.Error()}}
		}
	}
	return nil
}

// fronted adds to a workload what the queue-proxies of its pods stand in front of. Where nothing tells of one, what was known
// before still holds: the webhook gives the next pod the same, unless the workload has changed.
func (m *Mirror) fronted(before *tracked, o *opted) *opted {
	fronts := o.Fronts
	for _, p := range m.cluster.podsFor(o) {
		if p.front.Port != 0 && !p.ended && !slices.Contains(fronts, p.front) {
			fronts = append(slices.Clip(fronts), p.front)
		}
	}
	if len(fronts) == 0 && before != nil {
		fronts = before.object.Fronts
	}
	if len(fronts) == len(o.Fronts) {
		return o
	}
	more := *o
	more.Fronts = fronts
	return &more
}

// put tells the sink of what changed. Whoever had the Service before gives its ports up.
func (m *Mirror) put(k key, before, now *tracked) {
	m.mu.Lock()
	last := m.tracked[k]
	m.tracked[k] = now
	former, taken := m.former[now.serviceKey()]
	delete(m.former, now.serviceKey())
	m.mu.Unlock()
	if before == nil || !reflect.DeepEqual(before.sent, now.sent) {
		m.sink.Put(now.sent)
	}
	m.forgetPorts(last, now)
	if taken && former != k {
		m.queue.Add(former)
	}
}

// drop forgets a workload that is gone.
func (m *Mirror) drop(k key, t *tracked) {
	m.mu.Lock()
	delete(m.tracked, k)
	if m.former[t.serviceKey()] == k {
		delete(m.former, t.serviceKey())
	}
	m.mu.Unlock()
	if t.known() {
		m.scrape(t.rev, nil)
		m.forget(t)
	}
	m.reporter.gone(subjectOf(t.object))
	m.touched(k)
}

// publish brings the book of endpoints up to the workload's pods, for each port of its Service.
func (m *Mirror) publish(t *tracked) {
	pods := m.cluster.podsFor(t.object)
	var silent []identity.Pod
	for i := range t.service.Ports {
		want := make(map[string]endpoint.Endpoint)
		for _, p := range pods {
			e, ok := m.endpointOf(t, p, i)
			if !ok {
				continue
			}
			want[p.uid] = e
			if i == t.primary && p.scraped && e.State == endpoint.Ready {
				// Not where requests go: there the question would be one more of them.
				silent = append(silent, identity.Pod{UID: p.uid, Addr: netip.AddrPortFrom(p.addrs[0], p.stats)})
			}
		}
		if i == t.primary {
			m.bring(t.rev, want)
		} else if t.ports[i] != 0 {
			m.bring(part(t.rev, t.service.Ports[i].Label()), want)
		}
	}
	m.scrape(t.rev, silent)
}

// bring publishes what differs from the book.
func (m *Mirror) bring(rev identity.Revision, want map[string]endpoint.Endpoint) {
	var upserted []endpoint.Endpoint
	var removed []string
	for _, e := range m.book.Snapshot(rev).Endpoints {
		now, ok := want[e.Pod.UID]
		switch {
		case !ok:
			removed = append(removed, e.Pod.UID)
		case now == e:
			delete(want, e.Pod.UID)
		}
	}
	for _, e := range want {
		upserted = append(upserted, e)
	}
	if len(upserted)+len(removed) > 0 {
		m.book.Publish(rev, upserted, removed...)
	}
}

// endpointOf says where a pod stands. One that has an address may answer before kubelet says so: whoever asks it itself
// knows at once. Without a sidecar, and where readiness is more than what the sidecar asks for, only kubelet knows.
func (m *Mirror) endpointOf(t *tracked, p *pod, i int) (e endpoint.Endpoint, ok bool) {
	scaled := i == t.primary
	port, known := p.portFor(t.service.Ports[i], scaled)
	if p.ended || !known {
		return e, false
	}
	e = endpoint.Endpoint{Pod: identity.Pod{UID: p.uid}, Sidecar: scaled && p.sidecar != 0, Zone: m.cluster.zoneOf(p.node)}
	if t.service.Ports[i].H2C() {
		e.Protocol = endpoint.H2C
	}
	if len(p.addrs) > 0 {
		e.Pod.Addr = netip.AddrPortFrom(p.addrs[0], port)
	}
	switch {
	case e.Pod.Addr.IsValid() && p.terminating:
		e.State = endpoint.Draining
	case e.Pod.Addr.IsValid() && p.ready:
		e.State = endpoint.Ready
	case !scaled || p.terminating:
		return e, false
	default:
		e.State, e.Held = endpoint.Starting, p.held || !e.Sidecar || !e.Pod.Addr.IsValid()
	}
	return e, true
}

// portFor returns where a pod answers a Service port: its queue-proxy when that stands in front of it.
func (p *pod) portFor(port workload.Port, scaled bool) (uint16, bool) {
	if scaled && p.sidecar != 0 {
		return p.sidecar, true
	}
	if port.TargetName == "" {
		if port.Target != 0 {
			return port.Target, true
		}
		return port.Number, true
	}
	for _, n := range p.ports {
		if n.name == port.TargetName {
			return n.port, true
		}
	}
	return 0, false
}

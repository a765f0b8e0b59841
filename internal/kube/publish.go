package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rousehq/rouse/internal/identity"
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

// said makes one Event of a refusal; what passes by itself is a line in the log.
func (p *Publisher) said(t *tracked, err error) {
	about := "the endpoints of Service " + t.service.Name
	switch {
	case err == nil:
		p.reporter.say(subjectOf(t.object), fromEndpoints)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), errors.Is(err, errNobody):
	case judge(err) == noRight:
		p.reporter.say(subjectOf(t.object), fromEndpoints, complaint{string(workload.PermissionDenied),
			about + " may not be written: " + err.Error() + "; see the ClusterRole of control"})
	case judge(err) == denied:
		p.reporter.say(subjectOf(t.object), fromEndpoints, complaint{string(workload.EndpointsDenied),
			about + " are not written, as the API server refuses them: " + err.Error() + "; if that is a policy of the cluster, except control's service account from it"})
	default:
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

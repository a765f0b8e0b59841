package activator

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// Bounds of the probes under way: over all revisions, and of one, so that a revision whose pods do not answer holds up
// no other.
const (
	maxAsking    = 1024
	maxAskingOne = 64
)

// A pod is asked again after a share of the time that it has been starting, so that what waiting adds to a start is
// 3 % of it at most, and a pod that takes a minute is not asked thousands of times.
const (
	probeLeast = time.Millisecond
	probeMost  = 250 * time.Millisecond
	probeShare = 32
)

// probeEach bounds how often a revision's pods are asked together, so that very many whose addresses nobody answers at
// cost no more than one does: each waits so long for every pod that is being asked.
const probeEach = time.Millisecond

// The time for an answer doubles with each one that is missed. A queue-proxy may hold its answer while it asks the
// application; the connection itself is bounded by the round trip, see [forward.Pool].
const (
	answerFirst = time.Second
	answerMost  = 10 * time.Second
)

// ProbeBy says how a pod is asked whether it is ready.
type ProbeBy uint8

// The ways of asking.
const (
	NoProbe    ProbeBy = iota // its source is believed
	QueueProbe                // Knative's question to a queue-proxy: K-Network-Probe: queue, answered by "queue"; ours says whose it should be
	HTTPProbe                 // a GET of Path, answered by a status from 200 to 399
	TCPProbe                  // a connection
)

// Probe asks the pods that a source knows but does not call ready: on Kubernetes their addresses are known up to a
// second before kubelet's own probe is over. A pod that answers is given requests, until its source takes it away; one
// that its source calls ready is not asked. Switched on for a revision that is there, it is for pods that appear or
// change from then on.
type Probe struct {
	By   ProbeBy
	Path string // default /healthz for a QueueProbe, / for an HTTPProbe
}

// Prober asks a pod of a revision once. It must return when ctx ends.
type Prober interface {
	Probe(ctx context.Context, to *forward.Pool, rev identity.Revision, q Probe) error
}

// errNotReady is an answer that says no.
var errNotReady = errors.New("activator: the pod answers that it is not ready")

// poolProber asks over the pool, so that the connection serves the first request.
type poolProber struct{}

func (poolProber) Probe(ctx context.Context, to *forward.Pool, rev identity.Revision, q Probe) error {
	if q.By == TCPProbe {
		return to.Connect(ctx)
	}
	ask := forward.Question{Path: q.Path, Agent: "Knative-Activator-Probe"}
	if q.By == QueueProbe {
		// The address may be another revision's by now, and its queue-proxy would answer as well.
		ask.Fields = [][2]string{{"K-Network-Probe", "queue"}, {headerNamespace, rev.Namespace}, {headerRevision, rev.Name}}
	}
	if ask.Path == "" {
		ask.Path = map[ProbeBy]string{QueueProbe: "/healthz", HTTPProbe: "/"}[q.By]
	}
	a, err := to.Ask(ctx, ask)
	switch {
	case err != nil:
		return err
	case q.By == QueueProbe && (a.Status != 200 || a.Body != "queue"),
		q.By == HTTPProbe && (a.Status < 200 || a.Status > 399):
		return fmt.Errorf("%w: status %d", errNotReady, a.Status)
	}
	return nil
}

// probing is the asking of one pod, from its appearance to its answer. Guarded by the revision's lock, except at and
// place.
type probing struct {
	p      *pod
	began  time.Time
	missed int                // answers in a row
	cancel context.CancelFunc // of the probe under way
	over   bool
	mayAsk bool      // has one of the revision's places already
	at     time.Time // guarded by the probes' lock
}

// probes is the timetable of all probes. One goroutine waits for the next; each probe under way has one of its own.
type probes struct {
	prober Prober
	wake   chan struct{}

	mu     sync.Mutex    // guards the following; taken under a revision's lock, and none under it
	due    timetable     // those that are not under way
	asking int           // those that are
	rtt    time.Duration // of the pods that answered lately: what to expect of a new one
}

// timetable is a heap by time.
type timetable []*probing

func (t timetable) Len() int           { return len(t) }
func (t timetable) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timetable) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timetable) Push(x any)        { *t = append(*t, x.(*probing)) }
func (t *timetable) Pop() any {
	old := *t
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	return last
}

// look begins to ask the pod or ends it, as its state wants. The caller holds the revision's lock.
func (p *pod) look() {
	q := p.rev.settings.Load().Probe
	wanted := !p.removed && !p.proven && p.ep.State == endpoint.Starting && q.By != NoProbe
	switch {
	case wanted && p.probing == nil:
		p.probing = &probing{p: p, began: time.Now()}
		p.rev.starting++
		p.rev.owner.probes.add(p.probing, p.probing.began)
	case !wanted && p.probing != nil:
		p.probing.over = true
		if p.probing.cancel != nil {
			p.probing.cancel()
		}
		p.probing = nil
		p.rev.starting--
	}
}

func (ps *probes) add(g *probing, at time.Time) {
	ps.mu.Lock()
	g.at = at
	heap.Push(&ps.due, g)
	first := ps.due[0] == g
	ps.mu.Unlock()
	if first {
		ps.nudge()
	}
}

// nudge makes the goroutine look again.
func (ps *probes) nudge() {
	select {
	case ps.wake <- struct{}{}:
	default:
	}
}

// run starts each probe when its time has come, until ctx ends; then it waits for those under way.
func (ps *probes) run(ctx context.Context) {
	var under sync.WaitGroup
	defer under.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		g, wait := ps.next(time.Now())
		if g != nil {
			under.Go(func() { ps.ask(ctx, g) })
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-ps.wake:
		case <-ctx.Done():
		}
	}
}

// next returns a probe that is due, or how long to wait for one.
func (ps *probes) next(now time.Time) (*probing, time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	switch {
	case len(ps.due) == 0 || ps.asking == maxAsking:
		return nil, time.Hour // the nudge ends it
	case ps.due[0].at.After(now):
		return nil, ps.due[0].at.Sub(now)
	}
	ps.asking++
	return heap.Pop(&ps.due).(*probing), 0
}

// ask asks one pod, unless that has become needless, or too many of its revision are being asked.
func (ps *probes) ask(ctx context.Context, g *probing) {
	r := g.p.rev
	ctx, cancel, q, ok := r.beginProbe(ctx, g)
	if ok {
		g.p.pool.ExpectRTT(ps.expected())
		began := time.Now()
		err := ps.prober.Probe(ctx, g.p.pool, r.id, q)
		late := ctx.Err() != nil
		cancel()
		if err == nil {
			ps.learn(g.p.pool.RTT())
		}
		r.endProbe(g, err, late, began)
	}
	ps.mu.Lock()
	ps.asking--
	ps.mu.Unlock()
	ps.nudge()
}

// expected is how long a round trip to a new pod may take, by what others took.
func (ps *probes) expected() time.Duration {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.rtt
}

// learn forgets slow pods slowly: a bound that is too high costs less than one that is too low.
func (ps *probes) learn(rtt time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.rtt = max(rtt, ps.rtt-ps.rtt/16)
}

func (r *revision) beginProbe(ctx context.Context, g *probing) (context.Context, context.CancelFunc, Probe, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case g.over:
		if g.mayAsk {
			r.passOn()
		}
		return nil, nil, Probe{}, false
	case !g.mayAsk && r.asking == maxAskingOne:
		r.unasked = append(r.unasked, g)
		return nil, nil, Probe{}, false
	case !g.mayAsk:
		r.asking++
	}
	g.mayAsk = false
	ctx, cancel := context.WithTimeout(ctx, min(answerFirst<<min(g.missed, 10), answerMost))
	g.cancel = cancel
	return ctx, cancel, r.settings.Load().Probe, true
}

// passOn gives a place among those asked to the one that waits longest, or frees it. The caller holds the lock.
func (r *revision) passOn() {
	for len(r.unasked) > 0 {
		next := r.unasked[0]
		r.unasked = r.unasked[1:]
		if !next.over {
			next.mayAsk = true
			r.owner.probes.add(next, time.Now())
			return
		}
	}
	r.asking--
	r.unasked = nil
}

// endProbe draws the conclusion from an answer, or from its absence.
func (r *revision) endProbe(g *probing, err error, late bool, began time.Time) {
	now := time.Now()
	r.mu.Lock()
	r.passOn()
	g.cancel = nil
	told := !g.over
	switch {
	case g.over:
	case err == nil:
		r.prove(g.p)
	default:
		g.missed++
		if !late {
			g.missed = 0
		}
		r.owner.probes.add(g, began.Add(max(now.Sub(began), g.pause(now))))
	}
	r.mu.Unlock()
	if o := r.owner.deps.Pods; o != nil && told {
		o.Probed(r.id, g.p.uid, probeResult(err, late), now.Sub(g.began))
	}
}

// pause is the time from one question to the next. The caller holds the revision's lock.
func (g *probing) pause(now time.Time) time.Duration {
	alone := min(max(now.Sub(g.began)/probeShare, probeLeast), probeMost)
	return max(alone, time.Duration(g.p.rev.starting)*probeEach)
}

// prove gives the pod requests although its source does not call it ready yet. The caller holds the lock.
func (r *revision) prove(p *pod) {
	p.proven = true
	p.look()
	r.rotations[all].add(p)
	r.reindex()
	r.progress()
	r.failure = ""
	r.pump()
}

// add appends a pod; reindex must follow.
func (o *rotation) add(p *pod) {
	if p.place[all] < 0 {
		o.pods = append(o.pods, p)
	}
}

// ProbeResult is how a pod answered.
type ProbeResult uint8

// The results of a probe.
const (
	ProbeOK         ProbeResult = iota
	ProbeNo                     // it answers that it is not ready
	ProbeRefused                // no connection
	ProbeLate                   // no answer in time
	ProbeUnverified             // its certificate is not the expected one
)

// String returns the result's metric label.
func (p ProbeResult) String() string {
	return [...]string{"ok", "not_ready", "failed", "timeout", "unverified"}[p]
}

func probeResult(err error, late bool) ProbeResult {
	switch {
	case err == nil:
		return ProbeOK
	case late:
		return ProbeLate
	case errors.Is(err, errNotReady):
		return ProbeNo
	case forward.CauseOf(err) == fault.UpstreamUnverified:
		return ProbeUnverified
	}
	return ProbeRefused
}

// PodObserver is told of what the activator finds out about pods. Its methods must not block; no lock is held.
type PodObserver interface {
	// Probed is called after each probe; since is the time since the pod appeared.
	Probed(rev identity.Revision, podUID string, r ProbeResult, since time.Duration)
	// Ejected is called when a pod is left alone for a while.
	Ejected(rev identity.Revision, podUID string, e Ejection)
}

package localpods

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"github.com/rousehq/rouse/internal/localpods/lines"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// group is one revision's pods. Decisions are made under its lock; what they set off (processes, events, the book)
// happens in the pods' goroutines or after the lock is released.
type group struct {
	r    *Runner
	spec Spec
	log  *lines.Ring[Line]
	wake chan struct{} // holds one; tells loop that a deadline changed
	pods sync.WaitGroup

	toListen atomic.Int64 // ns from start to listening, smoothed over the pods so far

	mu        sync.Mutex
	live      map[string]*pod // guarded by mu; all pods that are not gone
	desired   int             // guarded by mu
	closed    bool            // guarded by mu; no pod may start any more
	notBefore time.Time       // guarded by mu; back-off
	waiting   time.Time       // guarded by mu; since when pods are wanted and none is ready
	lastCrash time.Time       // guarded by mu
	crashes   int             // guarded by mu; in a row, for the back-off
	hopeless  int             // guarded by mu; crashes in a row of pods that were never ready
	retries   int             // guarded by mu; taken ports in a row
	failing   bool            // guarded by mu
	reason    string          // guarded by mu
	said      string          // guarded by mu; the start failure that was last told
}

func newGroup(r *Runner, spec Spec) *group {
	return &group{
		r: r, spec: spec, log: lines.NewRing[Line](r.cfg.LogLines), wake: make(chan struct{}, 1), live: make(map[string]*pod),
	}
}

// loop acts on deadlines: the end of a back-off and the progress deadline.
func (g *group) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		case <-timer.C:
		}
		timer.Reset(g.tick())
	}
}

func (g *group) poke() {
	select {
	case g.wake <- struct{}{}:
	default: // one is enough
	}
}

// idleTick is how long loop sleeps when nothing is due.
const idleTick = time.Hour

// tick does what is due and returns when to look again.
func (g *group) tick() time.Duration {
	now := time.Now()
	g.mu.Lock()
	g.reconcile(now)
	var events []Event
	next := now.Add(idleTick)
	if deadline := g.waiting.Add(g.deadline()); !g.waiting.IsZero() && !g.failing {
		if now.Before(deadline) {
			next = deadline
		} else {
			events = g.setFailing(now, fmt.Sprintf("no pod was ready within the progress deadline of %v", g.deadline()))
		}
	}
	if now.Before(g.notBefore) && g.notBefore.Before(next) {
		next = g.notBefore
	}
	g.mu.Unlock()
	g.emit(events...)
	return max(next.Sub(now), time.Millisecond)
}

func (g *group) deadline() time.Duration {
	if g.spec.ProgressDeadline > 0 {
		return g.spec.ProgressDeadline
	}
	return g.r.cfg.ProgressDeadline
}

// apply sets how many pods there should be, and starts or stops the difference.
func (g *group) apply(desired int, victims []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("%w: %s was removed", ErrUnknownRevision, g.spec.Revision)
	}
	if g.desired == 0 && desired > 0 {
		g.failing, g.reason = false, "" // a new demand deserves a new try
	}
	g.desired = desired
	now := time.Now()
	g.shrink(victims)
	g.reconcile(now)
	g.poke()
	return nil
}

// shrink stops the pods that are too many. Called with mu held.
func (g *group) shrink(victims []string) {
	pods := g.active()
	excess := len(pods) - g.desired
	if excess <= 0 {
		return
	}
	slices.SortFunc(pods, func(a, b *pod) int {
		return cmp.Or(
			-cmpBool(slices.Contains(victims, a.uid), slices.Contains(victims, b.uid)),
			cmp.Compare(a.phase, b.phase), // starting ones serve nobody yet
			b.created.Compare(a.created),  // then the youngest, whose caches are coldest
			strings.Compare(a.uid, b.uid),
		)
	})
	for _, p := range pods[:excess] {
		p.phase = phaseDraining
		p.stop()
	}
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// active returns the pods that count towards desired. Called with mu held.
func (g *group) active() []*pod {
	var pods []*pod
	for p := range maps.Values(g.live) {
		if p.phase != phaseDraining {
			pods = append(pods, p)
		}
	}
	return pods
}

func (g *group) count(ph phase) int {
	n := 0
	for p := range maps.Values(g.live) {
		if p.phase == ph {
			n++
		}
	}
	return n
}

// reconcile starts the pods that are missing, unless the back-off forbids it, and keeps the progress clock. While the
// revision is failing one pod at a time tries for all. Called with mu held.
func (g *group) reconcile(now time.Time) {
	switch {
	case g.desired == 0 || g.count(phaseReady) > 0:
		g.waiting = time.Time{}
	case g.waiting.IsZero():
		g.waiting = now
	}
	if g.closed || now.Before(g.notBefore) {
		return
	}
	missing := g.desired - len(g.active())
	if g.failing || g.hopeless > 0 {
		missing = min(missing, 1-g.count(phaseStarting))
	}
	for range missing {
		g.startPod(now)
	}
}

// startPod adds a pod and sets it off. Called with mu held.
func (g *group) startPod(now time.Time) {
	p := &pod{g: g, spec: &g.spec, uid: g.newUID(), created: now, tail: lines.NewTail(g.r.cfg.TailLines)}
	p.stopping, p.stop = context.WithCancel(context.Background())
	g.live[p.uid] = p
	g.pods.Go(p.run)
}

// newUID returns a name that no other pod has had: 40 random bits. Called with mu held.
func (g *group) newUID() string {
	for {
		uid := g.spec.Revision.Name + "-" + strings.ToLower(rand.Text()[:8])
		if _, taken := g.live[uid]; !taken {
			return uid
		}
	}
}

// becameReady counts the pod as ready. It is false when the pod is to stop.
func (g *group) becameReady(p *pod) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.phase == phaseDraining {
		return false
	}
	now := time.Now()
	p.phase = phaseReady
	if p.readyAt.IsZero() {
		p.readyAt = now
	}
	g.failing, g.reason, g.said = false, "", ""
	g.hopeless, g.retries = 0, 0
	g.reconcile(now)
	g.poke()
	return true
}

// becameUnready counts the pod as starting again. It is false when the pod is to stop.
func (g *group) becameUnready(p *pod, reason string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.phase == phaseDraining {
		return false
	}
	p.phase = phaseStarting
	g.reason = reason
	g.reconcile(time.Now())
	g.poke()
	return true
}

// leaving counts the pod out, because its queue-proxy was told to stop, and starts another in its place.
func (g *group) leaving(p *pod) {
	g.mu.Lock()
	p.phase = phaseDraining
	g.reconcile(time.Now())
	g.poke()
	g.mu.Unlock()
	e := p.event(Unready)
	e.Reason = "its queue-proxy was told to stop: the pod finishes its requests and is replaced"
	g.emit(e)
}

// usual returns how long pods of this revision take until they listen, 0 when none has yet.
func (g *group) usual() time.Duration { return time.Duration(g.toListen.Load()) }

// took tells how long a pod took until it listened. Of two that tell at once, one may be lost: it is a guess.
func (g *group) took(d time.Duration) {
	if usual := g.usual(); usual > 0 {
		d = (3*usual + d) / 4
	}
	g.toListen.Store(int64(d))
}

// note keeps what is known to be wrong, for those who ask before the revision is failing.
func (g *group) note(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reason = reason
}

// fail makes the revision failing unless one of its pods is ready.
func (g *group) fail(reason string) {
	g.mu.Lock()
	var events []Event
	if g.count(phaseReady) == 0 {
		events = g.setFailing(time.Now(), reason)
	}
	g.mu.Unlock()
	g.emit(events...)
}

// setFailing returns the event to tell, if any. Called with mu held.
func (g *group) setFailing(now time.Time, reason string) []Event {
	if g.failing {
		return nil
	}
	if g.reason != "" && g.reason != reason {
		reason += ": " + g.reason
	}
	g.failing, g.reason = true, reason
	return []Event{{Kind: Failing, Time: now, Revision: g.spec.Revision, Reason: reason}}
}

// portRetries is how many taken ports in a row are bad luck. After that it is taken for a crash, with its back-off.
const portRetries = 8

// ended takes a pod off the list, draws the conclusions and starts its replacement.
func (g *group) ended(p *pod, end ending) {
	now := time.Now()
	g.mu.Lock()
	delete(g.live, p.uid)
	var events []Event
	switch {
	case end.kind == endStopped || p.phase == phaseDraining:
		events = g.stopped(p, end, now)
	case end.kind == endPortTaken && g.retries < portRetries:
		g.retries++
		g.r.portRetries.Add(1)
	default:
		events = g.crashed(p, end, now)
	}
	g.reconcile(now)
	g.poke()
	g.mu.Unlock()
	g.emit(events...)
}

// stopped returns what to tell of a pod that was asked to stop. Called with mu held.
func (g *group) stopped(p *pod, end ending, now time.Time) []Event {
	e := Event{Kind: Stopped, Time: now, Revision: g.spec.Revision, PodUID: p.uid, After: end.after, Status: end.status, Port: p.port}
	if p.app == nil {
		return nil // it never was
	}
	e.PID = p.app.pid
	return []Event{e}
}

// crashed counts the crash, sets the back-off and returns what to tell. Pods that were started before the last counted
// crash tell nothing new: twenty that fall together are one crash. Called with mu held.
func (g *group) crashed(p *pod, end ending, now time.Time) []Event {
	if !p.readyAt.IsZero() && now.Sub(p.readyAt) >= g.r.cfg.BackoffReset {
		g.crashes = 0
	}
	if !p.created.Before(g.lastCrash) || g.crashes == 0 {
		g.crashes++
		if p.readyAt.IsZero() {
			g.hopeless++
		}
		g.lastCrash = now
		g.notBefore = now.Add(backoff(g.r.cfg.BackoffMin, g.r.cfg.BackoffMax, g.crashes))
	}
	g.reason = describe(&g.spec, end)
	e := Event{
		Kind: Exited, Time: now, Revision: g.spec.Revision, PodUID: p.uid, After: end.after, Status: end.status,
		Tail: end.tail, Retry: max(g.notBefore.Sub(now), 0), Port: p.port,
	}
	if p.app != nil {
		e.PID = p.app.pid
	}
	var events []Event
	if end.kind != endNoStart || g.said != end.status {
		events = append(events, e)
	}
	if end.kind == endNoStart {
		g.said = end.status
	}
	if g.hopeless >= g.r.cfg.CrashLimit && g.count(phaseReady) == 0 {
		events = append(events, g.setFailing(now, fmt.Sprintf("%d pods in a row ended before they were ready", g.hopeless))...)
	}
	return events
}

// describe says in one sentence how a pod ended.
func describe(spec *Spec, end ending) string {
	if end.kind == endNoStart {
		return fmt.Sprintf("cannot start %q: %s", spec.Argv[0], end.status)
	}
	s := fmt.Sprintf("%q ended: %s", spec.Argv[0], end.status)
	if n := len(end.tail); n > 0 {
		s += ": " + end.tail[n-1]
	}
	return s
}

// backoff returns the wait after the given crash in a row, counted from 1.
func backoff(least, most time.Duration, crash int) time.Duration {
	d := least
	for range crash - 1 {
		if d >= most/2 {
			return most
		}
		d *= 2
	}
	return min(d, most)
}

func (g *group) emit(events ...Event) {
	if g.r.deps.Observer == nil {
		return
	}
	for _, e := range events {
		g.r.deps.Observer(e)
	}
}

// close stops all pods and lets none start any more. It does not wait.
func (g *group) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.desired = true, 0
	g.shrink(nil)
}

func (g *group) health() Health {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Health{
		Starting: g.count(phaseStarting), Ready: g.count(phaseReady), Draining: g.count(phaseDraining),
		Crashes: g.crashes, Failing: g.failing, Reason: g.reason,
	}
}

package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// ErrUnknownRevision says that the loop does not have the revision.
var ErrUnknownRevision = errors.New("the control loop does not have this revision")

// Loop decides about revisions: see the package comment. Make one with [New], start it with Run.
type Loop struct {
	cfg   Config
	deps  Deps
	began time.Time // the wall clock when the loop was made, with the monotonic one
	at    time.Time // the same instant on the loop's own clock

	mu       sync.RWMutex
	revs     map[identity.Key]*revision          // guarded by mu
	services map[identity.Key][]*revision        // guarded by mu; by namespace and name of the service
	handover map[identity.Revision]RevisionState // guarded by mu; what Restore brought and Add has not claimed

	watches watches

	wheel  *wheel
	scales *lane
	modes  *lane
	out    *outbox
	agenda *agenda
	counts counts
	scaled prometheus.Histogram
}

// counts are the loop's own counters, read on scrape.
type counts struct {
	reports   atomic.Uint64
	unknown   atomic.Uint64 // reports about revisions that the loop does not have
	decisions atomic.Uint64
	woken     atomic.Uint64 // decisions that did not wait for the wheel
	failed    atomic.Uint64 // calls of targets that returned an error
}

// New checks cfg and returns a loop without revisions. It registers the metrics and starts nothing.
func New(cfg Config, deps Deps) (*Loop, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Pods == nil {
		return nil, errors.New("control: Deps needs Pods")
	}
	now := time.Now()
	l := &Loop{
		cfg:      cfg,
		deps:     deps,
		began:    now,
		at:       now.Round(0),
		revs:     make(map[identity.Key]*revision),
		services: make(map[identity.Key][]*revision),
		handover: make(map[identity.Revision]RevisionState),
		wheel:    newWheel(cfg.Period, cfg.Slots),
		out:      newOutbox(cfg.Events),
		agenda:   newAgenda(),
	}
	l.scaled = newScaled()
	l.scales = newLane(l.scale)
	l.modes = newLane(l.route)
	if deps.Registerer != nil {
		for _, c := range []prometheus.Collector{collector{l}, l.scaled} {
			if err := deps.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("control: register metrics: %w", err)
			}
		}
	}
	return l, nil
}

// Run turns the wheel and applies decisions until ctx ends; then it waits for the calls under way, whose context has
// ended too, and returns nil. Call it once. What was reported before is not lost.
func (l *Loop) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range l.cfg.Workers {
		wg.Go(func() { l.scales.work(ctx) })
		wg.Go(func() { l.modes.work(ctx) })
	}
	wg.Go(func() { l.agenda.keep(ctx, l.now, l.keepAppointment) })
	spoken := make(chan struct{})
	go func() {
		defer close(spoken)
		l.out.deliver(l.tell)
	}()
	l.wheel.turn(ctx, func(r *revision, due time.Time) {
		if l.deps.Lag != nil {
			l.deps.Lag(time.Since(due))
		}
		l.decide(r, l.now())
	})
	wg.Wait()
	l.out.close()
	<-spoken
	return nil
}

// now is the wall clock as it was when the loop was made, moved on by the monotonic clock: windows are cut at whole
// seconds, and a step of the wall clock must not move samples between them. What people read, and schedules, go by the wall
// clock instead: see off.
func (l *Loop) now() time.Time { return l.at.Add(time.Since(l.began)) }

// off is by how much the wall clock is ahead of now: it was set since, or the machine was suspended.
func (l *Loop) off() time.Duration {
	wall := time.Now()
	return wall.Round(0).Sub(l.at.Add(wall.Sub(l.began))).Round(time.Millisecond)
}

// onTheWall returns what the wall clock shows at an instant of the loop's clock; zero stays zero.
func onTheWall(t time.Time, off time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(off)
}

// Add puts a revision under control, or gives one that is there its new settings: windows and state stay, what is not
// live ([config.Live]) is not looked at again. A revision with a new UID replaces the one that had its name.
func (l *Loop) Add(cfg *config.Revision, t Target) error {
	if t.Scale == nil {
		return fmt.Errorf("control: add %s: Target needs Scale", cfg.ID)
	}
	now := l.now()
	l.mu.Lock()
	old := l.revs[cfg.ID.Key()]
	if old != nil && old.id == cfg.ID {
		l.mu.Unlock()
		old.configure(cfg)
		l.watches.tell(old)
		return nil
	}
	r := newRevision(cfg, t, now)
	if old != nil {
		l.delist(old)
	}
	l.revs[r.id.Key()] = r
	l.enlist(r)
	saved, restored := l.handover[r.id]
	delete(l.handover, r.id)
	l.mu.Unlock()
	if old != nil {
		l.retire(old)
	}
	cancel := l.deps.Pods.Subscribe(r.id, func(u endpoint.Update) { l.appointed(r, r.setPods(u.Snapshot, l.now())) })
	var before *RevisionState
	if restored {
		before = &saved
	}
	if !r.begin(cancel, before, now) {
		cancel() // removed in the meantime
		return nil
	}
	l.wheel.add(r)
	l.decide(r, now)
	return nil
}

// Remove takes a revision out of control. Its pods stay as they are. What is not there is no fault.
func (l *Loop) Remove(id identity.Revision) {
	l.mu.Lock()
	delete(l.handover, id)
	r := l.revs[id.Key()]
	if r == nil || r.id != id {
		l.mu.Unlock()
		return
	}
	delete(l.revs, id.Key())
	l.delist(r)
	l.mu.Unlock()
	l.retire(r)
}

func (l *Loop) retire(r *revision) {
	l.wheel.remove(r)
	if cancel := r.end(); cancel != nil {
		cancel()
	}
	l.watches.tell(r)
}

func (l *Loop) find(key identity.Key) *revision {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.revs[key]
}

// all returns the revisions in no order.
func (l *Loop) all() []*revision {
	l.mu.RLock()
	defer l.mu.RUnlock()
	rs := make([]*revision, 0, len(l.revs))
	for _, r := range l.revs {
		rs = append(rs, r)
	}
	return rs
}

// Report takes one report of a producer and, when it is demand for a revision without pods, decides at once. It does
// not block and does not keep m. Reports about unknown revisions are counted and dropped.
func (l *Loop) Report(m metrics.Message) {
	l.counts.reports.Add(1)
	r := l.find(identity.Key{Namespace: m.Namespace, Name: m.Name})
	uid := m.Stat.Extension.RevisionUID
	if r == nil || uid != "" && r.id.UID != "" && uid != r.id.UID {
		l.counts.unknown.Add(1)
		return
	}
	now := l.now()
	wake, soon := r.record(&m.Stat, now, &l.cfg)
	l.watches.tell(r)
	switch {
	case wake:
		l.counts.woken.Add(1)
		l.decide(r, now)
	default:
		l.appointed(r, soon)
	}
}

// Decide decides about a revision now instead of at its turn. It fails with ErrUnknownRevision.
func (l *Loop) Decide(id identity.Revision) error {
	return l.with(id, func(r *revision) { l.decide(r, l.now()) })
}

// SetReplicas tells the loop what the scale is set to, be it by somebody else or by an Apply. Who tells must tell of every
// change, the last one last; it may be late. It fails with ErrUnknownRevision.
func (l *Loop) SetReplicas(id identity.Revision, n int) error {
	return l.with(id, func(r *revision) { r.setReplicas(n) })
}

// SetReachability tells the loop whether a route leads to the revision. It fails with ErrUnknownRevision.
func (l *Loop) SetReachability(id identity.Revision, to kpa.Reachability) error {
	return l.with(id, func(r *revision) { r.setReachability(to) })
}

// SetFloor sets the least number of pods that a schedule asks for now. It fails with ErrUnknownRevision.
func (l *Loop) SetFloor(id identity.Revision, pods int) error {
	return l.with(id, func(r *revision) { r.setFloor(pods) })
}

func (l *Loop) with(id identity.Revision, do func(*revision)) error {
	r := l.find(id.Key())
	if r == nil || r.id != id {
		return fmt.Errorf("%w: %s", ErrUnknownRevision, id)
	}
	do(r)
	return nil
}

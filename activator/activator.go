package activator

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// Router finds the revision that serves a request by what the client sent.
type Router interface {
	// Route returns false when nothing serves the request.
	Route(x forward.Exchange) (Route, bool)
}

// Config of an [Activator]. The zero value of a field means its default.
type Config struct {
	// QueueTotal bounds the parked requests of all revisions together, default 100,000.
	QueueTotal int
	// Tries bounds how often one request is dispatched, default 12: each try beyond the first follows a certain
	// "was not processed". A pod that refused is left alone for 10 ms and twice as long each time, up to 1 s, so that
	// twelve tries at one pod last 5.27 s: a container that crashed is restarted at once, and its application listens
	// within 1 to 5 s, while nobody may have taken the pod out of the endpoints.
	Tries int
	// StatPeriod is how often load is reported to control, default 1 s.
	StatPeriod time.Duration
	// Name is this instance's name in stats.
	Name string
	// Zone is the failure domain of this instance, for [ZonePreference]; empty when unknown.
	Zone string
	// Growth, when not 0, reports load at once when so many times more is parked than was reported in this period; 2 is
	// a good value. 0 reports the first request at once and the rest each StatPeriod, as Knative does.
	Growth float64
	// ColdStartHeader adds X-Rouse-Cold-Start: true to answers of requests that met no pod, and ServerTiming a
	// Server-Timing entry to those that were parked.
	ColdStartHeader bool
	ServerTiming    bool
}

// Default returns the configuration with every zero field replaced by its default.
func (c Config) Default() Config {
	if c.QueueTotal == 0 {
		c.QueueTotal = 100_000
	}
	if c.Tries == 0 {
		c.Tries = 12
	}
	if c.StatPeriod == 0 {
		c.StatPeriod = time.Second
	}
	if c.Name == "" {
		c.Name = "activator"
	}
	return c
}

// Validate names every field that is out of range.
func (c Config) Validate() error {
	var errs []error
	if c.QueueTotal < 1 {
		errs = append(errs, errors.New("activator: QueueTotal must be at least 1"))
	}
	if c.Tries < 1 {
		errs = append(errs, errors.New("activator: Tries must be at least 1"))
	}
	if c.StatPeriod < 10*time.Millisecond {
		errs = append(errs, errors.New("activator: StatPeriod must be at least 10ms"))
	}
	if c.Growth != 0 && c.Growth <= 1 {
		errs = append(errs, errors.New("activator: Growth must be 0 (off) or more than 1"))
	}
	return errors.Join(errs...)
}

// Deps are what an activator works with.
type Deps struct {
	Router Router
	// NewPool makes the connections to a pod; the activator closes what it returns.
	NewPool func(endpoint.Endpoint) *forward.Pool
	// NewPoolOf, when set, is asked instead, where the revision matters: TLS verifies pods by their namespace.
	NewPoolOf func(identity.Revision, endpoint.Endpoint) *forward.Pool
	// Stats receives load: at once on first demand, then every StatPeriod while there is any.
	Stats StatSink
	// Observer is told of outcomes; nil for none.
	Observer Observer
	// Synced says whether the router and the revisions are complete: until then a request that nothing serves is
	// answered 503, to come again, and not 404. Nil means always.
	Synced func() bool
	// Freed, when set, is called when what is in flight in a pod has fallen to a lowered grant: see [Activator.Grant].
	// It is not called for a pod that was not above it. No lock is held; it must not block for long.
	Freed func(rev identity.Revision, podUID string)
	// Pods is told what is found out about pods; nil for none.
	Pods PodObserver
	// Prober asks pods whether they are ready, see [Probe]; nil asks over their own connections.
	Prober Prober
}

// Observer counts. Its methods are called on the request path and must be cheap and not block.
type Observer interface {
	// Dispatched is called when a request that was parked got its pod; cold says that it met no pod.
	Dispatched(rev identity.Revision, cold bool, parked time.Duration)
	// Done is called once per request that had a revision.
	Done(rev identity.Revision, o Outcome)
}

// Outcome is how a request ended.
type Outcome struct {
	// Result is that of the last try.
	forward.Result
	// Arrived is when the request came, Took how long it stayed, and Worked the part of it that the last pod had it.
	Arrived      time.Time
	Took, Worked time.Duration
	Tries        int
	// Parked is true when it had to wait for a pod.
	Parked bool
	// Cold is set for one request of each cold start, the oldest that waited, when its pod answered; nil for all others.
	Cold *ColdStart
}

// Activator is the data plane's front: see the package comment.
type Activator struct {
	cfg     Config
	deps    Deps
	parked  atomic.Int64
	ejected atomic.Int64 // outliers
	probes  probes

	revs *registry[identity.Key, *revision]

	active   activeSet
	producer string // this process in stats, unique over restarts
}

// New checks cfg and returns an activator without revisions.
func New(cfg Config, deps Deps) (*Activator, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Router == nil || deps.NewPool == nil && deps.NewPoolOf == nil || deps.Stats == nil {
		return nil, errors.New("activator: Deps needs Router, NewPool or NewPoolOf, and Stats")
	}
	if deps.NewPoolOf == nil {
		deps.NewPoolOf = func(_ identity.Revision, e endpoint.Endpoint) *forward.Pool { return deps.NewPool(e) }
	}
	if deps.Prober == nil {
		deps.Prober = poolProber{}
	}
	a := &Activator{cfg: cfg, deps: deps, revs: newRegistry[identity.Key, *revision](), probes: probes{prober: deps.Prober, wake: make(chan struct{}, 1)},
		producer: cfg.Name + "/" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	return a, nil
}

// Put adds a revision, or changes the settings of one that is there. A revision with a new UID replaces the one
// that had its name.
func (a *Activator) Put(id identity.Revision, s Settings) {
	var replaced *revision
	a.revs.change(id.Name, func(m map[identity.Key]*revision) {
		old := m[id.Key()]
		if old != nil && old.id == id {
			old.configure(s)
			return
		}
		r := &revision{id: id, owner: a, load: metrics.NewSharedRequestStats(time.Now())}
		r.settings.Store(&s)
		m[id.Key()] = r
		replaced = old
	})
	if replaced != nil {
		replaced.remove() // now that whoever is refused may find the new one
	}
}

// Remove forgets a revision: parked requests go where their route or port leads by then, or are refused; those in flight
// finish.
func (a *Activator) Remove(id identity.Revision) {
	var removed *revision
	a.revs.change(id.Name, func(m map[identity.Key]*revision) {
		if r := m[id.Key()]; r != nil && r.id == id {
			delete(m, id.Key())
			removed = r
		}
	})
	if removed != nil {
		removed.remove() // now that nobody finds it any more
	}
}

// Update takes over a change of a revision's endpoints. Updates of one revision must come in order.
func (a *Activator) Update(u endpoint.Update) {
	if r := a.revision(u.Snapshot.Revision); r != nil {
		r.update(u)
	}
}

// Fail says that the revision's pods cannot start: its parked requests and newcomers fail with the reason while no
// pod is ready. An empty reason takes it back.
func (a *Activator) Fail(id identity.Revision, reason string) {
	if r := a.revision(id); r != nil {
		r.fail(reason)
	}
}

// AwaitIdle blocks until a draining pod has nothing of this activator's in flight, or ctx is done.
func (a *Activator) AwaitIdle(ctx context.Context, id identity.Revision, podUID string) {
	r := a.revision(id)
	if r == nil {
		return
	}
	idle := r.whenIdle(podUID)
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// Parked returns how many requests are parked, over all revisions.
func (a *Activator) Parked() float64 { return float64(a.parked.Load()) }

// Counts returns how many requests of the revision are parked and in flight, and how many pods may be picked.
func (a *Activator) Counts(id identity.Revision) (parked, inFlight, ready int) {
	if r := a.revision(id); r != nil {
		return r.counts()
	}
	return 0, 0, 0
}

// revisions are those of this moment.
func (a *Activator) revisions() iter.Seq[*revision] { return a.revs.values() }

func (a *Activator) revision(id identity.Revision) *revision {
	if r := a.revs.get(id.Name, id.Key()); r != nil && r.id == id {
		return r
	}
	return nil
}

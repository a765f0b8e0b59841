package control

import (
	"cmp"
	"sync"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// revision is everything that the loop knows about one revision. There are thousands: its size counts, see
// BenchmarkRevisionBytes.
type revision struct {
	id     identity.Revision
	serves identity.Key // the service
	slot   int          // of the wheel, guarded by the wheel's lock; -1 when not on it

	mu         sync.Mutex // guards everything below
	live       bool       // on from begin to end
	cfg        *config.Revision
	policy     *kpa.Policy
	target     Target
	windows    [kpa.NumMetrics]*metrics.Window // of the policy's metrics only
	state      kpa.State
	sources    []source
	pods       endpoint.Snapshot
	cancel     func() // of the subscription
	learnt     kpa.Learner
	due        time.Time // of a decision before the next tick, zero for none
	reach      kpa.Reachability
	floor      int     // set from outside
	seen       float64 // in flight at the last decision
	floorNow   int     // of the schedule, from floorSince until floorUntil on the wall clock
	floorSince int64   // in Unix seconds
	floorUntil time.Time
	replicas   int       // what the scale is set to, or will be once the request under way is through
	told       int       // what it is set to by the last word of somebody else, -1 without one
	news       bool      // that came while a request waited or was under way
	through    time.Time // when the last request was
	answered   int64     // when the public address did last, in Unix nanoseconds
	hidden     int64     // when requests last may have been in flight of which no report told, likewise

	path       kpa.Path
	mode       kpa.Mode  // asked for
	activators int       // asked for
	carried    kpa.Mode  // acknowledged
	owned      bool      // at the last decision
	failing    bool      // the last request could not be applied
	complaints [2]string // what the lanes failed with, empty when they did not

	want  *Request     // to be applied by the scale lane; nil when none
	route *ModeRequest // to be applied by the mode lane; nil when none
	probe bool         // the mode lane should ask the public address
	lanes [2]turn      // where this revision stands in the scale and the mode lane

	last    kpa.Decision
	decided time.Time // zero before the first decision
	changed time.Time // when the number of pods was last changed
}

func newRevision(cfg *config.Revision, t Target, now time.Time) *revision {
	p := cfg.Policy()
	serves := identity.Key{Namespace: cfg.ID.Namespace, Name: cmp.Or(cfg.Service, cfg.ID.Name)}
	r := &revision{id: cfg.ID, serves: serves, slot: -1, cfg: cfg, policy: &p, target: t, replicas: t.Replicas, told: -1}
	if t.Mode == nil {
		r.path = kpa.Path{ProxiedSince: now, Probe: kpa.ProbeOK}
	}
	r.fitWindows()
	return r
}

// fitWindows gives every metric that the policy looks at a window of the right size and drops the others.
func (r *revision) fitWindows() {
	size := metrics.WindowConfig{Stable: r.policy.StableWindow, Panic: r.policy.PanicWindow, Algorithm: r.policy.Algorithm}
	keep := looksAt(r.policy)
	for m, w := range &r.windows {
		switch {
		case !keep[m]:
			r.windows[m] = nil
		case w == nil:
			r.windows[m] = metrics.NewWindow(size)
		default:
			w.Resize(size)
		}
	}
}

// looksAt returns the metrics that decisions under a policy need: its targets, the demand that keeps pods alive when
// the targets are resources, the arrivals for drain-aware bursts.
func looksAt(p *kpa.Policy) (keep [kpa.NumMetrics]bool) {
	for _, t := range p.Targets {
		keep[t.Metric] = true
		if t.Metric == kpa.CPU || t.Metric == kpa.Memory {
			keep[kpa.Concurrency] = true
		}
	}
	if p.Burst == kpa.BurstDrainAware {
		keep[kpa.RPS] = true
	}
	return keep
}

// begin puts the revision to work with the pods that the subscription has brought and with what a predecessor knew,
// if anything. It returns false when the revision was removed before it began.
func (r *revision) begin(cancel func(), before *RevisionState, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.policy == nil {
		return false
	}
	r.cancel = cancel
	r.live = true
	ready := r.pods.Count(endpoint.Ready)
	met := max(ready, r.replicas) // pods may become known, or ready, later than their number: they may all be busy
	if r.target.New {
		met = ready
	}
	r.replicas = max(r.replicas, ready+r.pods.Count(endpoint.Starting))
	r.state = kpa.NewState(r.policy, met, now)
	if before != nil {
		r.inherit(before)
	}
	return true
}

// end takes the revision out of work and returns how to end its subscription, nil when it never began.
func (r *revision) end() (cancel func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = false
	if r.cancel == nil {
		r.policy = nil
	}
	r.want, r.route, r.probe = nil, nil, false
	return r.cancel
}

func (r *revision) configure(cfg *config.Revision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := cfg.Policy()
	r.cfg, r.policy = cfg, &p
	r.floorUntil = time.Time{}
	r.fitWindows()
}

// setReplicas takes what the scale is said to be set to. While a request waits or is under way that may be of before it, or
// of after it: what follows from it is seen when the request is through.
func (r *revision) setReplicas(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = n
	if r.asking() {
		r.news = true
	} else {
		r.replicas = n
	}
}

// before returns what the scale is set to when a request comes to nothing: what was told since, because it may have been
// carried out although its answer was lost. The caller holds r.mu.
func (r *revision) before(req *Request) int {
	if r.news {
		return r.told
	}
	return req.From
}

// asking says whether a request for another scale waits or is under way; the caller holds r.mu.
func (r *revision) asking() bool { return r.want != nil || r.lanes[laneScale].running }

// hearsay is how long after a request the last word about the scale may still be of before it.
const hearsay = 5 * time.Second

// heed believes the last word about the scale when it is another than the request that went through a while ago: somebody
// else has set it since. The caller holds r.mu.
func (r *revision) heed(now time.Time) {
	if r.told >= 0 && !r.asking() && now.Sub(r.through) >= hearsay {
		r.replicas = r.told
	}
}

func (r *revision) setReachability(to kpa.Reachability) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reach = to
}

func (r *revision) setFloor(pods int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.floor = pods
}

// record enters a report into the windows and says whether it calls for a decision at once.
func (r *revision) record(s *metrics.Stat, now time.Time, cfg *Config) (wake bool, soon time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return false, time.Time{}
	}
	// A queue-proxy reports everything that it has in flight; what came through an activator is in that one's own
	// report. Without this it would count twice.
	concurrency := s.AverageConcurrency - s.AverageProxiedConcurrency
	for m, w := range &r.windows {
		if w != nil {
			w.Record(now, measured(kpa.Metric(m), s, concurrency))
		}
	}
	r.note(s, concurrency, now)
	if kpa.WakesNow(r.state.Raw, r.replicas, max(concurrency, s.Extension.Parked)) {
		return true, time.Time{}
	}
	if cfg.Growth == 0 || !r.grown(now, cfg) {
		return false, time.Time{}
	}
	if due := r.decided.Add(growthPause); now.Before(due) {
		return false, r.appoint(due)
	}
	return true, time.Time{}
}

const (
	// growthPause is the least time between two decisions that growth asks for: a burst arrives within it.
	growthPause = 20 * time.Millisecond
	// readyPause is the least time between two decisions because pods of a burst became ready.
	readyPause = 5 * time.Millisecond
)

// appoint notes a decision at an instant and returns that, or zero when one is due by then anyway; the caller holds
// r.mu.
func (r *revision) appoint(at time.Time) time.Time {
	if !r.due.IsZero() && !at.Before(r.due) {
		return time.Time{}
	}
	r.due = at
	return at
}

// grown says whether so much more is in flight than at the last decision that the next one can't wait.
func (r *revision) grown(now time.Time, cfg *Config) bool {
	in := r.inFlight(now, cfg.ReportTTL)
	return in > cfg.Growth*r.seen && in > r.policy.Targets[0].Value*float64(r.replicas)
}

// measured returns a report's contribution to a metric of the whole revision.
func measured(m kpa.Metric, s *metrics.Stat, concurrency float64) float64 {
	switch m {
	case kpa.RPS:
		return s.RequestCount - s.ProxiedRequestCount
	case kpa.QueueLength:
		return s.Extension.QueueLength
	case kpa.CPU:
		return s.Extension.CPU
	case kpa.Memory:
		return s.Extension.Memory
	case kpa.Lag:
		return s.Extension.Lag
	default:
		return concurrency
	}
}

// proofPeriods is for how many periods the public address is believed to lead to an activator because one has answered
// there: activators may all have gone since, and then it leads to the pods.
const proofPeriods = 3

// observe puts together what is seen at now, when the wall clock shows wall; the caller holds r.mu.
func (r *revision) observe(now, wall time.Time, cfg Config, activators ActivatorSource) kpa.Observation {
	r.seen = r.inFlight(now, cfg.ReportTTL)
	o := kpa.Observation{
		Ready:        r.pods.Count(endpoint.Ready),
		Starting:     r.pods.Count(endpoint.Starting),
		Terminating:  r.pods.Count(endpoint.Draining),
		Replicas:     r.replicas,
		Reachability: r.reach,
		Path:         r.path,
		InFlight:     r.seen,
		Startup:      r.learnt.Startup(r.pods.Count(endpoint.Starting) > 0 || r.replicas > r.pods.Count(endpoint.Ready), now),
		Floor:        max(r.floor, r.scheduled(wall)),
	}
	o.Startup.AtOnce, o.Startup.Pace = r.target.AtOnce, r.target.Pace
	o.Ceiling = r.ceiling(now, cfg.ReportTTL)
	// Nothing is known of activators before a target has taken a mode. To believe that there are none would lead traffic
	// past them, for a moment, whenever a revision gets another owner.
	if r.path.Activators == 0 {
		o.Path.Activators = cfg.Activators
	}
	o.Path.Stale = r.target.Mode != nil && (r.path.Probe != kpa.ProbeOK || time.Duration(now.UnixNano()-r.answered) > proofPeriods*cfg.Period)
	silence := r.listen(now, cfg.ReportTTL, activators)
	for m := range o.Metrics {
		o.Metrics[m] = r.sample(kpa.Metric(m), now, silence)
	}
	return o
}

// scheduled returns the floor of the configured schedule by the wall clock, which may have been set back since it was looked
// at. The caller holds r.mu.
func (r *revision) scheduled(wall time.Time) int {
	floors := r.cfg.Scaling.Floors()
	if floors == nil {
		return 0
	}
	if wall.Unix() < r.floorSince || !wall.Before(r.floorUntil) {
		r.floorSince = wall.Unix()
		r.floorNow, r.floorUntil = floors.At(wall)
	}
	return r.floorNow
}

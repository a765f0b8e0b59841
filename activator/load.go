package activator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/metrics"
)

// StatSink receives reports of load. It must not block for long: it is called on the request path when a revision's
// first request comes.
type StatSink interface {
	Report(m metrics.Message)
}

// reporting is what an activator remembers of a revision between two reports.
type reporting struct {
	active atomic.Bool  // in the active set
	ahead  atomic.Int64 // requests of this period that were reported at once; the period's own report leaves them out
	seq    atomic.Uint64

	queued  atomic.Int64 // requests that wait
	told    atomic.Int64 // how many waited at the last report
	worked  atomic.Int64 // nanoseconds that pods had requests which had waited, since the last report
	answers atomic.Int64 // how many those were
	known   atomic.Bool  // one of them was reported since the revision was idle
}

// activeSet holds the revisions that have something to report, so that idle ones cost nothing.
type activeSet struct {
	mu   sync.Mutex
	list []*revision // guarded by mu
}

func (s *activeSet) add(r *revision) {
	s.mu.Lock()
	s.list = append(s.list, r)
	s.mu.Unlock()
}

// take empties the set.
func (s *activeSet) take() []*revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// began counts a request. The first of an idle revision is reported at once: it may have to be woken.
func (a *Activator) began(r *revision, now time.Time) {
	first := r.report.active.CompareAndSwap(false, true)
	missed := 0.0 // requests that began and ended while the revision came to rest
	if first {
		missed = r.load.Report(now).RequestCount // an idle time is no part of the first period
	}
	r.load.In(now, false)
	if first {
		a.active.add(r)
		r.report.ahead.Store(1)
		r.report.known.Store(false)
		a.send(r, metrics.Report{AverageConcurrency: 1, RequestCount: 1 + missed}, time.Now())
	}
}

// moved says whether a queue has grown or shrunk so much that it is worth a report ahead of the period: Growth times, or
// a tenth, eight at least. A burst of 500 requests is some 60 reports.
func (a *Activator) moved(from, to int64) bool {
	if a.cfg.Growth == 0 || from == to {
		return false
	}
	less, more := min(from, to), max(from, to)
	return float64(more) >= a.cfg.Growth*float64(max(less, 1)) || more-less >= max(8, more/10)
}

// grew reports parked requests ahead of the period when there are so many more than were reported ahead so far, so that
// a burst is met while it arrives. The period's own report leaves them out: no window counts them twice.
func (a *Activator) grew(r *revision, parked int) {
	ahead := r.report.ahead.Load()
	if int64(parked) <= ahead || !a.moved(ahead, int64(parked)) || !r.report.ahead.CompareAndSwap(ahead, int64(parked)) {
		return
	}
	more := float64(int64(parked) - ahead)
	a.send(r, metrics.Report{AverageConcurrency: more, RequestCount: more}, time.Now())
}

// left notes that a request waits no longer, and reports a queue that has shrunk by so much ahead of the period: how far a
// burst has drained decides which pods are still of use. There is nothing in it for the windows.
func (a *Activator) left(r *revision) {
	queued, told := r.report.queued.Add(-1), r.report.told.Load()
	if queued >= told || !a.moved(told, queued) || !r.report.told.CompareAndSwap(told, queued) {
		return
	}
	a.send(r, metrics.Report{}, time.Now())
}

// answered notes how long a pod had a request that had to wait: in a burst that is known before any pod reports it. The
// first one is reported at once.
func (a *Activator) answered(r *revision, took time.Duration) {
	r.report.worked.Add(int64(took))
	r.report.answers.Add(1)
	if a.cfg.Growth != 0 && !r.report.known.Load() && r.report.known.CompareAndSwap(false, true) {
		a.send(r, metrics.Report{}, time.Now())
	}
}

// workSeconds is how long pods had the requests that were answered since it was last asked for, on average.
func (r *revision) workSeconds() float64 {
	n := r.report.answers.Swap(0)
	worked := time.Duration(r.report.worked.Swap(0))
	if n == 0 {
		return 0
	}
	return worked.Seconds() / float64(n)
}

// Run reports the load of every active revision each StatPeriod, and asks pods that start whether they are ready, until
// ctx ends; then it waits for what it started.
func (a *Activator) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { a.probes.run(ctx) })
	tick := time.NewTicker(a.cfg.StatPeriod)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, r := range a.active.take() {
				a.reportLoad(r, now)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// reportLoad reports one period, without the request that was reported ahead, and keeps the revision in the set while
// it has load.
func (a *Activator) reportLoad(r *revision, now time.Time) {
	arrived := r.load.Arrived()
	rep := r.load.Report(now)
	if ahead := float64(r.report.ahead.Swap(0)); ahead > 0 {
		rep.AverageConcurrency = max(0, rep.AverageConcurrency-ahead)
		rep.RequestCount = max(0, rep.RequestCount-ahead)
	}
	a.send(r, rep, now)
	if rep.AverageConcurrency > 0 || r.load.InFlight() > 0 {
		a.active.add(r)
		return
	}
	r.report.active.Store(false)
	// A request may have come between the report and the store, and have found the revision active; it may be over, too.
	if r.load.Arrived() != arrived && r.report.active.CompareAndSwap(false, true) {
		a.active.add(r)
	}
}

func (a *Activator) send(r *revision, rep metrics.Report, now time.Time) {
	parked := r.waiting()
	r.report.told.Store(int64(parked))
	a.deps.Stats.Report(metrics.Message{Namespace: r.id.Namespace, Name: r.id.Name, Stat: metrics.Stat{
		PodName:            a.cfg.Name,
		AverageConcurrency: rep.AverageConcurrency,
		RequestCount:       rep.RequestCount,
		Timestamp:          now.Unix(),
		Extension: metrics.Extension{
			Version:     metrics.ExtensionVersion,
			RevisionUID: r.id.UID,
			Producer:    a.producer,
			Sequence:    r.report.seq.Add(1),
			Parked:      float64(parked),
			QueueLength: float64(parked),
			WorkSeconds: r.workSeconds(),
		},
	}})
}

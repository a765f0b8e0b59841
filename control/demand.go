package control

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/identity"
)

// Demand is the load of a whole service, for an autoscaler that divides by itself: HPA, KEDA.
type Demand struct {
	// Active says that somebody asks something of the service: a request is in flight or parked, or the stable window
	// has load. What pods use of CPU and memory by themselves is no demand.
	Active bool
	// Loads are the metrics that the service's newest revision aims at, in the order of its policy.
	Loads []Load
}

// Load is one metric of a Demand.
type Load struct {
	Metric kpa.Metric
	// Total is the load of all pods: the average over the stable window, or over the panic window when that is larger
	// and the revision is in panic.
	Total float64
	// Target is what one pod should carry: a service needs Total/Target pods, rounded up.
	Target float64
}

// Demand returns the load of a service, summed over its revisions; the name of a revision alone is as good. It fails
// with ErrUnknownRevision.
func (l *Loop) Demand(service identity.Key) (Demand, error) {
	revs := l.revisionsOf(service)
	if len(revs) == 0 {
		return Demand{}, fmt.Errorf("%w: %s", ErrUnknownRevision, service)
	}
	now := l.now()
	var d Demand
	for i, r := range revs {
		r.addDemand(&d, i == 0, now, l.cfg.ReportTTL)
	}
	return d, nil
}

// revisionsOf returns a service's revisions, newest first.
func (l *Loop) revisionsOf(service identity.Key) []*revision {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if revs := l.services[service]; len(revs) > 0 {
		return slices.SortedFunc(slices.Values(revs), func(a, b *revision) int {
			return cmp.Or(cmp.Compare(b.id.Generation, a.id.Generation), cmp.Compare(b.id.Name, a.id.Name))
		})
	}
	if r := l.revs[service]; r != nil {
		return []*revision{r}
	}
	return nil
}

// addDemand adds the load of a revision to that of its service; the newest one comes first and says what is aimed at.
func (r *revision) addDemand(d *Demand, newest bool, now time.Time, ttl time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.policy == nil {
		return // removed in the meantime
	}
	d.Active = d.Active || r.inFlight(now, ttl) > 0
	for m, w := range &r.windows {
		if w == nil {
			continue
		}
		total, panicking, _ := w.Averages(now) // zeros without data
		metric := kpa.Metric(m)
		d.Active = d.Active || total > 0 && metric != kpa.CPU && metric != kpa.Memory
		if r.last.Panic {
			total = max(total, panicking)
		}
		for i := range d.Loads {
			if d.Loads[i].Metric == metric {
				d.Loads[i].Total += total
			}
		}
		if newest {
			d.Loads = append(d.Loads, Load{Metric: metric, Total: total})
		}
	}
	if newest {
		d.Loads = aimedAt(d.Loads, r.policy)
	}
}

// aimedAt keeps the loads that a policy has targets for, in its order.
func aimedAt(all []Load, p *kpa.Policy) []Load {
	loads := make([]Load, 0, len(p.Targets))
	for _, t := range p.Targets {
		for _, load := range all {
			if load.Metric == t.Metric {
				load.Target = t.Value
				loads = append(loads, load)
			}
		}
	}
	return loads
}

// Watch returns a channel that gets a value after each moment in which the demand of a service may have changed: a
// report, a decision, new settings, its end. Values that nobody has taken yet count once. The service, or a revision
// by its name, need not exist. The caller ends it with cancel.
func (l *Loop) Watch(service identity.Key) (changes <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	l.watches.add(service, c)
	return c, func() { l.watches.remove(service, c) }
}

// watches are who waits for news of which service. While nobody does, telling costs one load.
type watches struct {
	n  atomic.Int32
	mu sync.Mutex
	by map[identity.Key][]chan struct{} // guarded by mu
}

func (w *watches) add(k identity.Key, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = make(map[identity.Key][]chan struct{})
	}
	w.by[k] = append(w.by[k], c)
	w.n.Add(1)
}

func (w *watches) remove(k identity.Key, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.by[k], c)
	if i < 0 {
		return // cancelled before
	}
	w.by[k] = slices.Delete(w.by[k], i, i+1)
	if len(w.by[k]) == 0 {
		delete(w.by, k)
	}
	w.n.Add(-1)
}

// tell wakes those who watch a revision or its service. It does not block.
func (w *watches) tell(r *revision) {
	if w.n.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wake(r.id.Key())
	if r.serves != r.id.Key() {
		w.wake(r.serves)
	}
}

// wake is called with mu held.
func (w *watches) wake(k identity.Key) {
	for _, c := range w.by[k] {
		select {
		case c <- struct{}{}:
		default: // one that was not taken yet says the same
		}
	}
}

// Aims says whether decisions about a revision look at a metric now. It is false for one that the loop does not have.
func (l *Loop) Aims(id identity.Revision, m kpa.Metric) bool {
	r := l.find(id.Key())
	if r == nil || r.id != id {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.windows[m] != nil
}

// enlist files a revision under its service; the caller holds l.mu.
func (l *Loop) enlist(r *revision) { l.services[r.serves] = append(l.services[r.serves], r) }

// delist undoes enlist; the caller holds l.mu.
func (l *Loop) delist(r *revision) {
	left := slices.DeleteFunc(l.services[r.serves], func(o *revision) bool { return o == r })
	if len(left) == 0 {
		delete(l.services, r.serves)
		return
	}
	l.services[r.serves] = left
}

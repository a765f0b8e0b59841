package config

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rousehq/rouse/internal/identity"
)

// Cell holds the present snapshot of one revision. Hot paths keep the cell and load it per request: one atomic read.
type Cell struct{ p atomic.Pointer[Revision] }

// Load returns the present snapshot.
func (c *Cell) Load() *Revision { return c.p.Load() }

// Change tells a subscriber of a [Store] that a revision came (Old is nil), changed, or went (New is nil).
type Change struct {
	Old, New *Revision
}

// Store keeps the last valid snapshot of every revision and tells subscribers of each change. The zero value is
// ready; it is safe for concurrent use.
type Store struct {
	mu    sync.RWMutex
	cells map[identity.Revision]*Cell
	subs  map[int]func(Change)
	next  int

	order sync.Mutex // held over a change and its callbacks, so that all subscribers see one order; taken before mu
}

// Cell returns the revision's cell, or nil when the store does not have the revision.
func (s *Store) Cell(id identity.Revision) *Cell {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cells[id]
}

// Load returns the revision's present snapshot, or nil.
func (s *Store) Load(id identity.Revision) *Revision {
	if c := s.Cell(id); c != nil {
		return c.Load()
	}
	return nil
}

// All returns the present snapshot of every revision, in no order.
func (s *Store) All() []*Revision {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*Revision, 0, len(s.cells))
	for _, c := range s.cells {
		all = append(all, c.Load())
	}
	return all
}

// Swap puts a snapshot in force and returns the one before, nil for a new revision.
func (s *Store) Swap(next *Revision) (old *Revision) {
	s.order.Lock()
	defer s.order.Unlock()
	return s.swap(next)
}

func (s *Store) swap(next *Revision) (old *Revision) {
	s.mu.Lock()
	if s.cells == nil {
		s.cells = make(map[identity.Revision]*Cell)
	}
	c := s.cells[next.ID]
	if c == nil {
		c = &Cell{}
		s.cells[next.ID] = c
	}
	old = c.p.Swap(next)
	subs := s.subscribers()
	s.mu.Unlock()
	tell(subs, Change{Old: old, New: next})
	return old
}

// Update resolves an input and puts it in force. With faults nothing changes: the last valid snapshot stays. To
// change a setting that is not live on a revision that the store has is a fault too; the remedy is a new revision.
func (s *Store) Update(in Input) []Fault {
	next, faults := Resolve(in)
	if len(faults) > 0 {
		return faults
	}
	s.order.Lock()
	defer s.order.Unlock()
	if old := s.Load(in.ID); old != nil {
		for _, d := range Diff(old, next) {
			if !d.Live {
				faults = append(faults, Fault{Key: d.Key, Value: d.New, Where: d.Origin.Where,
					Allowed: fmt.Sprintf("%s on this revision; to change it, make a new revision", d.Old)})
			}
		}
	}
	if len(faults) == 0 {
		s.swap(next)
	}
	return faults
}

// Remove forgets a revision. To remove one that is not there does nothing.
func (s *Store) Remove(id identity.Revision) {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	c := s.cells[id]
	delete(s.cells, id)
	subs := s.subscribers()
	s.mu.Unlock()
	if c != nil {
		tell(subs, Change{Old: c.Load()})
	}
}

// Subscribe calls fn with every present revision before it returns, and then with every change, one at a time. fn
// must not block and must not change the store. Once cancel has returned, fn is not called again.
func (s *Store) Subscribe(fn func(Change)) (cancel func()) {
	s.order.Lock()
	defer s.order.Unlock()
	for _, rev := range s.All() {
		fn(Change{New: rev})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs == nil {
		s.subs = make(map[int]func(Change))
	}
	id := s.next
	s.next++
	s.subs[id] = fn
	return func() {
		s.order.Lock()
		defer s.order.Unlock()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, id)
	}
}

// subscribers returns the callbacks in the order of their subscription; the caller holds mu.
func (s *Store) subscribers() []func(Change) {
	ids := make([]int, 0, len(s.subs))
	for id := range s.subs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	fns := make([]func(Change), len(ids))
	for i, id := range ids {
		fns[i] = s.subs[id]
	}
	return fns
}

func tell(subs []func(Change), c Change) {
	for _, fn := range subs {
		fn(c)
	}
}

// Difference is one setting that differs between two snapshots.
type Difference struct {
	Key      string // bare name
	Old, New string
	Origin   *Origin // of the new value
	Live     bool
}

// Diff returns the settings whose values differ, in a fixed order. Where a value came from does not count.
func Diff(a, b *Revision) []Difference {
	var ds []Difference
	old := a.Values()
	for i, v := range b.Values() {
		if v.V != old[i].V {
			ds = append(ds, Difference{v.Name, fmt.Sprint(old[i].V), fmt.Sprint(v.V), v.Origin, Live(v.Name)})
		}
	}
	return ds
}

// Named is one setting of a revision, ready to be shown.
type Named struct {
	Name string
	Value[any]
}

func named[T any](name string, v Value[T]) Named {
	return Named{name, Value[any]{v.V, v.Origin}}
}

// Values returns every setting of the revision with its origin, in a fixed order.
func (rev *Revision) Values() []Named {
	s := &rev.Scaling
	return []Named{
		named("class", s.Class),
		named("metric", s.Metric),
		named("metric-aggregation-algorithm", s.Algorithm),
		named("target", s.Total),
		named("target-utilization-percentage", s.Utilization),
		named("target-burst-capacity", s.TargetBurstCapacity),
		named("min-scale", s.MinScale),
		named("max-scale", s.MaxScale),
		named("initial-scale", s.InitialScale),
		named("activation-scale", s.ActivationScale),
		named("window", s.StableWindow),
		named("panic-window-percentage", s.PanicWindowPercent),
		named("panic-threshold-percentage", s.PanicThresholdPercent),
		named("max-scale-up-rate", s.MaxScaleUpRate),
		named("max-scale-down-rate", s.MaxScaleDownRate),
		named("scale-down-delay", s.ScaleDownDelay),
		named("scale-to-zero-pod-retention-period", s.ScaleToZeroRetention),
		named("scale-to-zero-grace-period", s.ScaleToZeroGrace),
		named("enable-scale-to-zero", s.EnableScaleToZero),
		named("activator-capacity", s.ActivatorCapacity),
		named("burst", s.Burst),
		named("metrics", s.Metrics),
		named("schedule", s.Schedule),
		named("containerConcurrency", rev.ContainerConcurrency),
		named("timeoutSeconds", rev.Timeout),
		named("responseStartTimeoutSeconds", rev.ResponseStartTimeout),
		named("idleTimeoutSeconds", rev.IdleTimeout),
		named("queue-limit", rev.QueueLimit),
		named("queue-deadline", rev.QueueDeadline),
		named("progress-deadline", rev.ProgressDeadline),
		named("session-affinity", rev.SessionAffinity),
		named("zone-preference", rev.ZonePreference),
		named("outlier-ejection", rev.OutlierEjection),
		named("pod-probe", rev.PodProbe),
	}
}

package control

import (
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// SnapshotVersion is the version of Snapshot that this package writes and reads.
const SnapshotVersion = 1

// Snapshot is what a successor needs to decide as this loop would have: plain data for JSON.
type Snapshot struct {
	Version   int             `json:"version"`
	Taken     time.Time       `json:"taken"`
	Revisions []RevisionState `json:"revisions"`
}

// RevisionState is the part of a Snapshot about one revision.
type RevisionState struct {
	Revision identity.Revision                 `json:"revision"`
	State    kpa.State                         `json:"state"`
	Windows  map[string]metrics.WindowSnapshot `json:"windows"` // by the metric's name
	Learnt   kpa.Learner                       `json:"learnt"`
}

// Snapshot returns windows and state of every revision. It locks one revision at a time.
func (l *Loop) Snapshot() Snapshot {
	s := Snapshot{Version: SnapshotVersion, Taken: l.now()}
	for _, r := range l.all() {
		if one, ok := r.snapshot(); ok {
			s.Revisions = append(s.Revisions, one)
		}
	}
	return s
}

// Restore takes over what a predecessor knew. A revision that is here already takes it if it has no data of its own;
// one that is added later takes it then. A revision with another UID never does. A snapshot of another version is
// ignored: then the windows fill from the stream.
func (l *Loop) Restore(s Snapshot) {
	if s.Version != SnapshotVersion {
		return
	}
	for _, one := range s.Revisions {
		l.mu.Lock()
		r := l.revs[one.Revision.Key()]
		if r == nil || r.id != one.Revision {
			l.handover[one.Revision] = one
			r = nil
		}
		l.mu.Unlock()
		if r != nil {
			r.restore(one)
		}
	}
}

func (r *revision) snapshot() (RevisionState, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return RevisionState{}, false
	}
	s := RevisionState{
		Revision: r.id, State: r.state.Clone(), Windows: make(map[string]metrics.WindowSnapshot),
		Learnt: r.learnt,
	}
	for m, w := range &r.windows {
		if w != nil {
			s.Windows[kpa.Metric(m).String()] = w.Snapshot()
		}
	}
	return s, true
}

// restore takes over a predecessor's state unless load was recorded already: sources are never forgotten all at once.
func (r *revision) restore(s RevisionState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live && len(r.sources) == 0 {
		r.inherit(&s)
	}
}

// inherit replaces state and windows; the caller holds r.mu.
func (r *revision) inherit(s *RevisionState) {
	r.state = s.State.Clone()
	r.learnt = s.Learnt
	for m, w := range &r.windows {
		if saved, ok := s.Windows[kpa.Metric(m).String()]; ok && w != nil {
			w.Restore(saved)
		}
	}
}

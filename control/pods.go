package control

import (
	"cmp"
	"slices"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/metrics"
)

// sourceTTL is how long a producer that says nothing is remembered.
const sourceTTL = time.Minute

// source is the last report of one producer about one revision.
type source struct {
	pod      string  // Stat.PodName
	at       int64   // Unix nanoseconds of receipt
	inFlight float64 // that nobody else reports
	busy     float64 // all that is in it, what came through an activator too
}

// note remembers who has how much in flight, and what is learnt about the work; the caller holds r.mu.
func (r *revision) note(s *metrics.Stat, concurrency float64, now time.Time) {
	r.learnt.Worked(time.Duration(s.Extension.WorkSeconds * float64(time.Second)))
	i := slices.IndexFunc(r.sources, func(o source) bool { return o.pod == s.PodName })
	if i < 0 {
		r.sources = slices.DeleteFunc(r.sources, func(o source) bool { return now.UnixNano()-o.at > int64(sourceTTL) })
		r.sources = append(r.sources, source{pod: s.PodName})
		i = len(r.sources) - 1
	}
	r.sources[i] = source{
		pod: r.sources[i].pod, at: now.UnixNano(), inFlight: max(concurrency, s.Extension.Parked), busy: s.AverageConcurrency,
	}
}

// inFlight sums the last reports that are fresh enough to describe the present; the caller holds r.mu.
func (r *revision) inFlight(now time.Time, ttl time.Duration) (sum float64) {
	for i := range r.sources {
		if now.UnixNano()-r.sources[i].at <= int64(ttl) {
			sum += r.sources[i].inFlight
		}
	}
	return sum
}

// victims returns the n pods that should go: those that are not ready yet first, then the idlest, the youngest entry
// first among equals. A producer's report belongs to the pod whose UID it gives as its name. The caller holds r.mu.
func (r *revision) victims(n int) []string {
	type candidate struct {
		uid  string
		busy float64
	}
	var all []candidate
	for _, e := range r.pods.Endpoints {
		c := candidate{uid: e.Pod.UID}
		switch e.State {
		case endpoint.Draining:
			continue // goes already
		case endpoint.Starting:
			c.busy = -1
		case endpoint.Ready:
			if i := slices.IndexFunc(r.sources, func(s source) bool { return s.pod == e.Pod.UID }); i >= 0 {
				c.busy = r.sources[i].busy
			}
		}
		all = append(all, c)
	}
	slices.Reverse(all)
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.busy, b.busy) })
	uids := make([]string, 0, n)
	for _, c := range all[:min(max(n, 0), len(all))] {
		uids = append(uids, c.uid)
	}
	return uids
}

// setPods takes the present pods and learns from those that became ready.
func (r *revision) setPods(s endpoint.Snapshot, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready := s.Count(endpoint.Ready)
	if gained := ready - r.pods.Count(endpoint.Ready); gained > 0 {
		r.learnt.Ready(gained, now)
	}
	r.pods = s
}

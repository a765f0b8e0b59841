package control

import (
	"cmp"
	"slices"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/metrics"
)

const (
	// sourceTTL is how long a producer that says nothing is remembered.
	sourceTTL = time.Minute
	// lastWordTTL is how long it is when it had requests at last.
	lastWordTTL = time.Hour
)

// source is the last report of one producer about one revision.
type source struct {
	pod      string  // Stat.PodName
	at       int64   // Unix nanoseconds of receipt
	inFlight float64 // that nobody else reports
	queued   float64 // of them, those that wait for a slot, as of the end of the report
	parallel float64 // how many requests an event source could have under way; 0 for any other producer
	sidecar  bool    // the producer is a queue-proxy
	lagging  bool    // an event source that tells of lag
	extended bool    // the producer tells queued and parallel
	busy     float64 // all that is in it, what came through an activator too
	rate     float64 // requests per second that nobody else reports
}

// note remembers who has how much in flight, and what is learnt about the work; the caller holds r.mu.
func (r *revision) note(s *metrics.Stat, concurrency float64, now time.Time) {
	r.learnt.Worked(time.Duration(s.Extension.WorkSeconds * float64(time.Second)))
	i := slices.IndexFunc(r.sources, func(o source) bool { return o.pod == s.PodName })
	if i < 0 {
		r.sources = slices.DeleteFunc(r.sources, func(o source) bool { return r.forgotten(&o, now) })
		r.sources = append(r.sources, source{pod: s.PodName})
		i = len(r.sources) - 1
	}
	r.sources[i] = source{
		pod: r.sources[i].pod, at: now.UnixNano(), inFlight: max(concurrency, s.Extension.Parked), busy: s.AverageConcurrency,
		queued: s.Extension.QueueLength, parallel: s.Extension.Parallel,
		sidecar: s.ProcessUptime > 0, lagging: s.Extension.Lag > 0, extended: s.Extension.Version > 0, rate: s.RequestCount - s.ProxiedRequestCount,
	}
}

// forgotten says whether a silent source tells nothing any more. The caller holds r.mu.
func (r *revision) forgotten(s *source, now time.Time) bool {
	silent := time.Duration(now.UnixNano() - s.at)
	return silent > lastWordTTL || silent > sourceTTL && (s.inFlight == 0 || s.sidecar && r.pod(s.pod) == nil)
}

// pod returns the endpoint of a pod, nil when there is none. The caller holds r.mu.
func (r *revision) pod(uid string) *endpoint.Endpoint {
	for i := range r.pods.Endpoints {
		if r.pods.Endpoints[i].Pod.UID == uid {
			return &r.pods.Endpoints[i]
		}
	}
	return nil
}

// latest sums what the last reports that are fresh enough tell: requests per second, and requests that wait for a slot. The
// caller holds r.mu.
func (r *revision) latest(now time.Time, ttl time.Duration) (rate, waiting float64) {
	for i := range r.sources {
		if s := &r.sources[i]; now.UnixNano()-s.at <= int64(ttl) {
			rate += s.rate
			waiting += s.queued
		}
	}
	return max(rate, 0), waiting
}

// inFlight tells how many requests are in the system, by the last reports that are fresh enough; the caller holds r.mu.
// An average is too much of a queue that drains: where all producers tell what waits now, it is that and what the ready
// pods can have taken up.
func (r *revision) inFlight(now time.Time, ttl time.Duration) float64 {
	sum, queued, extended := 0.0, 0.0, true
	for i := range r.sources {
		s := &r.sources[i]
		if now.UnixNano()-s.at <= int64(ttl) {
			sum += s.inFlight
			queued += s.queued
			extended = extended && s.extended
		}
	}
	slots := float64(r.pods.Count(endpoint.Ready) * r.policy.ContainerConcurrency)
	if slots == 0 || !extended {
		return sum
	}
	if queued > 0 {
		return queued + slots
	}
	return min(sum, slots)
}

// ceiling sums how many requests the event sources could have under way, by the reports that are fresh enough; 0 when
// one of them does not tell. The caller holds r.mu.
func (r *revision) ceiling(now time.Time, ttl time.Duration) (sum float64) {
	for i := range r.sources {
		s := &r.sources[i]
		switch {
		case now.UnixNano()-s.at > int64(ttl):
		case s.lagging && s.parallel == 0:
			return 0
		default:
			sum += s.parallel
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

// setPods takes the present pods and learns from those that became ready. Each of them may change what a burst needs:
// then it returns when to decide, else zero.
func (r *revision) setPods(s endpoint.Snapshot, now time.Time) (soon time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready := s.Count(endpoint.Ready)
	gained := ready - r.pods.Count(endpoint.Ready)
	r.pods = s
	if gained <= 0 {
		return time.Time{}
	}
	r.learnt.Ready(gained, now)
	if !r.live || !r.state.Bursting() {
		return time.Time{}
	}
	return r.appoint(r.decided.Add(readyPause))
}

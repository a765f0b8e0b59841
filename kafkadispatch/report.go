package kafkadispatch

import (
	"time"

	"github.com/rousehq/rouse/metrics"
)

// beat is how often producers of reports speak: the control loop's windows have a sample for each second.
const beat = time.Second

// teller decides when to tell a demand.
type teller struct {
	f    func(Demand)
	last Demand
	at   time.Time
}

func (r *teller) tell(d Demand, now time.Time) {
	if d == r.last && (d.Lag == 0 || now.Sub(r.at) < beat) {
		return
	}
	r.last, r.at = d, now
	r.f(d)
}

// Reports makes the control loop's reports of a source's demands. It is not safe for concurrent use.
type Reports struct {
	// Pod names the source among the producers of reports about a revision.
	Pod string

	sequence uint64
	lag      time.Time // when the lag was told last
	had      bool      // whether there was work at the last report
}

// Stat returns what to tell the revision that the sink is. The control loop adds up what producers say within a
// second: so the lag is told once in each, and a request that is on its way counts as one only in the report that
// wakes a revision, before the activator has seen it.
func (s *Reports) Stat(d Demand, now time.Time) metrics.Stat {
	s.sequence++
	out := metrics.Stat{PodName: s.Pod, Timestamp: now.Unix(), Extension: metrics.Extension{
		Version: metrics.ExtensionVersion, Producer: s.Pod, Sequence: s.sequence, Parallel: float64(d.Parallel),
	}}
	if now.Sub(s.lag) >= beat {
		s.lag = now
		out.Extension.Lag = float64(d.Lag)
	}
	if d.Lag > 0 && !s.had {
		out.AverageConcurrency = 1
	}
	s.had = d.Lag > 0
	return out
}

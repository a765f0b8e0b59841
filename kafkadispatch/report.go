package kafkadispatch

import (
	"sync"
	"time"

	"github.com/rousehq/rouse/metrics"
)

// beat is how often producers of reports speak: the control loop's windows have a sample for each second.
const beat = time.Second

// teller decides when to tell a demand.
type teller struct {
	mu   sync.Mutex
	f    func(Demand)
	last Demand    // guarded by mu
	at   time.Time // guarded by mu
}

// tell is called with every look at the demand.
func (r *teller) tell(d Demand, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d == r.last && (d.Lag == 0 || now.Sub(r.at) < beat) {
		return
	}
	r.last, r.at = d, now
	r.f(d)
}

// resting says whether the last that was told is that there is no work.
func (r *teller) resting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last.Lag == 0
}

// forget makes the next look count as the first: what was told does not hold any more.
func (r *teller) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = Demand{}
}

// Reports makes the control loop's reports of a source's demands. It is not safe for concurrent use.
type Reports struct {
	// Pod names the source among the producers of reports about a revision.
	Pod string

	sequence uint64
	lag      time.Time // when the lag was told last
}

// Stat returns what to tell the revision that the sink is. The control loop adds up what producers say within a second,
// so that the lag is told once in each. Requests are not counted here: the activator sees them.
func (s *Reports) Stat(d Demand, now time.Time) metrics.Stat {
	s.sequence++
	out := metrics.Stat{PodName: s.Pod, Timestamp: now.Unix(), Extension: metrics.Extension{
		Version: metrics.ExtensionVersion, Producer: s.Pod, Sequence: s.sequence, Parallel: float64(d.Parallel),
	}}
	if now.Sub(s.lag) >= beat {
		s.lag = now
		out.Extension.Lag = float64(d.Lag)
	}
	return out
}

package simulate

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/rousehq/rouse/control/kpa"
)

// Report is the outcome of a simulation. Its JSON is stable: durations are seconds.
type Report struct {
	Label string  `json:"label"`
	Total Totals  `json:"total"`
	Rows  []Row   `json:"rows"`
	Every Seconds `json:"rowSeconds"`
	// Decisions are all decisions, when they were asked for.
	Decisions []Point `json:"decisions,omitempty"`
	// Recorded compares the decisions with those of the recording that was played, if it had any.
	Recorded *Match `json:"recorded,omitempty"`
}

// Seconds is a time in seconds.
type Seconds float64

// Latency is percentiles of the time from arrival to the end of the answer, in seconds.
type Latency struct {
	P50 Seconds `json:"p50"`
	P95 Seconds `json:"p95"`
	P99 Seconds `json:"p99"`
	Max Seconds `json:"max"`
}

// Totals are over the whole time.
type Totals struct {
	Seconds  Seconds `json:"seconds"`
	Requests int     `json:"requests"`
	Answered int     `json:"answered"`
	// Rejected found the queue full, Expired waited longer than the deadline.
	Rejected int     `json:"rejected"`
	Expired  int     `json:"expired"`
	Latency  Latency `json:"latency"`
	// PodSeconds is how long pods existed, starting and draining ones too, until the end of the load.
	PodSeconds Seconds `json:"podSeconds"`
	// PodsStarted were asked for, PodsUsed answered at least one request, PodsMost existed at the same time.
	PodsStarted int `json:"podsStarted"`
	PodsUsed    int `json:"podsUsed"`
	PodsMost    int `json:"podsMost"`
	// ColdStarts is how often a request met no pod and none on its way.
	ColdStarts int `json:"coldStarts"`
	QueueMost  int `json:"queueMost"`
	Decisions  int `json:"decisions"`
	Panics     int `json:"panics"`
}

// Row is one interval.
type Row struct {
	At         Seconds `json:"at"`
	Arrived    int     `json:"arrived"`
	Answered   int     `json:"answered"`
	Failed     int     `json:"failed"` // rejected and expired
	ColdStarts int     `json:"coldStarts"`
	Started    int     `json:"started"` // pods asked for
	// Desired is the last number of pods that was wanted, Ready how many were ready at the end, Pods the average that
	// existed.
	Desired   int     `json:"desired"`
	Ready     int     `json:"ready"`
	Pods      float64 `json:"pods"`
	QueueMost int     `json:"queueMost"`
	Latency   Latency `json:"latency"`
}

// Point is one decision.
type Point struct {
	At      Seconds `json:"at"`
	Desired int     `json:"desired"`
	Ready   int     `json:"ready"`
	Limit   string  `json:"limit"`
	Panic   bool    `json:"panic,omitempty"`
}

// Match says how far the simulated number of pods was from the recorded one, over the decisions of the recording.
type Match struct {
	Decisions int     `json:"decisions"`
	Worst     int     `json:"worst"`
	WorstAt   Seconds `json:"worstAt"`
	// Apart counts the decisions that differ by more than one pod.
	Apart int `json:"apart"`
}

// Histograms hold microseconds up to an hour, the total with three digits, the rows with two.
const (
	leastMicros = 1
	mostMicros  = int64(time.Hour / time.Microsecond)
)

// tally collects the report while the simulation runs.
type tally struct {
	cfg       *Config
	rep       Report
	all       *hdrhistogram.Histogram
	some      *hdrhistogram.Histogram // of the present row
	every     int64
	rowEnds   int64
	row       Row
	rowArea   int64 // pod-nanoseconds
	area      int64
	inService int
	panicking bool
	rowUsed   bool
}

func newTally(cfg *Config) *tally {
	t := &tally{
		cfg:   cfg,
		all:   hdrhistogram.New(leastMicros, mostMicros, 3),
		some:  hdrhistogram.New(leastMicros, mostMicros, 2),
		every: max(int64(cfg.Duration)/int64(cfg.Rows), 1),
	}
	t.rowEnds = t.every
	t.rep.Label = cfg.Label
	t.rep.Every = toSeconds(t.every)
	return t
}

// advance accounts for the time up to an instant and closes the rows that end before it.
func (t *tally) advance(s *sim, to int64) {
	from := s.now
	for to >= t.rowEnds && len(t.rep.Rows) < t.cfg.Rows-1 {
		t.exist(s, from, t.rowEnds)
		from = t.rowEnds
		t.closeRow(s)
	}
	t.exist(s, from, to)
}

// exist adds the pods between two instants.
func (t *tally) exist(s *sim, from, to int64) {
	to = min(to, s.end)
	if to <= from {
		return
	}
	a := (to - from) * int64(s.fleet.existing())
	t.rowArea += a
	t.area += a
}

func (t *tally) closeRow(s *sim) {
	t.row.At = toSeconds(t.rowEnds - t.every)
	t.row.Ready = s.fleet.ready
	t.row.Desired = s.replicas
	t.row.Pods = float64(t.rowArea) / float64(t.every)
	t.row.Latency = latency(t.some)
	t.row.QueueMost = max(t.row.QueueMost, s.queue.n)
	t.rep.Rows = append(t.rep.Rows, t.row)
	t.row, t.rowArea = Row{}, 0
	if t.rowUsed {
		t.some.Reset()
		t.rowUsed = false
	}
	t.rowEnds += t.every
}

func (t *tally) arrived()  { t.row.Arrived++; t.rep.Total.Requests++ }
func (t *tally) rejected() { t.row.Failed++; t.rep.Total.Rejected++ }
func (t *tally) expired()  { t.row.Failed++; t.rep.Total.Expired++ }

func (t *tally) queued(n int) {
	t.row.QueueMost = max(t.row.QueueMost, n)
	t.rep.Total.QueueMost = max(t.rep.Total.QueueMost, n)
}

// began notes a request that will be answered after that long in all.
func (t *tally) began(total int64) {
	micros := min(max(total/int64(time.Microsecond), leastMicros), mostMicros)
	// A value within the bounds is always recorded.
	_ = t.all.RecordValue(micros)
	_ = t.some.RecordValue(micros)
	t.rowUsed = true
	t.inService++
	t.row.Answered++
	t.rep.Total.Answered++
}

func (t *tally) ended()       { t.inService-- }
func (t *tally) podAsked()    { t.row.Started++; t.rep.Total.PodsStarted++ }
func (t *tally) firstAnswer() { t.rep.Total.PodsUsed++ }
func (t *tally) coldStart()   { t.row.ColdStarts++; t.rep.Total.ColdStarts++ }

func (t *tally) decided(s *sim, d kpa.Decision) {
	total := &t.rep.Total
	total.Decisions++
	total.PodsMost = max(total.PodsMost, s.fleet.existing())
	if d.Panic && !t.panicking {
		total.Panics++
	}
	t.panicking = d.Panic
	if t.cfg.KeepDecisions || t.recording() != nil {
		t.rep.Decisions = append(t.rep.Decisions, Point{toSeconds(s.now), s.replicas, s.fleet.ready,
			d.Reasons.Limit.String(), d.Panic})
	}
}

func (t *tally) recording() *Recording {
	if rec := t.cfg.Load.Recording; rec != nil && len(rec.Decisions) > 0 {
		return rec
	}
	return nil
}

func (t *tally) report(s *sim) Report {
	t.closeRow(s)
	t.rep.Total.Seconds = toSeconds(s.end)
	t.rep.Total.PodSeconds = toSeconds(t.area)
	t.rep.Total.Latency = latency(t.all)
	if rec := t.recording(); rec != nil {
		t.rep.Recorded = match(rec.Decisions, t.rep.Decisions)
	}
	if !t.cfg.KeepDecisions {
		t.rep.Decisions = nil
	}
	return t.rep
}

// clockTolerance is how far apart the clocks of a run and of its replay may be.
const clockTolerance = Seconds(0.1)

// match compares at each recorded decision with what was wanted around that time.
func match(recorded []RecordedDecision, simulated []Point) *Match {
	m := &Match{Decisions: len(recorded)}
	next, pods := 0, 0
	for _, want := range recorded {
		at := toSeconds(int64(want.At))
		for next < len(simulated) && simulated[next].At < at-clockTolerance {
			pods = simulated[next].Desired
			next++
		}
		diff := apart(pods, want.Pods)
		for i := next; i < len(simulated) && simulated[i].At <= at+clockTolerance; i++ {
			diff = min(diff, apart(simulated[i].Desired, want.Pods))
		}
		if diff > 1 {
			m.Apart++
		}
		if diff > m.Worst {
			m.Worst, m.WorstAt = diff, at
		}
	}
	return m
}

func apart(a, b int) int { return max(a-b, b-a) }

func latency(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(q float64) Seconds { return toSeconds(h.ValueAtQuantile(q) * int64(time.Microsecond)) }
	return Latency{P50: at(50), P95: at(95), P99: at(99), Max: toSeconds(h.Max() * int64(time.Microsecond))}
}

func toSeconds(nanos int64) Seconds { return Seconds(float64(nanos) / 1e9) }

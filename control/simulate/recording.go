package simulate

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A recording is a CSV file of what happened to one revision, one line per event, the kind first; seconds count from
// the start of the recording. Lines may be out of order, since requests are written when they end.
//
//	rouse-recording,1
//	request,12.345678,0.050123    arrived at, worked on for
//	start,12.350000,0.412000      pod started at, ready after
//	decision,12.346100,3,0        decided at, pods wanted from now on, pods ready then
//	report,13.000000              the activator told its load at
//
// Only decisions that change the number of pods need to be there, and only a few reports: they tell when in the second
// the reports fall.
//
// Readers skip kinds that they do not know; the number in the first line changes when known kinds change.
const (
	recordingMagic   = "rouse-recording"
	recordingVersion = "1"
)

// Recording is a real run.
type Recording struct {
	Requests  []RecordedRequest  // by arrival
	Starts    []RecordedStart    // by the time they were asked for
	Decisions []RecordedDecision // by time
	Reports   []time.Duration    // by time
}

// RecordedRequest is one request.
type RecordedRequest struct {
	At, Work time.Duration
}

// RecordedStart is a pod that became ready.
type RecordedStart struct {
	At, Took time.Duration
}

// RecordedDecision is a number of pods that was asked for, when so many were ready.
type RecordedDecision struct {
	At          time.Duration
	Pods, Ready int
}

func (r *Recording) length() time.Duration {
	var end time.Duration
	if n := len(r.Requests); n > 0 {
		end = r.Requests[n-1].At + 1
	}
	if n := len(r.Decisions); n > 0 {
		end = max(end, r.Decisions[n-1].At+1)
	}
	return end
}

// phases returns when the first periodic decision and the first report fall, so that a replay looks at the load at the
// moments at which the real loop did. A decision that wakes a revision without pods is made at any time and tells nothing.
func (r *Recording) phases() (tick, report int64) {
	tick, report = decideEvery, reportEvery
	for i := 1; i < len(r.Decisions); i++ {
		if r.Decisions[i-1].Pods > 0 {
			tick = int64(r.Decisions[i].At) % decideEvery
			break
		}
	}
	if phase, ok := r.reportPhase(); ok {
		report = phase
	}
	return tick, report
}

// reportPhase returns when in the second most reports fall: the first one of an idle revision comes at any time.
func (r *Recording) reportPhase() (phase int64, ok bool) {
	const parts = 20
	var count [parts]int
	most := 0
	for _, at := range r.Reports {
		rest := int64(at) % reportEvery
		part := int(rest * parts / reportEvery)
		if count[part]++; count[part] > most {
			most, phase, ok = count[part], rest, true
		}
	}
	return phase, ok
}

// decisionNear returns when the recording decided around an instant, or that instant.
func (r *Recording) decisionNear(at int64) int64 {
	tolerance := time.Duration(float64(clockTolerance) * float64(time.Second))
	i, _ := slices.BinarySearchFunc(r.Decisions, time.Duration(at)-tolerance,
		func(d RecordedDecision, t time.Duration) int { return cmp.Compare(d.At, t) })
	if i < len(r.Decisions) && r.Decisions[i].At <= time.Duration(at)+tolerance {
		return int64(r.Decisions[i].At)
	}
	return at
}

// startDelays returns, for each start, how long after the decision that asked for it the pod was ready. Where starts
// queue up, that is longer than the start itself.
func (r *Recording) startDelays() []time.Duration {
	delays := make([]time.Duration, len(r.Starts))
	next := 0
	var asked time.Duration
	for i, start := range r.Starts {
		for next < len(r.Decisions) && r.Decisions[next].At <= start.At {
			asked = r.Decisions[next].At
			next++
		}
		delays[i] = start.Took
		if next > 0 {
			delays[i] = start.At + start.Took - asked
		}
	}
	return delays
}

// initialPods is how many pods were asked for before anything was decided or arrived.
func (r *Recording) initialPods() int {
	n := 0
	for _, start := range r.Starts {
		before := len(r.Decisions) == 0 || start.At < r.Decisions[0].At
		if before && (len(r.Requests) == 0 || start.At < r.Requests[0].At) {
			n++
		}
	}
	return n
}

// ReadRecording reads what a Recorder wrote. It names the line of the first fault.
func ReadRecording(r io.Reader) (*Recording, error) {
	in := csv.NewReader(bufio.NewReader(r))
	in.FieldsPerRecord, in.ReuseRecord = -1, true
	head, err := in.Read()
	if err != nil || len(head) < 2 || head[0] != recordingMagic {
		return nil, fmt.Errorf("recording: the first line is not %q", recordingMagic+","+recordingVersion)
	}
	if head[1] != recordingVersion {
		return nil, fmt.Errorf("recording: version %q is not known, only %s is", head[1], recordingVersion)
	}
	rec := &Recording{}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = rec.add(row)
		}
		if err != nil {
			line, _ := in.FieldPos(0)
			return nil, fmt.Errorf("recording, line %d: %w", line, err)
		}
	}
	slices.SortStableFunc(rec.Requests, func(a, b RecordedRequest) int { return cmp.Compare(a.At, b.At) })
	slices.SortStableFunc(rec.Starts, func(a, b RecordedStart) int { return cmp.Compare(a.At, b.At) })
	slices.SortStableFunc(rec.Decisions, func(a, b RecordedDecision) int { return cmp.Compare(a.At, b.At) })
	slices.Sort(rec.Reports)
	return rec, nil
}

func (r *Recording) add(row []string) error {
	f := fields{row: row[1:]}
	switch row[0] {
	case "request":
		r.Requests = append(r.Requests, RecordedRequest{At: f.seconds(0), Work: f.seconds(1)})
	case "start":
		r.Starts = append(r.Starts, RecordedStart{At: f.seconds(0), Took: f.seconds(1)})
	case "decision":
		r.Decisions = append(r.Decisions, RecordedDecision{At: f.seconds(0), Pods: f.count(1), Ready: f.count(2)})
	case "report":
		r.Reports = append(r.Reports, f.seconds(0))
	}
	return f.err
}

// fields reads the columns of a row and keeps the first error.
type fields struct {
	row []string
	err error
}

func (f *fields) text(i int) string {
	if i < len(f.row) {
		return f.row[i]
	}
	f.fail(errors.New("a column is missing"))
	return "0"
}

func (f *fields) seconds(i int) time.Duration {
	v, err := strconv.ParseFloat(f.text(i), 64)
	if err == nil && !(v >= 0 && v <= maxDuration.Seconds()) {
		err = fmt.Errorf("%v is not in [0, %v] seconds", v, maxDuration.Seconds())
	}
	f.fail(err)
	return time.Duration(v * float64(time.Second))
}

func (f *fields) count(i int) int {
	v, err := strconv.Atoi(f.text(i))
	if err == nil && (v < 0 || v > 1<<20) {
		err = fmt.Errorf("%d is no number of pods", v)
	}
	f.fail(err)
	return v
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// Epoch is when the virtual time of Run begins: the start of a Recorder for Config.Recorder.
func Epoch() time.Time { return epoch }

// Recorder writes a recording. It is safe for concurrent use. Close it, or the end is missing.
type Recorder struct {
	start time.Time

	mu  sync.Mutex // guards the rest
	out *bufio.Writer
	buf []byte
	err error
}

// NewRecorder begins a recording at start. It writes to w through a buffer.
func NewRecorder(w io.Writer, start time.Time) *Recorder {
	r := &Recorder{start: start, out: bufio.NewWriter(w)}
	_, r.err = r.out.WriteString(recordingMagic + "," + recordingVersion + "\n")
	return r
}

// Request notes a request that arrived then and was worked on for that long, without the time that it waited.
func (r *Recorder) Request(arrived time.Time, work time.Duration) {
	r.line("request", arrived, secondsOf(work))
}

// Start notes that a pod which was asked for then became ready after that long.
func (r *Recorder) Start(asked time.Time, took time.Duration) {
	r.line("start", asked, secondsOf(took))
}

// Decision notes a decision that changes the number of pods, when so many were ready.
func (r *Recorder) Decision(at time.Time, pods, ready int) {
	r.line("decision", at, strconv.Itoa(pods), strconv.Itoa(ready))
}

// Report notes that the activator told its load then.
func (r *Recorder) Report(at time.Time) { r.line("report", at) }

func (r *Recorder) line(kind string, at time.Time, rest ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = append(append(r.buf[:0], kind...), ',')
	r.buf = strconv.AppendFloat(r.buf, max(0, at.Sub(r.start).Seconds()), 'f', 6, 64)
	for _, text := range rest {
		r.buf = append(append(r.buf, ','), text...)
	}
	r.buf = append(r.buf, '\n')
	if r.err == nil {
		_, r.err = r.out.Write(r.buf)
	}
}

// Close writes what is left and returns the first error of the recording. It does not close the writer.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = r.out.Flush()
	}
	return r.err
}

func secondsOf(d time.Duration) string { return strconv.FormatFloat(max(0, d.Seconds()), 'f', 6, 64) }

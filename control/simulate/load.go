package simulate

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Load is what arrives: a curve, bursts on top of it, or a recording, which excludes both.
type Load struct {
	// Rates are requests per second, one value for each second from the start. Arrivals are random around them: a
	// Poisson process.
	Rates []float64
	// Bursts arrive all at once, in the order of time.
	Bursts []Burst
	// Recording is a real run to play again.
	Recording *Recording
}

// Burst is many requests at one instant.
type Burst struct {
	At       time.Duration
	Requests int
}

func (l *Load) length() time.Duration {
	if l.Recording != nil {
		return l.Recording.length()
	}
	d := time.Duration(len(l.Rates)) * time.Second
	if n := len(l.Bursts); n > 0 {
		d = max(d, l.Bursts[n-1].At+time.Second)
	}
	return d
}

// Shape describes a load in a few numbers.
type Shape struct {
	// Kind is sine, step, spiky or burst.
	Kind string
	// Rate is the average in requests per second; for burst it is the number of requests of each burst.
	Rate float64
	// Period is the length of a wave, a round of steps, the time between spikes or between bursts.
	Period time.Duration
	// Duration is how long the load lasts.
	Duration time.Duration
	// Seed places the spikes.
	Seed uint64
}

// Load returns the load of the shape. It fails when the kind is not known or a number makes no sense.
func (s Shape) Load() (Load, error) {
	var errs []error
	if !(s.Rate >= 0 && s.Rate <= 1e7) {
		errs = append(errs, fmt.Errorf("rate %v: allowed is [0, 1e7]", s.Rate))
	}
	if s.Period < time.Second {
		errs = append(errs, fmt.Errorf("period %v: allowed is 1s and more", s.Period))
	}
	if s.Duration < time.Second || s.Duration > maxDuration {
		errs = append(errs, fmt.Errorf("duration %v: allowed is [1s, %v]", s.Duration, maxDuration))
	}
	if err := errors.Join(errs...); err != nil {
		return Load{}, err
	}
	seconds := int(s.Duration / time.Second)
	switch s.Kind {
	case "sine":
		return s.curve(seconds, func(x float64) float64 { return 1 - math.Cos(2*math.Pi*x) }), nil
	case "step":
		// A quiet quarter, a normal one, one at double load, and normal again.
		return s.curve(seconds, func(x float64) float64 { return [...]float64{0, 1, 2, 1}[int(x*4)%4] }), nil
	case "spiky":
		return s.spiky(seconds), nil
	case "burst":
		return s.bursts(seconds), nil
	}
	return Load{}, fmt.Errorf("shape %q: allowed are burst, sine, step, spiky", s.Kind)
}

// curve evaluates f, whose mean is 1 over [0, 1), over and over.
func (s Shape) curve(seconds int, f func(float64) float64) Load {
	rates := make([]float64, seconds)
	for i := range rates {
		_, phase := math.Modf(float64(i) / s.Period.Seconds())
		rates[i] = s.Rate * f(phase)
	}
	return Load{Rates: rates}
}

// spiky is a tenth of the load as a base, and the rest in spikes of a tenth of the period at random times.
func (s Shape) spiky(seconds int) Load {
	const base, share = 0.1, 0.1
	r := stream(s.Seed, streamShape)
	rates := make([]float64, seconds)
	width := max(1, int(s.Period.Seconds()*share))
	for i := range rates {
		rates[i] = s.Rate * base
	}
	height := s.Rate * (1 - base) * s.Period.Seconds() / float64(width)
	for at := 0.0; at < float64(seconds); at += r.ExpFloat64() * s.Period.Seconds() {
		for i := int(at); i < min(int(at)+width, seconds); i++ {
			rates[i] += height
		}
	}
	return Load{Rates: rates}
}

func (s Shape) bursts(seconds int) Load {
	l := Load{Rates: make([]float64, seconds)}
	// The first one comes after a moment, so that a report shows the quiet before it.
	for at := min(5*time.Second, s.Period/2); at < s.Duration; at += s.Period {
		l.Bursts = append(l.Bursts, Burst{At: at, Requests: int(s.Rate)})
	}
	return l
}

// ReadCurve reads a CSV of two columns, seconds from the start and requests per second; each rate lasts until the next
// row, and the last one for as long as the one before it. Empty lines, lines with # and a heading are skipped.
func ReadCurve(r io.Reader) (Load, error) {
	in := csv.NewReader(r)
	in.Comment, in.FieldsPerRecord, in.TrimLeadingSpace = '#', -1, true
	var at, rates []float64
	heading := ""
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Load{}, fmt.Errorf("load curve: %w", err)
		}
		line, _ := in.FieldPos(0)
		t, rate, err := curveRow(row)
		if len(at) == 0 && line == 1 && !isNumber(row[0]) {
			heading = strings.Join(row, ",")
			continue
		}
		if err == nil && len(at) > 0 && t <= at[len(at)-1] {
			err = errors.New("the seconds do not ascend")
		}
		if err != nil {
			return Load{}, fmt.Errorf("load curve, line %d: %w", line, err)
		}
		at, rates = append(at, t), append(rates, rate)
	}
	if heading != "" && len(at) == 0 {
		return Load{}, fmt.Errorf("load curve: no rows follow the heading %q: write lines of seconds, requests per second", heading)
	}
	return curveOf(at, rates)
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return err == nil || errors.Is(err, strconv.ErrRange)
}

func curveRow(row []string) (t, rate float64, err error) {
	if len(row) < 2 {
		return 0, 0, errors.New("want two columns: seconds, requests per second")
	}
	t, err = strconv.ParseFloat(strings.TrimSpace(row[0]), 64)
	if err == nil {
		rate, err = strconv.ParseFloat(strings.TrimSpace(row[1]), 64)
	}
	if err == nil && !(t >= 0 && t <= maxDuration.Seconds() && rate >= 0 && rate <= 1e7) {
		err = fmt.Errorf("%v, %v: allowed are [0, %v] seconds and [0, 1e7] requests per second", t, rate,
			maxDuration.Seconds())
	}
	return t, rate, err
}

func curveOf(at, rates []float64) (Load, error) {
	n := len(at)
	if n == 0 {
		return Load{}, errors.New("load curve: no rows")
	}
	end := at[n-1] + 60
	if n > 1 {
		end = at[n-1] + at[n-1] - at[n-2]
	}
	l := Load{Rates: make([]float64, int(math.Ceil(min(end, maxDuration.Seconds()))))}
	row := -1
	for i := range l.Rates {
		for row+1 < n && at[row+1] <= float64(i) {
			row++
		}
		if row >= 0 {
			l.Rates[i] = rates[row]
		}
	}
	return l, nil
}

// arrival is one request to come.
type arrival struct {
	at   int64 // nanoseconds from the start
	work int64 // nanoseconds, -1 when it is to be drawn
}

// arrivals yields a load's requests in the order of time.
type arrivals struct {
	load   *Load
	rng    *rand.Rand
	end    int64
	second int     // of the curve
	at     float64 // seconds: the last arrival of the curve
	curve  int64   // the next one, -1 when there is none
	bursts []Burst
	left   int // of the burst under way
	played int // of the recording
}

func newArrivals(l *Load, end time.Duration, seed uint64) *arrivals {
	a := &arrivals{load: l, rng: stream(seed, streamArrivals), end: int64(end), bursts: l.Bursts}
	a.advance()
	return a
}

// next returns the next request; ok is false at the end of the load.
func (a *arrivals) next() (arr arrival, ok bool) {
	if rec := a.load.Recording; rec != nil {
		return a.replay(rec)
	}
	if len(a.bursts) > 0 && (a.curve < 0 || int64(a.bursts[0].At) <= a.curve) {
		return a.burst()
	}
	if a.curve < 0 || a.curve >= a.end {
		return arrival{}, false
	}
	at := a.curve
	a.advance()
	return arrival{at, -1}, true
}

func (a *arrivals) replay(rec *Recording) (arrival, bool) {
	if a.played == len(rec.Requests) || int64(rec.Requests[a.played].At) >= a.end {
		return arrival{}, false
	}
	q := rec.Requests[a.played]
	a.played++
	return arrival{int64(q.At), int64(q.Work)}, true
}

func (a *arrivals) burst() (arrival, bool) {
	b := a.bursts[0]
	if int64(b.At) >= a.end {
		a.bursts = nil
		return a.next()
	}
	if a.left == 0 {
		a.left = b.Requests
	}
	if a.left--; a.left <= 0 {
		a.left = 0
		a.bursts = a.bursts[1:]
	}
	if b.Requests <= 0 {
		return a.next()
	}
	return arrival{int64(b.At), -1}, true
}

// advance finds the next arrival of the curve: what is left of an exponential step is carried over to the next
// second's rate, which keeps the process exact at the borders.
func (a *arrivals) advance() {
	step := a.rng.ExpFloat64()
	for a.second < len(a.load.Rates) {
		rate := a.load.Rates[a.second]
		rest := float64(a.second+1) - a.at
		if step < rate*rest {
			a.at += step / rate
			a.curve = int64(a.at * 1e9)
			return
		}
		step -= rate * rest
		a.second++
		a.at = float64(a.second)
	}
	a.curve = -1
}

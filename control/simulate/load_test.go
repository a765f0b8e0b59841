package simulate_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rousehq/rouse/control/simulate"
)

func TestShapesHaveTheirRate(t *testing.T) {
	for _, kind := range []string{"sine", "step", "spiky"} {
		l, err := simulate.Shape{Kind: kind, Rate: 20, Period: 10 * time.Minute, Duration: 48 * time.Hour, Seed: 3}.Load()
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, r := range l.Rates {
			sum += r
		}
		if mean := sum / float64(len(l.Rates)); math.Abs(mean-20) > 1.5 {
			t.Errorf("%s: %v requests per second on average, want 20", kind, mean)
		}
	}
	l, err := simulate.Shape{Kind: "burst", Rate: 50, Period: time.Minute, Duration: 3 * time.Minute}.Load()
	if err != nil || len(l.Bursts) != 3 || l.Bursts[2] != (simulate.Burst{At: 125 * time.Second, Requests: 50}) {
		t.Errorf("burst: %+v, %v, want three bursts of 50", l.Bursts, err)
	}
}

func TestShapeFaults(t *testing.T) {
	good := simulate.Shape{Kind: "sine", Rate: 1, Period: time.Minute, Duration: time.Minute}
	for name, spoil := range map[string]func(*simulate.Shape){
		"shape":    func(s *simulate.Shape) { s.Kind = "square" },
		"rate":     func(s *simulate.Shape) { s.Rate = math.NaN() },
		"period":   func(s *simulate.Shape) { s.Period = 0 },
		"duration": func(s *simulate.Shape) { s.Duration = -1 },
	} {
		s := good
		spoil(&s)
		if _, err := s.Load(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Load of a bad %s = %v, want an error that names it", name, err)
		}
	}
}

func TestReadCurve(t *testing.T) {
	got, err := simulate.ReadCurve(strings.NewReader("seconds,rps\n# quiet\n1, 5\n3,10\n"))
	if diff := cmp.Diff([]float64{0, 5, 5, 10, 10}, got.Rates); diff != "" || err != nil {
		t.Errorf("ReadCurve: %v\n%s", err, diff)
	}
	for name, in := range map[string]string{
		"line 2":         "0,1\nx,2\n",
		"do not ascend":  "0,1\n0,2\n",
		"two columns":    "0,1\n5\n",
		"no rows":        "seconds,rps\n",
		"allowed are":    "0,-1\n1,2\n",
		"extraneous":     "0,1\n\"a\"b,2\n",
		"line 1: ":       "1e999,1\n",
		"invalid syntax": "0,1\n1,abc\n",
	} {
		if _, err := simulate.ReadCurve(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("ReadCurve(%q) = %v, want an error with %q", in, err, name)
		}
	}
}

func TestRecordingRoundTrip(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * 1e9)) }
	var b bytes.Buffer
	r := simulate.NewRecorder(&b, start)
	r.Request(at(2), 30*time.Millisecond)
	r.Request(at(1.5), 500*time.Millisecond) // ended later, arrived earlier
	r.Start(at(1.6), 400*time.Millisecond)
	r.Decision(at(1.6), 3, 0)
	r.Report(at(2.25))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	b.WriteString("later,1,2,3\n")
	got, err := simulate.ReadRecording(&b)
	if err != nil {
		t.Fatal(err)
	}
	want := &simulate.Recording{
		Requests: []simulate.RecordedRequest{
			{At: 1500 * time.Millisecond, Work: 500 * time.Millisecond}, {At: 2 * time.Second, Work: 30 * time.Millisecond}},
		Starts:    []simulate.RecordedStart{{At: 1600 * time.Millisecond, Took: 400 * time.Millisecond}},
		Decisions: []simulate.RecordedDecision{{At: 1600 * time.Millisecond, Pods: 3}},
		Reports:   []time.Duration{2250 * time.Millisecond},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ReadRecording (-want +got):\n%s", diff)
	}
}

func TestRecordingFaults(t *testing.T) {
	for in, want := range map[string]string{
		"":                                        "first line",
		"time,rps\n":                              "first line",
		"rouse-recording,9\n":                     "version",
		"rouse-recording,1\nrequest,1\n":          "line 2",
		"rouse-recording,1\nrequest,1,x\n":        "line 2",
		"rouse-recording,1\n\nrequest,-1,2\n":     "line 3",
		"rouse-recording,1\ndecision,1,-4,0\n":    "number of pods",
		"rouse-recording,1\nrequest,NaN,2\n":      "seconds",
		"rouse-recording,1\ndecision,1,5000000\n": "number of pods",
	} {
		if _, err := simulate.ReadRecording(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadRecording(%q) = %v, want an error with %q", in, err, want)
		}
	}
}

func TestDistributions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for in, mean := range map[string]time.Duration{
		"50ms": 50 * time.Millisecond, "exp:50ms": 50 * time.Millisecond, "uniform:10ms-90ms": 50 * time.Millisecond,
		"lognormal:50ms,0": 50 * time.Millisecond, "0s": 0,
	} {
		d, err := simulate.ParseDistribution(in)
		if err != nil {
			t.Errorf("ParseDistribution(%q): %v", in, err)
			continue
		}
		if d.String() != in {
			t.Errorf("ParseDistribution(%q).String() = %q", in, d)
		}
		var sum time.Duration
		const n = 20_000
		for range n {
			sum += d.Draw(r)
		}
		if got := sum / n; got < mean*95/100 || got > mean*105/100 {
			t.Errorf("%s draws %v on average, want %v", in, got, mean)
		}
	}
	for _, in := range []string{"", "fast", "-5ms", "exp:", "uniform:9ms-1ms", "uniform:9ms", "lognormal:5ms", "lognormal:5ms,-1", "pareto:5ms"} {
		if _, err := simulate.ParseDistribution(in); err == nil || !strings.Contains(err.Error(), "write 50ms") {
			t.Errorf("ParseDistribution(%q) = %v, want an error that says what to write", in, err)
		}
	}
}

// FuzzReadRecording checks that no file panics, and that what is read is in order.
func FuzzReadRecording(f *testing.F) {
	f.Add("rouse-recording,1\nrequest,1.5,0.05\nstart,1,0.4\ndecision,1,3,0\n")
	f.Fuzz(func(t *testing.T, in string) {
		rec, err := simulate.ReadRecording(strings.NewReader(in))
		if err != nil {
			return
		}
		for i := 1; i < len(rec.Requests); i++ {
			if rec.Requests[i].At < rec.Requests[i-1].At {
				t.Fatalf("requests out of order: %v", rec.Requests)
			}
		}
	})
}

// FuzzReadCurve checks that no file panics and that every rate is one that can be simulated.
func FuzzReadCurve(f *testing.F) {
	f.Add("seconds,rps\n0,1\n10,5\n")
	f.Fuzz(func(t *testing.T, in string) {
		l, err := simulate.ReadCurve(strings.NewReader(in))
		for _, r := range l.Rates {
			if err != nil || !(r >= 0 && r <= 1e7) {
				t.Fatalf("ReadCurve(%q) = %v, %v", in, r, err)
			}
		}
	})
}

package kafkadispatch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A demand is told when it changes, and every second while there is work.
func TestTeller(t *testing.T) {
	now := time.Unix(0, 0)
	var told []Demand
	r := teller{f: func(d Demand) { told = append(told, d) }}
	work := Demand{Lag: 3, Parallel: 2}
	for _, d := range []Demand{{}, {}, work, work, work, {}, {}} {
		now = now.Add(600 * time.Millisecond)
		r.tell(d, now)
	}
	if diff := cmp.Diff([]Demand{work, work, {}}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// What the control loop adds up within a second is told once in it; the ceiling is in every report.
func TestReports(t *testing.T) {
	now := time.Unix(100, 0)
	s := Reports{Pod: "kafka/ns/src"}
	var got [][2]float64
	for _, d := range []Demand{{Lag: 9, Parallel: 2}, {Lag: 8, Parallel: 1}, {Lag: 7, Parallel: 1}, {}, {Lag: 1, Parallel: 1}} {
		st := s.Stat(d, now)
		got = append(got, [2]float64{st.Extension.Lag, st.Extension.Parallel})
		now = now.Add(500 * time.Millisecond)
	}
	want := [][2]float64{{9, 2}, {0, 1}, {7, 1}, {0, 0}, {1, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lag and parallel of the reports (-want +got):\n%s", diff)
	}
}

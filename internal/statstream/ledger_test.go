package statstream

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/metrics"
)

func numbered(producer, pod string, sequence uint64) *metrics.Message {
	m := stat("hello", pod, 1)
	m.Stat.Extension = metrics.Extension{Version: 1, Producer: producer, Sequence: sequence}
	return &m
}

func TestLedger(t *testing.T) {
	var l ledger
	now := time.Unix(1000, 0)
	steps := []struct {
		producer string
		sequence uint64
		want     bool
	}{
		{"a", 1, true}, {"a", 2, true}, {"a", 2, false}, {"a", 1, false}, {"a", 5, true},
		{"b", 1, true}, {"a", 6, false}, {"b", 2, true}, {"b", 1, false},
	}
	for i, s := range steps {
		if got := l.admit(numbered(s.producer, "pod", s.sequence), now); got != s.want {
			t.Errorf("step %d: admit(%s %d) = %v, want %v", i, s.producer, s.sequence, got, s.want)
		}
	}
	if gaps, dups, stale := l.counts(); gaps != 2 || dups != 3 || stale != 1 {
		t.Errorf("missing %d, duplicates %d, stale %d: want 2, 3, 1", gaps, dups, stale)
	}
	l.admit(numbered("c", "other", 1), now.Add(time.Hour))
	if len(l.entries) != 1 {
		t.Errorf("%d entries after an hour of silence, want 1", len(l.entries))
	}
}

// TestLedgerAdmitsEachReportOnce: however a producer's reports are repeated and reordered, those admitted are in order
// and none twice, and what is missing adds up.
func TestLedgerAdmitsEachReportOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l ledger
		last, first, admitted := uint64(0), uint64(0), uint64(0)
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(1, 30), 1, 60).Draw(t, "sequence") {
			if !l.admit(numbered("a", "pod", n), time.Unix(0, 0)) {
				if n > last {
					t.Fatalf("%d refused after %d", n, last)
				}
				continue
			}
			if n <= last {
				t.Fatalf("%d admitted after %d", n, last)
			}
			if first == 0 {
				first = n
			}
			last = n
			admitted++
		}
		if gaps, _, _ := l.counts(); gaps+admitted != last-first+1 {
			t.Fatalf("%d missing and %d admitted from %d to %d", gaps, admitted, first, last)
		}
	})
}

// TestBufferKeepsTheNewest: against a plain model.
func TestBufferKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b buffer
		bound := rapid.IntRange(1, 4).Draw(t, "bound")
		b.init("p", bound, false)
		type item struct {
			pod string
			v   float64
		}
		var model []item
		put := func(pod string, v float64) {
			for i := range model {
				if model[i].pod == pod {
					model[i].v = v
					return
				}
			}
			if len(model) == bound {
				model = model[1:]
			}
			model = append(model, item{pod, v})
		}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.IntRange(0, 4).Draw(t, "take") > 0 {
				pod := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "pod"))
				b.put(stat("hello", pod, float64(i)), time.Unix(0, 0))
				put(pod, float64(i))
				continue
			}
			most := rapid.IntRange(1, 5).Draw(t, "most")
			got := b.take(most, time.Unix(0, 0))
			want := model[:min(most, len(model))]
			if len(got) != len(want) {
				t.Fatalf("took %d, want %d", len(got), len(want))
			}
			for j := range got {
				if got[j].Stat.PodName != want[j].pod || got[j].Stat.AverageConcurrency != want[j].v {
					t.Fatalf("took %s %g, want %+v", got[j].Stat.PodName, got[j].Stat.AverageConcurrency, want[j])
				}
			}
			model = model[len(want):]
		}
	})
}

func BenchmarkAdmit(b *testing.B) {
	var l ledger
	now := time.Unix(0, 0)
	m := numbered("a", "pod", 0)
	b.ReportAllocs()
	for b.Loop() {
		m.Stat.Extension.Sequence++
		l.admit(m, now)
	}
}

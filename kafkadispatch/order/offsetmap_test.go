package order

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func drawMap(t *rapid.T) Map {
	m := Map{Base: rapid.Int64Range(0, 1<<40).Draw(t, "base")}
	at := m.Base + rapid.Int64Range(0, 5).Draw(t, "first")
	for range rapid.IntRange(0, 3000).Draw(t, "ranges") {
		to := at + rapid.Int64Range(1, 3).Draw(t, "length")
		m.Done = append(m.Done, Range{at, to})
		at = to + rapid.Int64Range(1, 3).Draw(t, "gap")
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "tries") {
		m.Attempts = append(m.Attempts, Attempt{m.Base + int64(i), 1 + i})
	}
	return m
}

func TestMapComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMap(t)
		limit := rapid.IntRange(64, 6000).Draw(t, "limit")
		text, whole := m.Encode(limit)
		if len(text) > limit {
			t.Fatalf("Encode(%d) made %d bytes", limit, len(text))
		}
		back, err := DecodeMap(text, m.Base)
		if err != nil {
			t.Fatalf("DecodeMap: %v", err)
		}
		if whole && limit > 200 {
			if d := cmp.Diff(m, back); d != "" {
				t.Fatalf("a whole map changed:\n%s", d)
			}
			return
		}
		for _, r := range back.Done {
			for o := r.From; o < r.To; o++ {
				if !contains(m.Done, o) {
					t.Fatalf("a cut map calls %d done", o)
				}
			}
		}
	})
}

func TestMapSizes(t *testing.T) {
	alternate := Map{}
	for i := int64(1); i < 30000; i += 2 {
		alternate.Done = append(alternate.Done, Range{i, i + 1})
	}
	for _, c := range []struct {
		name  string
		m     Map
		most  int
		whole bool
	}{
		{"nothing", Map{}, 0, true},
		{"one stuck, 50,000 done", Map{Done: []Range{{1, 50001}}}, 12, true},
		{"every second of 30,000", alternate, MapLimit, false},
		{"every second of 16,000", Map{Done: alternate.Done[:8000]}, 2700, true},
	} {
		text, whole := c.m.Encode(MapLimit)
		if len(text) > c.most || whole != c.whole {
			t.Errorf("%s: Encode made %d bytes (whole %v), want at most %d (whole %v)", c.name, len(text), whole, c.most, c.whole)
		}
	}
}

func TestDecodeMapOfOthers(t *testing.T) {
	good, _ := Map{Base: 7, Done: []Range{{8, 9}}}.Encode(MapLimit)
	for _, c := range []struct{ name, text string }{
		{"other tool", "some text of another client"},
		{"other kind", base64.RawStdEncoding.EncodeToString([]byte{0x77, 7, 0, 0})},
		{"rest", base64.RawStdEncoding.EncodeToString([]byte{kindRuns, 7, 0, 0, 0})},
		{"cut", good[:3]},
	} {
		if m, err := DecodeMap(c.text, 7); err == nil || len(m.Done) != 0 {
			t.Errorf("%s: DecodeMap = %v, %v; want an error and no ranges", c.name, m, err)
		}
	}
	if _, err := DecodeMap(good, 8); err == nil {
		t.Error("a map of offset 7 was taken for one of offset 8")
	}
}

func FuzzDecodeMap(f *testing.F) {
	for _, m := range []Map{{Base: 3, Done: []Range{{4, 5}, {9, 900}}}, {Base: 3, Attempts: []Attempt{{3, 2}}}} {
		text, _ := m.Encode(MapLimit)
		f.Add(text, m.Base)
	}
	f.Fuzz(func(t *testing.T, text string, base int64) {
		m, err := DecodeMap(text, base)
		if err != nil {
			return
		}
		at := base - 1
		for _, r := range m.Done {
			if r.From <= at || r.To <= r.From {
				t.Fatalf("ranges do not rise: %v", m.Done)
			}
			at = r.To
		}
		again, _ := m.Encode(1 << 20)
		back, err := DecodeMap(again, base)
		if err != nil || !cmp.Equal(m, back) {
			t.Fatalf("a decoded map does not come back: %v, %v", err, cmp.Diff(m, back))
		}
	})
}

func TestRestartSendsOnlyWhatWasNotFinished(t *testing.T) {
	now := time.Unix(0, 0)
	s := New(Config{Mode: ByKey, MaxInFlight: 1000})
	p := s.Assign(TopicPartition{"t", 0}, 0, Map{})
	for o := range int64(50_001) {
		s.Add(p, &Record{Offset: o, Size: 1}, now)
	}
	poison := s.Take(nil, 1, 1)
	for {
		b := s.Take(nil, 100, 1000)
		if len(b) == 0 {
			break
		}
		s.Finish(b, now)
	}
	poison[0].Attempts = 4
	s.Park(poison)
	offset, text, _ := p.Commit()
	m, err := DecodeMap(text, offset)
	if offset != 0 || err != nil {
		t.Fatalf("Commit = %d, %v; want 0", offset, err)
	}
	s = New(Config{Mode: ByKey, MaxInFlight: 1000})
	p = s.Assign(TopicPartition{"t", 0}, offset, m)
	sent := 0
	for o := range int64(50_010) {
		r := &Record{Offset: o, Size: 1}
		if s.Add(p, r, now) {
			sent++
		}
		if o == 0 && r.Attempts != 4 {
			t.Errorf("the poison record came back with %d tries, want 4", r.Attempts)
		}
	}
	if sent != 10 {
		t.Errorf("after the restart %d records are sent, want the poison record and 9 new ones", sent)
	}
}

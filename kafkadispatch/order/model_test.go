package order

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is the slow oracle: a flat list of records in the order of Add.
type model struct {
	s     *Scheduler
	cfg   Config
	now   time.Time
	parts []*Partition
	recs  map[*Partition][]*slowRecord
	sends [][]*Record
	parks [][]*Record
}

type slowRecord struct {
	r                      *Record
	inFlight, parked, done bool
}

func (m *model) laneMates(_ *Partition, a, b *slowRecord) bool {
	switch {
	case m.cfg.Mode == ByPartition:
		return true
	case m.cfg.Mode == ByKey && m.cfg.KeylessInOrder:
		return bytes.Equal(a.r.Key, b.r.Key)
	case m.cfg.Mode == ByKey:
		return a.r.Key != nil && b.r.Key != nil && bytes.Equal(a.r.Key, b.r.Key)
	}
	return a == b
}

func (m *model) slow(r *Record) *slowRecord {
	for _, x := range m.recs[r.Partition()] {
		if x.r == r {
			return x
		}
	}
	return nil
}

func TestSchedulerAgainstSlowOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			Mode:                    Mode(rapid.IntRange(0, 2).Draw(t, "mode")),
			KeylessInOrder:          rapid.Bool().Draw(t, "keylessInOrder"),
			MaxInFlight:             rapid.IntRange(1, 5).Draw(t, "maxInFlight"),
			MaxInFlightBytes:        int64(rapid.IntRange(1, 40).Draw(t, "maxBytes")),
			MaxInFlightPerPartition: rapid.IntRange(0, 3).Draw(t, "perPartition"),
		}
		m := &model{s: New(cfg), cfg: cfg, now: time.Unix(0, 0), recs: map[*Partition][]*slowRecord{}}
		for i := range rapid.IntRange(1, 3).Draw(t, "partitions") {
			m.parts = append(m.parts, m.s.Assign(TopicPartition{"t", int32(i)}, 0, Map{}))
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": m.add, "take": m.take, "finish": m.finish, "park": m.park, "unpark": m.unpark, "aside": m.aside, "": m.check,
		})
		m.drain(t)
	})
}

func (m *model) add(t *rapid.T) {
	p := rapid.SampledFrom(m.parts).Draw(t, "p")
	r := &Record{
		Offset: p.Offsets().End() + rapid.Int64Range(0, 3).Draw(t, "hole"),
		Size:   rapid.IntRange(0, 20).Draw(t, "size"),
		Solo:   rapid.IntRange(0, 9).Draw(t, "solo") == 0,
	}
	if k := rapid.IntRange(0, 3).Draw(t, "key"); k > 0 {
		r.Key = fmt.Appendf(nil, "k%d", k)
	}
	if !m.s.Add(p, r, m.now) {
		t.Fatalf("Add(%d) = false for a new record", r.Offset)
	}
	m.recs[p] = append(m.recs[p], &slowRecord{r: r})
}

func (m *model) take(t *rapid.T) {
	limit := rapid.IntRange(1, 3).Draw(t, "limit")
	room := int64(rapid.IntRange(1, 30).Draw(t, "bytes"))
	got := m.s.Take(nil, limit, room)
	if len(got) == 0 {
		m.mustBeBlocked(t)
		return
	}
	if len(m.sends) >= m.cfg.MaxInFlight || len(got) > limit {
		t.Fatalf("Take gave %d records (limit %d) with %d requests in flight of %d", len(got), limit, len(m.sends), m.cfg.MaxInFlight)
	}
	size := int64(0)
	for _, r := range got {
		size += int64(r.Size)
		if r.Solo && len(got) > 1 {
			t.Fatalf("a solo record was sent with others")
		}
		m.mustBeNext(t, r, got)
		m.slow(r).inFlight = true
	}
	if len(got) > 1 && size > room {
		t.Fatalf("Take gave %d bytes, asked for %d", size, room)
	}
	m.sends = append(m.sends, got)
}

// mustBeNext checks that no lane mate before r is unfinished, except in the same request.
func (m *model) mustBeNext(t *rapid.T, r *Record, batch []*Record) {
	x := m.slow(r)
	for _, y := range m.recs[r.Partition()] {
		if y == x {
			return
		}
		if !y.done && m.laneMates(r.Partition(), x, y) && !slices.Contains(batch, y.r) {
			t.Fatalf("offset %d was given out before its lane mate %d was finished", r.Offset, y.r.Offset)
		}
	}
}

// mustBeBlocked checks that a bound, or nothing to do, explains an empty Take.
func (m *model) mustBeBlocked(t *rapid.T) {
	if len(m.sends) >= m.cfg.MaxInFlight {
		return
	}
	flying := int64(0)
	for _, b := range m.sends {
		for _, r := range b {
			flying += int64(r.Size)
		}
	}
	could := ""
	for _, p := range m.parts {
		if most := m.cfg.MaxInFlightPerPartition; most > 0 && p.InFlight() >= most {
			continue
		}
		for i, x := range m.recs[p] {
			if x.done || x.inFlight || x.parked || !m.free(p, i) {
				continue
			}
			if flying > 0 && int64(x.r.Size)+flying > m.cfg.MaxInFlightBytes {
				return // waits for room and keeps its turn, so that others may wait behind it, whatever their offsets
			}
			could = fmt.Sprintf("offset %d of %v", x.r.Offset, p.ID)
		}
	}
	if could != "" {
		t.Fatalf("Take gave nothing although %s could go", could)
	}
}

// free reports whether all lane mates before the i-th record of a partition are finished.
func (m *model) free(p *Partition, i int) bool {
	for _, y := range m.recs[p][:i] {
		if !y.done && m.laneMates(p, m.recs[p][i], y) {
			return false
		}
	}
	return true
}

func (m *model) pick(t *rapid.T, from *[][]*Record) []*Record {
	if len(*from) == 0 {
		return nil
	}
	i := rapid.IntRange(0, len(*from)-1).Draw(t, "which")
	b := (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	return b
}

func (m *model) finish(t *rapid.T) {
	if b := m.pick(t, &m.sends); b != nil {
		m.s.Finish(b, m.now)
		for _, r := range b {
			x := m.slow(r)
			x.inFlight, x.done = false, true
		}
	}
}

func (m *model) park(t *rapid.T) {
	if b := m.pick(t, &m.sends); b != nil {
		for _, r := range b {
			r.Attempts++
			x := m.slow(r)
			x.inFlight, x.parked = false, true
		}
		m.s.Park(b)
		m.parks = append(m.parks, b)
	}
}

func (m *model) unpark(t *rapid.T) {
	if b := m.pick(t, &m.parks); b != nil {
		m.s.Unpark(b)
		for _, r := range b {
			m.slow(r).parked = false
		}
	}
}

func (m *model) aside(t *rapid.T) {
	rapid.SampledFrom(m.parts).Draw(t, "p").SetAside(rapid.Bool().Draw(t, "aside"))
}

func (m *model) checkHeld(t *rapid.T) {
	want, wantBytes := 0, int64(0)
	for _, p := range m.parts {
		if n, size := p.Held(); !p.aside {
			want, wantBytes = want+n, wantBytes+size
		}
	}
	if n, size := m.s.Held(); n != want || size != wantBytes {
		t.Fatalf("Held = %d records of %d bytes, the partitions have %d of %d", n, size, want, wantBytes)
	}
}

func (m *model) check(t *rapid.T) {
	m.checkHeld(t)
	for _, p := range m.parts {
		want, done := p.Offsets().End(), map[int64]bool{}
		for _, x := range m.recs[p] {
			if !x.done {
				want = min(want, x.r.Offset)
			}
			done[x.r.Offset] = x.done
		}
		p.Uncommitted()
		got, text, _ := p.Commit()
		if got != want {
			t.Fatalf("Commit of %v = %d, want %d", p.ID, got, want)
		}
		back, err := DecodeMap(text, got)
		if err != nil {
			t.Fatalf("DecodeMap(%q): %v", text, err)
		}
		for o, d := range done {
			if in := contains(back.Done, o); o >= got && in != d {
				t.Fatalf("map of %v says done(%d) = %v, want %v", p.ID, o, in, d)
			}
		}
		m.checkAttempts(t, p, back)
	}
}

func (m *model) checkAttempts(t *rapid.T, p *Partition, back Map) {
	for _, x := range m.recs[p] {
		i := slices.IndexFunc(back.Attempts, func(a Attempt) bool { return a.Offset == x.r.Offset })
		if x.parked && (i < 0 || back.Attempts[i].Tries != x.r.Attempts) {
			t.Fatalf("the map lost %d tries of offset %d", x.r.Attempts, x.r.Offset)
		}
	}
}

// drain sends everything that is left: nothing may be lost or stuck.
func (m *model) drain(t *rapid.T) {
	for len(m.parks) > 0 {
		m.s.Unpark(m.parks[0])
		m.parks = m.parks[1:]
	}
	for {
		for _, b := range m.sends {
			m.s.Finish(b, m.now)
		}
		m.sends = nil
		b := m.s.Take(nil, 2, 10)
		if len(b) == 0 {
			break
		}
		m.sends = append(m.sends, b)
	}
	for _, p := range m.parts {
		n, size := p.Held()
		if p.Offsets().Position() != p.Offsets().End() || n != 0 || size != 0 || p.Lanes() != 0 {
			t.Fatalf("%v is stuck at %d of %d: held %d records, %d lanes", p.ID, p.Offsets().Position(), p.Offsets().End(), n, p.Lanes())
		}
	}
	if n, size := m.s.Held(); n != 0 || size != 0 {
		t.Fatalf("after all: held %d records of %d bytes", n, size)
	}
	if n, size := m.s.InFlight(); n != 0 || size != 0 || m.s.Ready() != 0 {
		t.Fatalf("after all: in flight %d (%d bytes), ready %d", n, size, m.s.Ready())
	}
}

func contains(rs []Range, o int64) bool {
	return slices.ContainsFunc(rs, func(r Range) bool { return r.From <= o && o < r.To })
}

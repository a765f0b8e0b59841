package order

import "time"

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Reason says why a partition must not be read further for now; the zero value says that it may.
type Reason uint8

// The reasons, in the order in which they are looked at.
const (
	Open          Reason = iota
	WindowRecords        // too many records beyond the commit
	WindowBytes          // too many bytes beyond the commit
	WindowAge            // the commit has not moved for too long
	WindowMap            // what is done beyond the commit does not fit its metadata
	Share                // it holds more than its share of the caller's buffer; the caller says so, Full does not
)

// String returns the reason's metric label.
func (r Reason) String() string {
	return [...]string{"open", "window_records", "window_bytes", "window_age", "window_map", "buffer_share"}[r]
}

// Partition is one assigned partition inside a Scheduler.
type Partition struct {
	// ID names the partition.
	ID TopicPartition

	s        *Scheduler
	offsets  *Offsets
	window   Window
	restored []Range // finished before this assignment, not yet passed
	tries    map[int64]int
	mapFull  bool

	byKey    map[string]*lane
	mostKeys int // since byKey was made
	single   *lane
	first    *lane // ready lanes, first ready first
	last     *lane
	inRing   bool
	nextPart *Partition

	held      int // records in lanes or in flight
	heldBytes int64
	aside     bool // not counted in the scheduler's sum
	inFlight  int
	lanes     int
	revoked   bool
}

// Held is how many records, and bytes, of the partition are waiting or in flight; none once it is revoked.
func (p *Partition) Held() (records int, bytes int64) { return p.held, p.heldBytes }

// InFlight is how many of its records are being sent.
func (p *Partition) InFlight() int { return p.inFlight }

// Lanes is how many lanes have unfinished records: how many requests could be useful at once.
func (p *Partition) Lanes() int { return p.lanes }

// Offsets gives the partition's progress, for reading.
func (p *Partition) Offsets() *Offsets { return p.offsets }

// Full says whether the window beyond the commit has reached a bound.
func (p *Partition) Full(now time.Time) Reason {
	n, bytes, age := p.offsets.Window(now)
	w := p.window
	switch {
	case w.Records > 0 && n >= w.Records:
		return WindowRecords
	case w.Bytes > 0 && bytes >= w.Bytes:
		return WindowBytes
	case w.Age > 0 && age >= w.Age:
		return WindowAge
	case p.mapFull:
		return WindowMap
	}
	return Open
}

// Commit returns what to commit, and whether it differs from what the last call returned. After a commit that failed
// call Uncommitted.
func (p *Partition) Commit() (offset int64, metadata string, changed bool) {
	offset = p.offsets.Position()
	if !p.offsets.dirty {
		return offset, "", false
	}
	p.offsets.dirty = false
	m := Map{Base: offset}
	m.Done, m.Attempts = p.offsets.done(nil)
	m.Done = append(m.Done, p.ahead()...)
	metadata, whole := m.Encode(p.window.Map)
	p.mapFull = !whole
	return offset, metadata, true
}

// ahead is what an earlier owner finished and this one has not come to yet.
func (p *Partition) ahead() []Range {
	for len(p.restored) > 0 && p.restored[0].To <= p.offsets.end {
		p.restored = p.restored[1:]
	}
	if len(p.restored) == 0 {
		return nil
	}
	out := append([]Range(nil), p.restored...)
	out[0].From = max(out[0].From, p.offsets.end)
	return out
}

// Uncommitted makes the next Commit report a change again.
func (p *Partition) Uncommitted() { p.offsets.dirty = true }

// Skip says that the log has no record below offset any more (its end was reached there).
func (p *Partition) Skip(offset int64) { p.offsets.Skip(offset) }

func (p *Partition) finishedBefore(offset int64) bool {
	for len(p.restored) > 0 && p.restored[0].To <= offset {
		p.restored = p.restored[1:]
	}
	return len(p.restored) > 0 && p.restored[0].From <= offset
}

func (p *Partition) pushReady(l *lane) {
	l.nextReady = nil
	if p.last == nil {
		p.first = l
	} else {
		p.last.nextReady = l
	}
	p.last = l
	p.s.ready += l.length
	l.ready = true
	p.s.enter(p)
}

func (p *Partition) popReady() *lane {
	l := p.first
	p.first = l.nextReady
	if p.first == nil {
		p.last = nil
	}
	l.nextReady = nil
	l.ready = false
	p.s.ready -= l.length
	return l
}

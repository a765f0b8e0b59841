package order

import "time"

// Offsets follows one partition: what has been received, what is finished, and up to where the group may commit.
//
// Records are numbered in the order of receipt, so that a hole in the offsets (compaction, transaction markers)
// takes no room. It is not safe for concurrent use.
type Offsets struct {
	// ring holds the records from head to tail; its length is a power of two.
	ring       []entry
	head, tail uint64
	end        int64 // one past the last offset that was received or skipped
	beyond     int   // finished records behind the first unfinished one
	bytes      int64 // of all records from head to tail
	skipped    int64
	frontSince time.Time
	dirty      bool
}

type entry struct {
	offset   int64
	size     int32
	attempts uint16
	done     bool
}

// NewOffsets starts a partition at from: the next offset that the group has not finished.
func NewOffsets(from int64) *Offsets { return &Offsets{end: from} }

// Receive notes a record. Offsets must rise; those that are missing in between count as skipped. The number that it
// returns names the record in Finish and Attempted.
func (o *Offsets) Receive(offset int64, size int, now time.Time) uint64 {
	o.Skip(offset)
	if o.head == o.tail {
		o.frontSince = now
	}
	if int(o.tail-o.head) == len(o.ring) {
		o.grow()
	}
	o.ring[o.tail&uint64(len(o.ring)-1)] = entry{offset: offset, size: int32(size)}
	o.end = offset + 1
	o.bytes += int64(size)
	o.tail++
	return o.tail - 1
}

// Skip says that no record below offset is to come any more. It does nothing when offset is not ahead.
func (o *Offsets) Skip(offset int64) {
	if offset <= o.end {
		return
	}
	o.skipped += offset - o.end
	o.end = offset
	o.dirty = true
}

func (o *Offsets) grow() {
	size := max(16, 2*len(o.ring))
	ring := make([]entry, size)
	for i := o.head; i != o.tail; i++ {
		ring[i&uint64(size-1)] = *o.at(i)
	}
	o.ring = ring
}

func (o *Offsets) at(seq uint64) *entry { return &o.ring[seq&uint64(len(o.ring)-1)] }

// Finish marks a record as finished. Finishing it twice does nothing.
func (o *Offsets) Finish(seq uint64, now time.Time) {
	if seq < o.head || seq >= o.tail || o.at(seq).done {
		return
	}
	o.dirty = true
	o.at(seq).done = true
	if seq != o.head {
		o.beyond++
		return
	}
	o.advance(now)
}

func (o *Offsets) advance(now time.Time) {
	o.beyond++ // the front itself, which advance takes off again
	for o.head != o.tail && o.at(o.head).done {
		o.bytes -= int64(o.at(o.head).size)
		o.head++
		o.beyond--
	}
	o.frontSince = now
	// A window that was wide once should not hold its memory for ever.
	if o.head == o.tail && len(o.ring) > 4096 {
		o.ring = nil
	}
}

// Attempted notes how many tries a record has had, for the next owner of the partition.
func (o *Offsets) Attempted(seq uint64, attempts int) {
	if seq < o.head || seq >= o.tail {
		return
	}
	o.at(seq).attempts = uint16(min(attempts, 1<<16-1))
	o.dirty = true
}

// Position is what the group may commit: the first offset that is not finished.
func (o *Offsets) Position() int64 {
	if o.head == o.tail {
		return o.end
	}
	return o.at(o.head).offset
}

// End is one past the last offset that was received or skipped.
func (o *Offsets) End() int64 { return o.end }

// Beyond is how many records behind the position are finished.
func (o *Offsets) Beyond() int { return o.beyond }

// Skipped is how many offsets had no record.
func (o *Offsets) Skipped() int64 { return o.skipped }

// Window is how many records, and bytes, lie between the position and the end, and for how long the first of them
// has been the first.
func (o *Offsets) Window(now time.Time) (records int, bytes int64, age time.Duration) {
	if o.head == o.tail {
		return 0, 0, 0
	}
	return int(o.tail - o.head), o.bytes, now.Sub(o.frontSince)
}

// done lists what is finished beyond the position as ranges, lowest first, appended to dst. A hole belongs to the
// record before it. The second result lists unfinished records that had tries.
func (o *Offsets) done(dst []Range) ([]Range, []Attempt) {
	var tries []Attempt
	open := false
	for i := o.head; i != o.tail; i++ {
		e := o.at(i)
		switch {
		case e.done && !open:
			dst, open = append(dst, Range{From: e.offset, To: e.offset + 1}), true
		case !e.done && open:
			dst[len(dst)-1].To, open = e.offset, false
		}
		if !e.done && e.attempts > 0 {
			tries = append(tries, Attempt{e.offset, int(e.attempts)})
		}
	}
	if open {
		dst[len(dst)-1].To = o.end
	}
	return dst, tries
}

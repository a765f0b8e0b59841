package order

import "time"

// maxSpareLanes is how many unused lanes are kept for the next records.
const maxSpareLanes = 1024

// Mode says which records share a lane.
type Mode uint8

// The modes.
const (
	ByPartition Mode = iota // all records of a partition
	ByKey                   // records of a partition with the same key; one without a key has a lane of its own
	Unordered               // none
)

// String returns the mode's name in configuration.
func (m Mode) String() string { return [...]string{"partition", "key", "none"}[m] }

// Window bounds what may lie between a partition's commit and its newest record. A bound of 0 is no bound.
type Window struct {
	// Records is the count, finished ones included. 0 means no bound; DefaultConfig has 100,000.
	Records int
	// Bytes is the size of the same records. DefaultConfig has 256 MiB.
	Bytes int64
	// Age is how long the first unfinished record may hold up the commit. DefaultConfig has 6 h.
	Age time.Duration
	// Map is the longest commit metadata in bytes; 0 means MapLimit.
	Map int
}

// Config of a Scheduler.
type Config struct {
	// Mode says which records are sent one after the other.
	Mode Mode
	// KeylessInOrder puts the records of a partition that have no key into one lane, by key only.
	KeylessInOrder bool
	// MaxInFlight is how many requests may be under way to the sink, at least 1.
	MaxInFlight int
	// MaxInFlightBytes bounds the sum of their records. One record may always go, however large.
	MaxInFlightBytes int64
	// MaxInFlightPerPartition bounds the records of one partition that are under way; 0 means no bound of its own.
	MaxInFlightPerPartition int
	// Window bounds each partition beyond its commit.
	Window Window
}

// DefaultConfig is 256 requests and 64 MiB in flight, in order per partition.
func DefaultConfig() Config {
	return Config{
		MaxInFlight: 256, MaxInFlightBytes: 64 << 20,
		Window: Window{Records: 100_000, Bytes: 256 << 20, Age: 6 * time.Hour, Map: MapLimit},
	}
}

// Scheduler hands out records for one sink. See the package comment for its promises.
type Scheduler struct {
	cfg   Config
	limit int
	spare []*lane

	first, last *Partition // partitions with a ready lane and room, in turn
	ready       int        // records in ready lanes
	inFlight    int        // requests
	bytes       int64

	held      int // records of partitions that are neither revoked nor set aside
	heldBytes int64
}

// New makes a Scheduler without partitions. Values below their minimum are raised to it.
func New(cfg Config) *Scheduler {
	cfg.MaxInFlight = max(1, cfg.MaxInFlight)
	if cfg.MaxInFlightBytes <= 0 {
		cfg.MaxInFlightBytes = 1 << 62
	}
	if cfg.Window.Map <= 0 {
		cfg.Window.Map = MapLimit
	}
	return &Scheduler{cfg: cfg, limit: cfg.MaxInFlight}
}

// SetLimit sets how many requests may be in flight from now on, up to Config.MaxInFlight; 0 stops the flow. Those that are
// under way stay so.
func (s *Scheduler) SetLimit(n int) { s.limit = min(max(0, n), s.cfg.MaxInFlight) }

// Limit is how many requests may be in flight.
func (s *Scheduler) Limit() int { return s.limit }

// InFlight is how many requests, and bytes, are under way.
func (s *Scheduler) InFlight() (requests int, bytes int64) { return s.inFlight, s.bytes }

// Ready is how many records wait in lanes from which Take could take, bounds aside.
func (s *Scheduler) Ready() int { return s.ready }

// Held is how many records, and bytes, wait or are in flight, without those of partitions that are revoked or set aside.
func (s *Scheduler) Held() (records int, bytes int64) { return s.held, s.heldBytes }

func (s *Scheduler) hold(p *Partition, records int, bytes int64) {
	p.held += records
	p.heldBytes += bytes
	if !p.aside {
		s.held += records
		s.heldBytes += bytes
	}
}

// SetAside says whether what the partition holds counts in Scheduler.Held: one that is not read further must not look
// as if it filled the buffer of those that are.
func (p *Partition) SetAside(aside bool) {
	if p.aside == aside {
		return
	}
	records, bytes := p.held, p.heldBytes
	p.s.hold(p, -records, -bytes)
	p.aside = aside
	p.s.hold(p, records, bytes)
}

// Assign adds a partition that starts at offset from, with what m says is finished beyond.
func (s *Scheduler) Assign(id TopicPartition, from int64, m Map) *Partition {
	p := &Partition{ID: id, s: s, offsets: NewOffsets(from), window: s.cfg.Window}
	p.restored = append(p.restored, m.Done...)
	if len(m.Attempts) > 0 {
		p.tries = make(map[int64]int, len(m.Attempts))
		for _, a := range m.Attempts {
			p.tries[a.Offset] = a.Tries
		}
	}
	return p
}

// Add takes a record over. It reports false, and keeps nothing, when the record is finished already, was received
// before, or its partition is revoked.
func (s *Scheduler) Add(p *Partition, r *Record, now time.Time) bool {
	if p.revoked || r.Offset < p.offsets.End() {
		return false
	}
	seq := p.offsets.Receive(r.Offset, r.Size, now)
	if p.finishedBefore(r.Offset) {
		p.offsets.Finish(seq, now)
		return false
	}
	r.part, r.seq, r.next = p, seq, nil
	if tries, ok := p.tries[r.Offset]; ok {
		r.Attempts = tries
		p.offsets.Attempted(seq, tries)
		delete(p.tries, r.Offset)
	}
	s.hold(p, 1, int64(r.Size))
	r.lane = p.laneOf(r)
	r.lane.pushBack(r)
	if r.lane.ready {
		s.ready++
	} else if r.lane.inFlight == 0 && !r.lane.parked {
		p.pushReady(r.lane)
	}
	return true
}

// Take appends to dst the records of the next request: at least one and at most limit, of at most bytes together
// (one may always go), from the partitions in turn. It returns dst as it was when nothing may be sent. The records
// come back through Finish or Park, all of them together.
func (s *Scheduler) Take(dst []*Record, limit int, bytes int64) []*Record {
	if s.inFlight >= s.limit {
		return dst
	}
	taken := 0
	for s.first != nil && taken < limit {
		was := len(dst)
		dst = s.takeLane(s.first, dst, limit-taken, bytes, taken == 0)
		if len(dst) == was {
			break // the first partition keeps its turn: a large record must not starve
		}
		for _, r := range dst[was:] {
			bytes -= int64(r.Size)
		}
		taken += len(dst) - was
		s.enter(s.leave())
		if dst[len(dst)-1].Solo {
			break
		}
	}
	if taken > 0 {
		s.inFlight++
	}
	return dst
}

// takeLane takes from the partition's first ready lane what fits.
func (s *Scheduler) takeLane(p *Partition, dst []*Record, limit int, bytes int64, first bool) []*Record {
	l := p.first
	if !s.fits(p, l.first, bytes, first) {
		return dst
	}
	p.popReady()
	for l.first != nil && limit > 0 && s.fits(p, l.first, bytes, first) {
		r := l.pop()
		l.inFlight++
		p.inFlight++
		s.bytes += int64(r.Size)
		bytes -= int64(r.Size)
		dst = append(dst, r)
		limit--
		first = false
		if r.Solo {
			break
		}
	}
	return dst
}

func (s *Scheduler) fits(p *Partition, r *Record, bytes int64, first bool) bool {
	if most := s.cfg.MaxInFlightPerPartition; most > 0 && p.inFlight >= most {
		return false
	}
	if first && s.bytes == 0 {
		return true
	}
	room := s.cfg.MaxInFlightBytes - s.bytes
	if !first {
		room = min(room, bytes)
	}
	return int64(r.Size) <= room && (first || !r.Solo)
}

// Finish ends a request: its records need not be sent again.
func (s *Scheduler) Finish(rs []*Record, now time.Time) {
	s.inFlight--
	for _, r := range rs {
		p, l := r.part, r.lane
		s.land(r)
		p.offsets.Finish(r.seq, now)
		if p.revoked {
			continue
		}
		s.hold(p, -1, -int64(r.Size))
		if l.inFlight == 0 {
			s.settle(p, l)
		}
	}
}

// Park ends a request whose records must be sent again later. They go back to the front of their lanes, which stay
// shut until Unpark; the request's place is free for others.
func (s *Scheduler) Park(rs []*Record) {
	s.inFlight--
	for i := len(rs) - 1; i >= 0; i-- {
		r := rs[i]
		s.land(r)
		if r.part.revoked {
			continue // its next owner starts from the commit
		}
		r.part.offsets.Attempted(r.seq, r.Attempts)
		r.lane.parked = true
		r.lane.pushFront(r)
	}
}

// Unpark opens the lanes of parked records again. Records of a revoked partition are ignored.
func (s *Scheduler) Unpark(rs []*Record) {
	for _, r := range rs {
		if l := r.lane; l.parked && !r.part.revoked {
			l.parked = false
			r.part.pushReady(l)
		}
	}
}

func (s *Scheduler) land(r *Record) {
	r.lane.inFlight--
	r.part.inFlight--
	s.bytes -= int64(r.Size)
	s.enter(r.part)
}

// settle opens the lane for its next record, or frees it.
func (s *Scheduler) settle(p *Partition, l *lane) {
	switch {
	case l.first == nil:
		p.retire(l)
	case !l.parked && !l.ready:
		p.pushReady(l)
	}
}

// Revoke stops a partition: nothing of it is given out any more, what waits is dropped, what is in flight may still
// be finished and then counts for Commit.
func (s *Scheduler) Revoke(p *Partition) {
	if p.revoked {
		return
	}
	p.revoked = true
	s.unlink(p)
	for p.first != nil {
		p.popReady()
	}
	p.byKey, p.single, p.lanes = nil, nil, 0
	s.hold(p, -p.held, -p.heldBytes)
}

// Revoked says whether Revoke was called.
func (p *Partition) Revoked() bool { return p.revoked }

// enter puts the partition at the end of the ring when it has something to give.
func (s *Scheduler) enter(p *Partition) {
	most := s.cfg.MaxInFlightPerPartition
	if p.inRing || p.revoked || p.first == nil || (most > 0 && p.inFlight >= most) {
		return
	}
	p.inRing, p.nextPart = true, nil
	if s.last == nil {
		s.first = p
	} else {
		s.last.nextPart = p
	}
	s.last = p
}

// leave takes the first partition out of the ring.
func (s *Scheduler) leave() *Partition {
	p := s.first
	s.first = p.nextPart
	if s.first == nil {
		s.last = nil
	}
	p.inRing, p.nextPart = false, nil
	return p
}

// unlink takes a partition out of the ring, wherever it is. O(partitions), only for Revoke.
func (s *Scheduler) unlink(p *Partition) {
	if !p.inRing {
		return
	}
	var keep []*Partition
	for s.first != nil {
		if q := s.leave(); q != p {
			keep = append(keep, q)
		}
	}
	for _, q := range keep {
		s.enter(q)
	}
}

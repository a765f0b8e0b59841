package order

// Record is one Kafka record on its way. The caller fills the exported fields; a Record may be used again after
// Finish, and after Forget of its partition.
type Record struct {
	// Offset of the record in its partition.
	Offset int64
	// Key is the raw key; nil means that the record has none.
	Key []byte
	// Size is what the record counts in byte bounds.
	Size int
	// Attempts is how many tries the record has had. Add sets it from the commit's map; the caller counts on.
	Attempts int
	// Solo asks that the record is not sent together with others.
	Solo bool
	// Payload is the caller's.
	Payload any

	part *Partition
	lane *lane
	seq  uint64
	next *Record
}

// Partition returns the partition that the record was added to.
func (r *Record) Partition() *Partition { return r.part }

// lane is a queue of records that must be sent one after the other.
type lane struct {
	key         string
	keyed       bool
	first, last *Record
	length      int // waiting, without those in flight
	inFlight    int
	parked      bool
	ready       bool
	nextReady   *lane
}

func (l *lane) pushBack(r *Record) {
	r.next = nil
	if l.last == nil {
		l.first = r
	} else {
		l.last.next = r
	}
	l.last = r
	l.length++
}

func (l *lane) pushFront(r *Record) {
	r.next = l.first
	l.first = r
	if l.last == nil {
		l.last = r
	}
	l.length++
}

func (l *lane) pop() *Record {
	r := l.first
	l.first = r.next
	if l.first == nil {
		l.last = nil
	}
	r.next = nil
	l.length--
	return r
}

// laneOf finds or makes the record's lane.
func (p *Partition) laneOf(r *Record) *lane {
	switch {
	case p.s.cfg.Mode == ByPartition:
		if p.single == nil {
			p.single = p.s.newLane()
			p.lanes++
		}
		return p.single
	case p.s.cfg.Mode == ByKey && (r.Key != nil || p.s.cfg.KeylessInOrder):
		return p.keyLane(r.Key)
	}
	p.lanes++
	return p.s.newLane()
}

// keyLane treats records without a key, when they get here, as having the empty key.
func (p *Partition) keyLane(key []byte) *lane {
	if l := p.byKey[string(key)]; l != nil {
		return l
	}
	l := p.s.newLane()
	l.key, l.keyed = string(key), true
	if p.byKey == nil {
		p.byKey = map[string]*lane{}
	}
	p.byKey[l.key] = l
	p.lanes++
	return l
}

// retire frees a lane that has nothing left.
func (p *Partition) retire(l *lane) {
	p.lanes--
	if l == p.single {
		p.single = nil
	}
	if l.keyed {
		delete(p.byKey, l.key)
		if p.mostKeys = max(p.mostKeys, len(p.byKey)+1); len(p.byKey) == 0 && p.mostKeys > maxSpareLanes {
			p.byKey, p.mostKeys = nil, 0 // maps do not shrink
		}
	}
	p.s.freeLane(l)
}

func (s *Scheduler) newLane() *lane {
	if n := len(s.spare); n > 0 {
		l := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return l
	}
	return &lane{}
}

func (s *Scheduler) freeLane(l *lane) {
	*l = lane{}
	if len(s.spare) < maxSpareLanes {
		s.spare = append(s.spare, l)
	}
}

package statstream

import (
	"fmt"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// slot is whose report it is and what about: of each only the newest is worth sending.
type slot struct {
	rev identity.Key
	pod string
}

type unsent struct {
	m  metrics.Message
	at time.Time
}

// buffer keeps unsent reports in the order in which their slots first waited, one per slot, and numbers them.
type buffer struct {
	more chan struct{} // has an entry when something is unsent

	mu       sync.Mutex
	relay    bool // reports are numbered by whoever made them
	producer string
	epoch    int
	bound    int
	next     map[identity.Key]uint64 // sequence numbers, guarded by mu
	waiting  map[slot]*unsent        // guarded by mu
	order    []slot                  // may name slots that are not waiting any more, guarded by mu
	batch    []metrics.Message       // of the writer
	times    []time.Time             // of batch
	replaced uint64
	dropped  uint64
}

func (b *buffer) init(producer string, bound int, relay bool) {
	b.more = make(chan struct{}, 1)
	b.relay = relay
	b.producer, b.bound = producer, bound
	b.next = make(map[identity.Key]uint64)
	b.waiting = make(map[slot]*unsent)
}

// put numbers a report and queues it, in the place of an unsent one of the same slot.
func (b *buffer) put(m metrics.Message, now time.Time) {
	b.mu.Lock()
	b.stamp(&m)
	s := slot{m.Key(), m.Stat.PodName}
	if u := b.waiting[s]; u != nil {
		u.m, u.at = m, now
		b.replaced++
	} else {
		b.push(s, &unsent{m, now})
	}
	b.mu.Unlock()
	b.signal()
}

func (b *buffer) push(s slot, u *unsent) {
	for len(b.waiting) >= b.bound {
		if _, ok := b.waiting[b.order[0]]; ok {
			delete(b.waiting, b.order[0])
			b.dropped++
		}
		b.order = b.order[1:]
	}
	b.waiting[s] = u
	b.order = append(b.order, s)
}

func (b *buffer) signal() {
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// stamp fills in producer and sequence. A process that has met too many revisions goes on as another producer, so that
// its numbers can begin again.
func (b *buffer) stamp(m *metrics.Message) {
	if b.relay {
		return
	}
	if b.producer == "" {
		m.Stat.Extension = metrics.Extension{}
		return
	}
	if len(b.next) >= maxRevisions {
		clear(b.next)
		b.epoch++
	}
	e := &m.Stat.Extension
	e.Version = metrics.ExtensionVersion
	e.Producer = b.producer
	if b.epoch > 0 {
		e.Producer = fmt.Sprintf("%s#%d", b.producer, b.epoch)
	}
	b.next[m.Key()]++
	e.Sequence = b.next[m.Key()]
}

// take removes up to most reports that are not older than oldest. The slice is valid until the next take.
func (b *buffer) take(most int, oldest time.Time) []metrics.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batch, b.times = b.batch[:0], b.times[:0]
	taken := 0
	for _, s := range b.order {
		if len(b.batch) == most {
			break
		}
		taken++
		u := b.waiting[s]
		if u == nil {
			continue
		}
		delete(b.waiting, s)
		if u.at.Before(oldest) {
			b.dropped++
			continue
		}
		b.batch = append(b.batch, u.m)
		b.times = append(b.times, u.at)
	}
	b.order = b.order[taken:]
	if len(b.order) == 0 {
		b.order = nil
	}
	return b.batch
}

// back returns the batch of the last take that could not be sent.
func (b *buffer) back(batch []metrics.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, m := range batch {
		s := slot{m.Key(), m.Stat.PodName}
		if b.waiting[s] != nil {
			b.replaced++
			continue
		}
		b.push(s, &unsent{m, b.times[i]})
	}
	b.signal()
}

func (b *buffer) counts() (replaced, dropped uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.replaced, b.dropped
}

package kafkadispatch

import (
	"sync"
	"sync/atomic"
	"time"
)

// The way of records from the poll loop to the workers is fast on purpose; `rouse bench dispatch -delay 0` shows it. A
// poll loop that adds a burst of records under Dispatcher.mu makes two hundred workers queue for the lock, and once one
// of them has waited for a millisecond, sync.Mutex hands the lock over in the order of the queue: every use of it then
// costs a switch of goroutines. So the poll loop puts records into an inbox, which has a lock of its own, and workers,
// who have the other lock anyway, take a few over with each request that they end.
//
// What all goroutines together waited for locks in a run of 120,000 records without a sink delay, three runs in turn:
// inbox 10 to 16 s, the whole burst of 256 under the lock 8 to 27 s, shares of 32 with the lock given up in between 21
// to 28 s: each share waits for the whole queue. Bursts of 256 with tasks allocated and partitions counted under the
// lock, as it was first: 41 s.

// admitBurst is how many records a worker takes over at a time.
const admitBurst = 32

// inbox holds records between the poll loop and the scheduler, in the order of their receipt.
type inbox struct {
	mu      sync.Mutex
	in      []*task // guarded by mu
	records atomic.Int64
	bytes   atomic.Int64

	out []*task // taken from in, from at on still to be added; guarded by Dispatcher.mu
	at  int
}

// push adds records and takes over nothing of the slice.
func (b *inbox) push(ts []*task, bytes int64) {
	b.mu.Lock()
	b.in = append(b.in, ts...)
	b.mu.Unlock()
	b.bytes.Add(bytes)
	b.records.Add(int64(len(ts)))
}

// pop is called with Dispatcher.mu held.
func (b *inbox) pop() *task {
	if b.at == len(b.out) {
		if b.records.Load() == 0 {
			return nil
		}
		b.mu.Lock()
		b.out, b.in, b.at = b.in, b.out[:0], 0
		b.mu.Unlock()
		if len(b.out) == 0 {
			return nil
		}
	}
	t := b.out[b.at]
	b.out[b.at] = nil
	b.at++
	b.records.Add(-1)
	b.bytes.Add(-int64(t.Size))
	return t
}

// admitLocked adds at most so many records of the inbox to the scheduler. It reports whether there were any.
func (d *Dispatcher) admitLocked(most int, now time.Time) bool {
	n := 0
	for ; n < most; n++ {
		t := d.inbox.pop()
		if t == nil {
			break
		}
		if d.sched.Ready() == 0 {
			d.readySince = now
		}
		if !d.sched.Add(t.part.Partition, &t.Record, now) {
			d.counters.skipped.Add(1)
			t.free()
		}
	}
	return n > 0
}

// admitAllLocked is for those who must see everything that was received.
func (d *Dispatcher) admitAllLocked(now time.Time) {
	for d.admitLocked(1<<30, now) {
	}
}

// shared is what the poll loop reads without Dispatcher.mu. Whoever changed something says so with publishLocked
// before the lock is given up.
type shared struct {
	records, bytes atomic.Int64 // in the scheduler, without partitions that are not read
	hungry         atomic.Bool  // a request more could be under way: records must not wait for the end of another
}

// publishLocked also reports whether records came in between that nobody would take over.
func (d *Dispatcher) publishLocked() (again bool) {
	n, b := d.sched.Held()
	d.shared.records.Store(int64(n))
	d.shared.bytes.Store(b)
	if d.wantRoom && d.roomyLocked() {
		d.wantRoom = false
		signal(d.room)
	}
	flying, _ := d.sched.InFlight()
	hungry := flying == 0 || flying < d.sched.Limit()
	d.shared.hungry.Store(hungry)
	return hungry && d.inbox.records.Load() > 0
}

// full says whether as much is held as may be. A partition that is not read does not count, so that it cannot starve
// others. It needs no lock.
func (d *Dispatcher) full() bool {
	return d.shared.records.Load()+d.inbox.records.Load() >= int64(d.cfg.BufferRecords) ||
		d.shared.bytes.Load()+d.inbox.bytes.Load() >= d.cfg.BufferBytes
}

// roomyLocked says whether reading may go on after it stopped.
func (d *Dispatcher) roomyLocked() bool {
	n, b := d.sched.Held()
	return int64(n)+d.inbox.records.Load() <= int64(d.cfg.BufferRecords/2) && b+d.inbox.bytes.Load() <= d.cfg.BufferBytes/2
}

package breaker

import "sync/atomic"

// Waiter is one place in a queue. It belongs to one connection or stream and is reused for one wait after the
// other. The goroutine that waits calls [Waiter.Wait]; any goroutine may call [Waiter.Cancel] at any time.
//
// The zero value is not usable: see [NewWaiter].
type Waiter struct {
	ready chan error // capacity 1: nil for a grant, else the cause

	// place says in which queue the waiter stands, nil for none. It changes only under the lock of that queue's
	// owner, so whoever holds the lock and reads the queue's own place there knows that it stays.
	place      atomic.Pointer[place]
	prev, next *Waiter // guarded by the owner's lock

	// Grant is set by the owner of the queue before it wakes the waiter, and read after Wait returned nil: what was
	// granted, where a slot alone does not say it (the activator puts the pod here).
	Grant any

	// Tag is for the owner of the queue, set before the waiter is pushed: what it must know of the waiter when something
	// can be granted.
	Tag uint64

	// Parking, when set, is called by Wait when it is about to block. It runs on the waiting goroutine and may call
	// Cancel. It is set before the first wait.
	Parking func()
}

// Owner is a queue that waiters stand in.
type Owner interface {
	// Abandon takes w out of the queue and reports whether it was still there. It must not block.
	Abandon(w *Waiter) bool
}

// place ties a queue to its owner. It never changes once made: a canceller may still look at it when the waiter
// has long gone on.
type place struct{ owner Owner }

// NewWaiter returns a waiter for repeated use.
func NewWaiter() *Waiter { return &Waiter{ready: make(chan error, 1)} }

// Cancel takes the waiter out of the queue that it stands in: its Wait returns cause. It has no effect when the
// waiter is not waiting or was granted already. A Cancel that comes late, when the waiter has moved on to another
// owner's queue, has no effect there; to keep a late one from meeting the next wait in the same queue, the caller
// orders it before that wait.
func (w *Waiter) Cancel(cause error) {
	p := w.place.Load()
	if p == nil || !p.owner.Abandon(w) {
		return
	}
	w.ready <- cause
}

// Wait blocks until the waiter is granted (nil) or cancelled (the cause). It is called once after each enqueue.
func (w *Waiter) Wait() error {
	if w.Parking != nil && len(w.ready) == 0 {
		w.Parking()
	}
	return <-w.ready
}

// Queue is a FIFO of waiters with O(1) removal. It has no lock of its own: its owner guards it, and it has one owner
// for life. The zero value is an empty queue.
type Queue struct {
	head, tail *Waiter
	n          int
	place      *place
}

// Len returns how many waiters stand in the queue.
func (q *Queue) Len() int { return q.n }

// Head returns the oldest waiter and leaves it where it is, nil when there is none.
func (q *Queue) Head() *Waiter { return q.head }

// Push appends w; owner is whom Cancel will ask to abandon it.
func (q *Queue) Push(w *Waiter, owner Owner) {
	if q.place == nil {
		q.place = &place{owner}
	}
	w.Grant = nil
	w.prev, w.next = q.tail, nil
	if q.tail != nil {
		q.tail.next = w
	} else {
		q.head = w
	}
	q.tail = w
	q.n++
	w.place.Store(q.place)
}

// PushFront puts w at the head, under the rules of Push: for one that was granted before, and came back through no
// fault of its own. The activator needs it; a retried request must not wait behind those that came later.
func (q *Queue) PushFront(w *Waiter, owner Owner) {
	if q.place == nil {
		q.place = &place{owner}
	}
	w.Grant = nil
	w.prev, w.next = nil, q.head
	if q.head != nil {
		q.head.prev = w
	} else {
		q.tail = w
	}
	q.head = w
	q.n++
	w.place.Store(q.place)
}

// Remove takes w out and reports whether it stood in this queue.
func (q *Queue) Remove(w *Waiter) bool {
	if q.place == nil || w.place.Load() != q.place {
		return false
	}
	w.place.Store(nil)
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.tail = w.prev
	}
	w.prev, w.next = nil, nil
	q.n--
	return true
}

// Pop takes out the oldest waiter, nil when there is none. The caller must wake it with [Waiter.Wake].
func (q *Queue) Pop() *Waiter {
	w := q.head
	if w != nil {
		q.Remove(w)
	}
	return w
}

// Wake ends the wait of a waiter that was popped: nil grants, an error refuses. Each popped waiter is woken once.
// It never blocks.
func (w *Waiter) Wake(err error) { w.ready <- err }

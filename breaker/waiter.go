package breaker

import "sync/atomic"

// Waiter is one place in a queue. It belongs to one connection or stream and is reused for one wait after the
// other. The goroutine that waits calls [Waiter.Wait]; any goroutine may call [Waiter.Cancel] at any time.
//
// The zero value is not usable: see [NewWaiter].
type Waiter struct {
	ready chan error // capacity 1: nil for a grant, else the cause
	owner atomic.Pointer[ownerBox]
	box   ownerBox

	// Grant is set by the owner of the queue before it wakes the waiter, and read after Wait returned nil: what was
	// granted, where a slot alone does not say it (the activator puts the pod here).
	Grant any

	// Parking, when set, is called by Wait when it is about to block. It runs on the waiting goroutine and may call
	// Cancel. It is set before the first wait.
	Parking func()

	queued     bool // guarded by the owner's lock
	prev, next *Waiter
}

// Owner is a queue that waiters stand in.
type Owner interface {
	// Abandon takes w out of the queue and reports whether it was still there. It must not block.
	Abandon(w *Waiter) bool
}

type ownerBox struct{ Owner }

// NewWaiter returns a waiter for repeated use.
func NewWaiter() *Waiter { return &Waiter{ready: make(chan error, 1)} }

// Cancel takes the waiter out of its queue: its Wait returns cause. It has no effect when the waiter is not waiting
// or was granted already.
func (w *Waiter) Cancel(cause error) {
	o := w.owner.Load()
	if o == nil || !o.Abandon(w) {
		return
	}
	w.wake(cause)
}

// Wait blocks until the waiter is granted (nil) or cancelled (the cause). It is called once after each enqueue.
func (w *Waiter) Wait() error {
	if w.Parking != nil && len(w.ready) == 0 {
		w.Parking()
	}
	err := <-w.ready
	w.owner.Store(nil)
	return err
}

func (w *Waiter) wake(err error) { w.ready <- err }

// Queue is a FIFO of waiters with O(1) removal. It has no lock of its own: its owner guards it. The zero value is
// an empty queue.
type Queue struct {
	head, tail *Waiter
	n          int
}

// Len returns how many waiters stand in the queue.
func (q *Queue) Len() int { return q.n }

// Push appends w; owner is whom Cancel will ask to abandon it.
func (q *Queue) Push(w *Waiter, owner Owner) {
	w.box.Owner = owner
	w.owner.Store(&w.box)
	w.Grant = nil
	w.queued = true
	w.prev, w.next = q.tail, nil
	if q.tail != nil {
		q.tail.next = w
	} else {
		q.head = w
	}
	q.tail = w
	q.n++
}

// PushFront puts w at the head: for one that was granted before, and came back through no fault of its own.
func (q *Queue) PushFront(w *Waiter, owner Owner) {
	w.box.Owner = owner
	w.owner.Store(&w.box)
	w.Grant = nil
	w.queued = true
	w.prev, w.next = nil, q.head
	if q.head != nil {
		q.head.prev = w
	} else {
		q.tail = w
	}
	q.head = w
	q.n++
}

// Remove takes w out and reports whether it stood in the queue.
func (q *Queue) Remove(w *Waiter) bool {
	if !w.queued {
		return false
	}
	w.queued = false
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
func (w *Waiter) Wake(err error) { w.wake(err) }

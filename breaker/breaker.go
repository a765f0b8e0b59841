// Package breaker limits how many requests are in flight, and keeps those beyond the limit in a bounded queue.
//
// Promises: the queue is strictly first in, first out, and a slot that becomes free is handed to the oldest waiter,
// so that a newcomer never passes one. Capacity can change at any time; lowering it never cuts a request in flight.
// A waiter leaves in O(1) when its client or its deadline does. In-flight and pending counts are exact. Nothing is
// allocated per request.
//
// The package does not know HTTP, time or configuration. A Breaker is safe for concurrent use.
package breaker

import (
	"errors"
	"sync"
)

// ErrFull reports that the queue is at its bound.
var ErrFull = errors.New("breaker: queue is full")

// Breaker admits up to its capacity and queues up to its queue bound.
type Breaker struct {
	mu       sync.Mutex
	capacity int
	bound    int
	inFlight int
	queue    Queue
}

// New returns a breaker that admits capacity requests at a time and lets up to queue more wait.
// A capacity of 0 admits nobody until [Breaker.SetCapacity] raises it.
func New(capacity, queue int) *Breaker {
	return &Breaker{capacity: capacity, bound: queue}
}

// TryAcquire takes a slot when one is free and nobody waits for it.
func (b *Breaker) TryAcquire() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inFlight >= b.capacity || b.queue.Len() > 0 {
		return false
	}
	b.inFlight++
	return true
}

// Acquire takes a slot, waiting for one behind everybody who came earlier. It returns nil when the caller has a
// slot and owes a [Breaker.Release]; ErrFull when the queue is at its bound; else the cause that w was cancelled
// with.
func (b *Breaker) Acquire(w *Waiter) error {
	b.mu.Lock()
	if b.inFlight < b.capacity && b.queue.Len() == 0 {
		b.inFlight++
		b.mu.Unlock()
		return nil
	}
	if b.queue.Len() >= b.bound {
		b.mu.Unlock()
		return ErrFull
	}
	b.queue.Push(w, b)
	b.mu.Unlock()
	return w.Wait()
}

// Release gives a slot back: to the oldest waiter, if there is one and the capacity still allows it.
func (b *Breaker) Release() {
	b.mu.Lock()
	b.inFlight--
	b.grant()
	b.mu.Unlock()
}

// SetCapacity changes the limit at once. Slots that become free are handed out; a lower limit takes effect as
// requests finish.
func (b *Breaker) SetCapacity(n int) {
	b.mu.Lock()
	b.capacity = n
	b.grant()
	b.mu.Unlock()
}

// grant hands free slots to waiters. Waking is a send on a channel of capacity one that is known to be empty, so it
// never blocks under the lock.
func (b *Breaker) grant() {
	for b.inFlight < b.capacity && b.queue.Len() > 0 {
		b.inFlight++
		b.queue.Pop().Wake(nil)
	}
}

// Abandon implements [Owner].
func (b *Breaker) Abandon(w *Waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue.Remove(w)
}

// Counts are a breaker's figures at one moment.
type Counts struct {
	Capacity int
	InFlight int
	Pending  int
}

// Counts returns the present figures.
func (b *Breaker) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Counts{b.capacity, b.inFlight, b.queue.Len()}
}

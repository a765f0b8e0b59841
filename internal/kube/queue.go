package kube

import (
	"context"
	"sync"
	"time"
)

// The pauses after a failure double from first to most.
const (
	firstRetry = 20 * time.Millisecond
	mostRetry  = 5 * time.Second
)

// shortestHold: what is less is not worth a timer.
const shortestHold = time.Millisecond

// queue holds the keys that somebody should look at, each once, in the order in which they came. A key that comes while
// it is looked at is looked at again afterwards, never twice at the same time. It starts no goroutine, unlike
// client-go's: what comes later comes by a timer. The zero value is ready.
type queue struct {
	mu      sync.Mutex
	order   []key                 // guarded by mu
	waiting map[key]bool          // in order; guarded by mu
	busy    map[key]bool          // taken and not done; guarded by mu
	again   map[key]bool          // came while busy; guarded by mu
	retry   map[key]time.Duration // last pause; guarded by mu
	timers  map[key]*wish         // guarded by mu
	held    map[key]*hold         // guarded by mu
	closed  bool                  // guarded by mu
	some    chan struct{}         // has a token when there may be something
}

// wish is for a look at a key later.
type wish struct {
	timer *time.Timer
	at    time.Time
}

// hold keeps a key back for a while.
type hold struct {
	timer  *time.Timer
	wanted bool // somebody asked for a look meanwhile
}

func newQueue() *queue {
	return &queue{
		waiting: map[key]bool{}, busy: map[key]bool{}, again: map[key]bool{}, retry: map[key]time.Duration{},
		timers: map[key]*wish{}, held: map[key]*hold{}, some: make(chan struct{}, 1),
	}
}

// Add asks for a look at a key.
func (q *queue) Add(k key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(k)
}

func (q *queue) add(k key) {
	switch {
	case q.closed || q.waiting[k]:
		return
	case q.busy[k]:
		q.again[k] = true
		return
	case q.held[k] != nil:
		q.held[k].wanted = true
		return
	}
	q.waiting[k] = true
	q.order = append(q.order, k)
	q.signal()
}

// AddAfter asks for a look later; of several such wishes about one key the soonest holds.
func (q *queue) AddAfter(k key, after time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := time.Now().Add(after)
	w := q.timers[k]
	if q.closed || w != nil && !at.Before(w.at) {
		return
	}
	if w != nil {
		w.timer.Stop()
	}
	now := &wish{at: at}
	now.timer = time.AfterFunc(after, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.timers[k] == now {
			delete(q.timers, k)
			q.add(k)
		}
	})
	q.timers[k] = now
}

// Hold keeps a key back: who asks for it meanwhile gets one look afterwards. It is for looks that cost much, so that what
// changes very often does not cost as many of them.
func (q *queue) Hold(k key, pause time.Duration) {
	if pause < shortestHold {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.held[k] != nil {
		return
	}
	h := &hold{}
	h.timer = time.AfterFunc(pause, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.held[k] == h {
			q.release(k)
		}
	})
	q.held[k] = h
}

// Release ends a Hold.
func (q *queue) Release(k key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release(k)
}

func (q *queue) release(k key) {
	h := q.held[k]
	if h == nil {
		return
	}
	h.timer.Stop()
	delete(q.held, k)
	if h.wanted {
		q.add(k)
	}
}

// Retry asks for a look after a pause that doubles with each failure, until Forget.
func (q *queue) Retry(k key) {
	q.mu.Lock()
	pause := min(max(2*q.retry[k], firstRetry), mostRetry)
	q.retry[k] = pause
	q.mu.Unlock()
	q.AddAfter(k, pause)
}

// Forget ends the pauses of a key.
func (q *queue) Forget(k key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.retry, k)
}

func (q *queue) signal() {
	select {
	case q.some <- struct{}{}:
	default:
	}
}

// Get takes the next key, and blocks until there is one; false when ctx ended. Done must follow.
func (q *queue) Get(ctx context.Context) (key, bool) {
	for {
		if k, ok := q.take(); ok {
			return k, true
		}
		select {
		case <-ctx.Done():
			return key{}, false
		case <-q.some:
		}
	}
}

func (q *queue) take() (key, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 || q.closed {
		return key{}, false
	}
	k := q.order[0]
	q.order = q.order[1:]
	if len(q.order) > 0 {
		q.signal() // another may share
	} else {
		q.order = nil
	}
	delete(q.waiting, k)
	q.busy[k] = true
	return k, true
}

// Done says that the look is over.
func (q *queue) Done(k key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, k)
	if q.again[k] {
		delete(q.again, k)
		q.add(k)
	}
}

// work looks at keys with so many goroutines until ctx ends, then closes the queue.
func (q *queue) work(ctx context.Context, workers int, look func(key)) {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				k, ok := q.Get(ctx)
				if !ok {
					return
				}
				look(k)
				q.Done(k)
			}
		})
	}
	wg.Wait()
	q.close()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for k, w := range q.timers {
		w.timer.Stop()
		delete(q.timers, k)
	}
	for k, h := range q.held {
		h.timer.Stop()
		delete(q.held, k)
	}
}

package control

import (
	"context"
	"sync"
)

// The lanes: a slow change of routes must not hold up a scale request of the same revision.
const (
	laneScale = iota
	laneMode
)

// turn is where a revision stands in one lane.
type turn struct {
	queued  bool
	running bool
}

// lane runs work for revisions in the order in which it came up, by a fixed number of workers, never for the same
// revision twice at a time. A revision stands in it once, however often it is put: the work looks at what is newest.
// So it holds at most as many entries as there are revisions.
type lane struct {
	do func(context.Context, *revision)

	mu    sync.Mutex
	queue []entry    // guarded by mu
	more  chan token // has a token when the queue may have something
}

type token struct{}

type entry struct {
	r    *revision
	lane int
}

func newLane(do func(context.Context, *revision)) *lane {
	return &lane{do: do, more: make(chan token, 1)}
}

// put asks for work; the caller holds r.mu.
func (l *lane) put(r *revision, which int) {
	t := &r.lanes[which]
	if t.queued {
		return
	}
	t.queued = true
	if !t.running { // else it is put again when the work under way ends
		l.push(entry{r, which})
	}
}

func (l *lane) push(e entry) {
	l.mu.Lock()
	l.queue = append(l.queue, e)
	l.mu.Unlock()
	l.signal()
}

func (l *lane) signal() {
	select {
	case l.more <- token{}:
	default:
	}
}

func (l *lane) pop() (e entry, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return entry{}, false
	}
	e = l.queue[0]
	l.queue[0] = entry{}
	l.queue = l.queue[1:]
	if len(l.queue) == 0 {
		l.queue = nil
	} else {
		l.signal() // let another worker share
	}
	return e, true
}

// work is one worker. It returns when ctx ends.
func (l *lane) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.more:
		}
		for ctx.Err() == nil {
			e, ok := l.pop()
			if !ok {
				break
			}
			l.one(ctx, e)
		}
	}
}

func (l *lane) one(ctx context.Context, e entry) {
	t := &e.r.lanes[e.lane]
	e.r.mu.Lock()
	t.queued, t.running = false, true
	e.r.mu.Unlock()
	l.do(ctx, e.r)
	e.r.mu.Lock()
	t.running = false
	again := t.queued
	e.r.mu.Unlock()
	if again {
		l.push(e)
	}
}

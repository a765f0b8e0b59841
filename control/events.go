package control

import (
	"context"
	"log/slog"
	"sync"
)

// outbox carries events from the decisions, which must not wait, to the observer, who may be slow. It keeps a bounded
// number and drops the oldest beyond that.
type outbox struct {
	bound int

	mu      sync.Mutex
	some    sync.Cond
	queue   []Event // guarded by mu
	dropped uint64  // guarded by mu
	closed  bool    // guarded by mu
}

func newOutbox(bound int) *outbox {
	o := &outbox{bound: bound}
	o.some.L = &o.mu
	return o
}

func (o *outbox) put(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == o.bound {
		o.queue = o.queue[1:]
		o.dropped++
	}
	o.queue = append(o.queue, e)
	o.some.Signal()
}

// close lets deliver return once it has delivered what is there.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.some.Signal()
}

func (o *outbox) lost() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dropped
}

// deliver hands every event to do, in order, until the outbox is closed and empty.
func (o *outbox) deliver(do func(Event)) {
	for {
		o.mu.Lock()
		for len(o.queue) == 0 && !o.closed {
			o.some.Wait()
		}
		batch := o.queue
		o.queue = nil
		o.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for i := range batch {
			do(batch[i])
		}
	}
}

// tell logs an event and hands it to the observer.
func (l *Loop) tell(e Event) {
	e.Time = onTheWall(e.Time, l.off())
	if l.deps.Log != nil {
		level := slog.LevelInfo
		attrs := []any{"namespace", e.Revision.Namespace, "revision", e.Revision.Name, "service", e.Service, "reason", e.Reason}
		switch e.Kind {
		case Waking, Scaled, Asleep:
			attrs = append(attrs, "from", e.From, "to", e.To)
		case ModeChanged:
			attrs = append(attrs, "mode", e.Mode.String())
		case ApplyFailed:
			level = slog.LevelWarn
			attrs = append(attrs, "error", e.Err)
		case PanicBegins, PanicEnds:
		}
		l.deps.Log.Log(context.Background(), level, e.Kind.String(), attrs...)
	}
	if l.deps.Observer != nil {
		l.deps.Observer(e)
	}
}

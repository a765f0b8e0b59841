package breaker

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// model is a breaker that is easy to believe: one slice, no atomics.
type model struct {
	capacity, bound, inFlight int
	queue                     []int // waiters, oldest first
}

func (m *model) grant() (granted []int) {
	for m.inFlight < m.capacity && len(m.queue) > 0 {
		granted, m.queue = append(granted, m.queue[0]), m.queue[1:]
		m.inFlight++
	}
	return granted
}

// acquire returns "slot", "full" or "wait".
func (m *model) acquire(id int) string {
	switch {
	case m.inFlight < m.capacity && len(m.queue) == 0:
		m.inFlight++
		return "slot"
	case len(m.queue) >= m.bound:
		return "full"
	}
	m.queue = append(m.queue, id)
	return "wait"
}

func (m *model) cancel(id int) bool {
	for i, q := range m.queue {
		if q == id {
			m.queue = append(m.queue[:i], m.queue[i+1:]...)
			return true
		}
	}
	return false
}

var errLeft = errors.New("left")

// TestBreakerAgainstModel runs random operations on a breaker and on the model, and compares who has a slot, who
// waits and in which order slots are handed out, after each step. Waits are split into their two halves, so that one
// goroutine plays everybody.
func TestBreakerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{capacity: rapid.IntRange(0, 4).Draw(t, "capacity"), bound: rapid.IntRange(0, 5).Draw(t, "queue")}
		r := &run{m: m, b: New(m.capacity, m.bound), waiting: map[int]bool{}}
		for i := range 12 {
			r.idle = append(r.idle, i)
			r.waiters = append(r.waiters, NewWaiter())
		}
		t.Repeat(map[string]func(*rapid.T){
			"acquire": r.acquire, "try": r.try, "release": r.release, "cancel": r.cancel, "resize": r.resize,
			"": r.check,
		})
	})
}

type run struct {
	m       *model
	b       *Breaker
	waiters []*Waiter
	idle    []int
	waiting map[int]bool
}

func (r *run) acquire(t *rapid.T) {
	if len(r.idle) == 0 {
		return // everybody waits
	}
	id := r.idle[0]
	want := r.m.acquire(id)
	got := "wait"
	if queued, err := r.b.enqueue(r.waiters[id]); !queued {
		got = outcome(err)
	}
	if got != want {
		t.Fatalf("enqueue = %s, want %s", got, want)
	}
	if want == "wait" {
		r.idle = r.idle[1:]
		r.waiting[id] = true
	}
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "slot"
	case errors.Is(err, ErrFull):
		return "full"
	}
	return err.Error()
}

func (r *run) try(t *rapid.T) {
	want := r.m.inFlight < r.m.capacity && len(r.m.queue) == 0
	if got := r.b.TryAcquire(); got != want {
		t.Fatalf("TryAcquire = %v, want %v", got, want)
	}
	if want {
		r.m.inFlight++
	}
}

func (r *run) release(t *rapid.T) {
	if r.m.inFlight == 0 {
		return // nothing is in flight
	}
	r.m.inFlight--
	r.b.Release()
	r.granted(t, r.m.grant())
}

func (r *run) resize(t *rapid.T) {
	r.m.capacity = rapid.IntRange(0, 6).Draw(t, "to")
	r.b.SetCapacity(r.m.capacity)
	r.granted(t, r.m.grant())
}

// granted checks that exactly these waiters were given slots. Each is looked at after every step, so their order is
// that of the model's queue.
func (r *run) granted(t *rapid.T, ids []int) {
	for _, id := range ids {
		if len(r.waiters[id].ready) == 0 {
			t.Fatalf("waiter %d still waits, the model gave it a slot", id)
		}
		if err := r.waiters[id].Wait(); err != nil {
			t.Fatalf("waiter %d: %v, want a slot", id, err)
		}
		r.gone(id)
	}
}

func (r *run) gone(id int) {
	delete(r.waiting, id)
	r.idle = append(r.idle, id)
}

func (r *run) cancel(t *rapid.T) {
	id := rapid.IntRange(0, len(r.waiters)-1).Draw(t, "who")
	waited := r.m.cancel(id)
	w := r.waiters[id]
	w.Cancel(errLeft)
	if got := len(w.ready) == 1; got != waited {
		t.Fatalf("Cancel of waiter %d took effect: %v, want %v", id, got, waited)
	}
	if !waited {
		return
	}
	if err := w.Wait(); !errors.Is(err, errLeft) {
		t.Fatalf("cancelled wait = %v, want %v", err, errLeft)
	}
	r.gone(id)
}

func (r *run) check(t *rapid.T) {
	want := Counts{r.m.capacity, r.m.inFlight, len(r.m.queue)}
	if got := r.b.Counts(); got != want {
		t.Fatalf("Counts = %+v, want %+v", got, want)
	}
	for id := range r.waiting {
		if len(r.waiters[id].ready) > 0 {
			t.Fatalf("waiter %d does not wait any more, the model's does", id)
		}
	}
}

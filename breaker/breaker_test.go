package breaker

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFIFO holds the promise that a newcomer never passes a waiter, with newcomers that try all the time.
func TestFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiters = 100
		b := New(1, waiters)
		if !b.TryAcquire() {
			t.Fatal("TryAcquire on an empty breaker = false")
		}
		var order []int
		for i := range waiters {
			go func() {
				if err := b.Acquire(NewWaiter()); err != nil {
					t.Errorf("waiter %d: %v", i, err)
				}
				order = append(order, i) // one slot: no two at once
				b.Release()
			}()
			synctest.Wait() // i stands in the queue before i+1 comes
			if b.TryAcquire() {
				t.Fatal("a newcomer passed the queue")
			}
		}
		b.Release()
		synctest.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("slot %d went to waiter %d", i, got)
			}
		}
		if got, want := b.Counts(), (Counts{Capacity: 1}); got != want {
			t.Errorf("Counts = %+v, want %+v", got, want)
		}
	})
}

// TestHammer has many goroutines acquire, cancel, release and resize at once. It looks for lost slots, lost wake-ups
// and a capacity that is exceeded; the race detector looks for the rest.
func TestHammer(t *testing.T) {
	const clients, rounds, most = 32, 2000, 7
	b := New(most, clients)
	var inside, granted, cancelled atomic.Int64
	var wg, helpers sync.WaitGroup
	done := make(chan struct{})
	waiters := make([]*Waiter, clients)
	for i := range waiters {
		waiters[i] = NewWaiter()
	}
	for i := range clients {
		wg.Go(func() {
			for range rounds {
				switch err := b.Acquire(waiters[i]); {
				case err == nil:
					if n := inside.Add(1); n > most {
						t.Errorf("%d inside, capacity %d", n, most)
					}
					granted.Add(1)
					inside.Add(-1)
					b.Release()
				case errors.Is(err, errLeft):
					cancelled.Add(1)
				default:
					t.Errorf("Acquire = %v", err)
				}
			}
		})
	}
	helpers.Go(func() { // cancels whoever waits, and whoever does not
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				waiters[i%clients].Cancel(errLeft)
			}
		}
	})
	helpers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				b.SetCapacity(1 + i%most)
			}
		}
	})
	wg.Wait()
	close(done)
	helpers.Wait()
	if got := granted.Load() + cancelled.Load(); got != clients*rounds {
		t.Errorf("%d outcomes, want %d", got, clients*rounds)
	}
	b.SetCapacity(most)
	if got, want := b.Counts(), (Counts{Capacity: most}); got != want {
		t.Errorf("Counts = %+v, want %+v", got, want)
	}
}

// TestLateCancel has a canceller of one owner's wait run when the waiter stands in another owner's queue already.
func TestLateCancel(t *testing.T) {
	first, second := New(0, 1), New(0, 1)
	w := NewWaiter()
	first.queue.Push(w, first)
	late := w.place.Load().owner
	first.queue.Pop().Wake(nil)
	if err := w.Wait(); err != nil {
		t.Fatal(err)
	}
	if queued, err := second.enqueue(w); !queued {
		t.Fatalf("enqueue = %v", err)
	}
	if late.Abandon(w) {
		t.Error("the first owner abandoned a waiter of the second")
	}
	if got := second.Counts().Pending; got != 1 {
		t.Errorf("Pending = %d, want 1", got)
	}
	w.Cancel(errLeft)
	if err := w.Wait(); !errors.Is(err, errLeft) {
		t.Errorf("Wait = %v, want %v", err, errLeft)
	}
}

// TestParking shows that the hook runs before blocking only, and may cancel.
func TestParking(t *testing.T) {
	b := New(1, 1)
	w := NewWaiter()
	parked := 0
	w.Parking = func() { parked++; w.Cancel(errLeft) }
	if err := b.Acquire(w); err != nil || parked != 0 {
		t.Fatalf("Acquire = %v after %d calls of Parking, want a slot after none", err, parked)
	}
	if err := b.Acquire(w); !errors.Is(err, errLeft) || parked != 1 {
		t.Errorf("Acquire = %v after %d calls of Parking, want %v after one", err, parked, errLeft)
	}
	b.Release()
}

func TestNoAllocation(t *testing.T) {
	b := New(10, 10)
	w := NewWaiter()
	cycle := func() {
		if err := b.Acquire(w); err != nil {
			t.Fatal(err)
		}
		b.Release()
	}
	if n := testing.AllocsPerRun(1000, cycle); n != 0 {
		t.Errorf("Acquire and Release: %v allocations, want 0", n)
	}
	b.SetCapacity(0)
	w.Parking = func() { w.Cancel(errLeft) }
	wait := func() {
		if err := b.Acquire(w); !errors.Is(err, errLeft) {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1000, wait); n != 0 {
		t.Errorf("queue and cancel: %v allocations, want 0", n)
	}
}

func Example() {
	b := New(1, 10)
	w := NewWaiter() // one per connection, for all its requests
	if err := b.Acquire(w); err != nil {
		fmt.Println("refused:", err)
		return
	}
	defer b.Release()
	fmt.Printf("%+v\n", b.Counts())
	// Output: {Capacity:1 InFlight:1 Pending:0}
}

// Example_queueFull shows what happens at the queue's bound.
func Example_queueFull() {
	b := New(0, 0) // scaled to zero, and nobody may wait
	fmt.Println(b.Acquire(NewWaiter()))
	// Output: breaker: queue is full
}

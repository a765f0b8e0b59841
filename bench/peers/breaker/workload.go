package main

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/rousehq/rouse/breaker"
	"knative.dev/serving/pkg/queue"
)

// limiter is one contender at one capacity. It returns, for each goroutine that uses it, what acquires, calls hold,
// and releases.
type limiter struct {
	name   string
	worker func() func(hold func())
}

const queueBound = 10_000 // far above what the workloads queue: refusing is not measured

func ours(capacity int) limiter {
	b := breaker.New(capacity, queueBound)
	return limiter{"rouse", func() func(func()) {
		w := breaker.NewWaiter()
		return func(hold func()) {
			if b.Acquire(w) == nil {
				hold()
				b.Release()
			}
		}
	}}
}

func knative(capacity int) limiter {
	b := queue.NewBreaker(queue.BreakerParams{QueueDepth: queueBound, MaxConcurrency: capacity, InitialCapacity: capacity})
	ctx := context.Background()
	return limiter{"knative", func() func(func()) {
		return func(hold func()) {
			_ = b.Maybe(ctx, hold) // the queue is never full here
		}
	}}
}

// workload is how many goroutines share how many slots, and what they do with one.
type workload struct {
	name       string
	goroutines int
	capacity   int
	hold       func()
	bound      float64 // of our time to Knative's
}

func workloads() []workload {
	nothing := func() {}
	return []workload{
		{"uncontended", 1, 100, nothing, 0.6},
		{"parallel: 64 goroutines, slots free", 64, 1000, nothing, 0.65},
		// Yielding with the slot is what makes the others queue: a slot that is held for no time is never missed.
		{"saturated: 256 goroutines, 10 slots", 256, 10, runtime.Gosched, 2},
	}
}

// measure runs n acquisitions shared out over the workload's goroutines, and returns the time per acquisition.
func (w workload) measure(l limiter, n int) time.Duration {
	each := max(1, n/w.goroutines)
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	for range w.goroutines {
		ready.Add(1)
		done.Go(func() {
			acquire := l.worker()
			ready.Done()
			<-begin
			for range each {
				acquire(w.hold)
			}
		})
	}
	ready.Wait()
	start := time.Now()
	close(begin)
	done.Wait()
	return time.Since(start) / time.Duration(each*w.goroutines)
}

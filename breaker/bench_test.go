package breaker

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sync/semaphore"
)

// The rivals: a channel, and x/sync's semaphore, which is first in, first out as well. Knative's breaker stands beside
// ours in the bench/peers/breaker module.

type rival struct {
	name string
	make func(capacity int) (acquire func(*Waiter), release func())
}

var rivals = []rival{
	{"breaker", func(n int) (func(*Waiter), func()) {
		b := New(n, 1<<20)
		return func(w *Waiter) { _ = b.Acquire(w) }, b.Release
	}},
	{"channel", func(n int) (func(*Waiter), func()) {
		c := make(chan struct{}, n)
		return func(*Waiter) { c <- struct{}{} }, func() { <-c }
	}},
	{"semaphore", func(n int) (func(*Waiter), func()) {
		s := semaphore.NewWeighted(int64(n))
		return func(*Waiter) { _ = s.Acquire(context.Background(), 1) }, func() { s.Release(1) }
	}},
}

func BenchmarkUncontended(b *testing.B) {
	for _, r := range rivals {
		b.Run(r.name, func(b *testing.B) {
			acquire, release := r.make(10)
			w := NewWaiter()
			b.ReportAllocs()
			for b.Loop() {
				acquire(w)
				release()
			}
		})
	}
}

func BenchmarkParallel(b *testing.B) {
	for _, r := range rivals {
		b.Run(r.name, func(b *testing.B) { parallel(b, r, 64, 1000, func() {}) })
	}
}

func BenchmarkSaturated(b *testing.B) {
	for _, r := range rivals {
		b.Run(r.name, func(b *testing.B) { parallel(b, r, 256, 10, runtime.Gosched) })
	}
}

func parallel(b *testing.B, r rival, goroutines, capacity int, hold func()) {
	acquire, release := r.make(capacity)
	var wg sync.WaitGroup
	b.ReportAllocs()
	for range goroutines {
		wg.Go(func() {
			w := NewWaiter()
			for range b.N / goroutines {
				acquire(w)
				hold()
				release()
			}
		})
	}
	wg.Wait()
}

package kube

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		q := newQueue()
		a, b := key{"n", "a"}, key{"n", "b"}
		began := time.Now()
		var mu sync.Mutex
		var seen []string
		block := make(chan struct{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			q.work(ctx, 2, func(k key) {
				mu.Lock()
				seen = append(seen, k.name+" "+time.Since(began).String())
				first := len(seen) == 1
				mu.Unlock()
				if first {
					<-block
				}
			})
		}()
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(seen, want) {
				t.Errorf("seen %v, want %v", seen, want)
			}
		}
		q.Add(a)
		expect("a 0s")
		q.Add(a) // while it is looked at, twice
		q.Add(a)
		q.Add(b) // another worker
		expect("a 0s", "b 0s")
		close(block)
		expect("a 0s", "b 0s", "a 0s")
		q.Retry(b)
		q.Retry(b) // the first wish holds, the pause has grown
		time.Sleep(firstRetry)
		expect("a 0s", "b 0s", "a 0s", "b 20ms")
		q.Retry(b)
		time.Sleep(79 * time.Millisecond)
		expect("a 0s", "b 0s", "a 0s", "b 20ms")
		time.Sleep(time.Millisecond)
		expect("a 0s", "b 0s", "a 0s", "b 20ms", "b 100ms")
		q.Forget(b)
		q.AddAfter(b, time.Hour)
		cancel()
		<-ended
		q.Add(a) // after the end
		time.Sleep(2 * time.Hour)
		expect("a 0s", "b 0s", "a 0s", "b 20ms", "b 100ms")
	})
}

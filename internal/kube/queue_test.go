package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
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
		q.Retry(b) // the soonest wish holds, the pause has grown
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

// TestTheSoonestWishHolds, in whatever order they come.
func TestTheSoonestWishHolds(t *testing.T) {
	const ms = time.Millisecond
	for name, wishes := range map[string][]time.Duration{
		"one": {10 * ms}, "the soonest first": {10 * ms, 500 * ms}, "the soonest last": {500 * ms, 10 * ms}, "both alike": {10 * ms, 10 * ms},
		"the soonest between": {500 * ms, 10 * ms, 20 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue()
				k, began := key{"a", "b"}, time.Now()
				for _, after := range wishes {
					q.AddAfter(k, after)
				}
				if _, ok := q.Get(t.Context()); !ok || time.Since(began) != 10*ms {
					t.Errorf("it came after %v, want 10ms", time.Since(began))
				}
				q.Done(k)
				time.Sleep(time.Second)
				if k, ok := q.take(); ok {
					t.Errorf("%s came again: each wish is one look at most", k)
				}
				q.close()
			})
		})
	}
}

// TestManyPodsCostFewLooks: a thousand pods that appear one by one within a second are not a thousand looks at all of them.
func TestManyPodsCostFewLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.deployment(1000)
		r.service(helloService(nil))
		looks := 0
		r.mirror.touched = func(key) { looks++ }
		r.Cluster.onWorkload = r.mirror.queue.Add
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.mirror.run(ctx)
		}()
		for i := range 1000 {
			r.pod(podObject(fmt.Sprint("p", i), func(p *corev1.Pod) { p.Status.PodIPs[0].IP = fmt.Sprintf("10.77.%d.%d", i/250, 1+i%250) }))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(longestPause)
		cancel()
		<-ended
		n := len(r.mirror.book.Snapshot(r.mirror.get(key{"default", "hello"}).rev).Endpoints)
		if n != 1000 || looks > 150 {
			t.Errorf("%d pods are known after %d looks, want all after at most 150", n, looks)
		}
	})
}

// TestQueueHolds: what is asked for while a key is held back is one look at the end, or at once when it is released.
func TestQueueHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		q := newQueue()
		a := key{"n", "a"}
		began := time.Now()
		var mu sync.Mutex
		var seen []time.Duration
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			q.work(ctx, 2, func(k key) {
				mu.Lock()
				seen = append(seen, time.Since(began))
				mu.Unlock()
				q.Hold(k, 50*time.Millisecond)
				q.Hold(key{"n", "b"}, shortestHold-1)
			})
		}()
		expect := func(want ...time.Duration) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(seen, want) {
				t.Errorf("seen at %v, want %v", seen, want)
			}
		}
		const ms = time.Millisecond
		for range 99 {
			q.Add(a)
			time.Sleep(ms)
		}
		expect(0, 50*ms)
		time.Sleep(ms) // asked for until 98 ms
		expect(0, 50*ms, 100*ms)
		time.Sleep(time.Minute)
		expect(0, 50*ms, 100*ms)
		q.Add(a)
		q.Add(a)
		late := time.Since(began)
		expect(0, 50*ms, 100*ms, late)
		q.Add(a)
		q.Release(a)
		q.Release(a)
		expect(0, 50*ms, 100*ms, late, late)
		q.Add(key{"n", "b"}) // too short to be held
		expect(0, 50*ms, 100*ms, late, late, late)
		cancel()
		<-ended
		q.Hold(a, time.Hour)
	})
}

package main

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
)

func TestWorkloadsHoldTheLimitAndLoseNothing(t *testing.T) {
	for _, w := range workloads() {
		for _, l := range []limiter{ours(w.capacity), knative(w.capacity)} {
			var held, most, total atomic.Int64
			inner := w.hold
			w.hold = func() {
				n := held.Add(1)
				for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
				}
				inner()
				total.Add(1)
				held.Add(-1)
			}
			w.measure(l, 5000)
			w.hold = inner
			if want := int64(5000 / w.goroutines * w.goroutines); total.Load() != want {
				t.Errorf("%s, %s: %d acquisitions, want %d", w.name, l.name, total.Load(), want)
			}
			if most.Load() > int64(w.capacity) {
				t.Errorf("%s, %s: %d held at once, limit %d", w.name, l.name, most.Load(), w.capacity)
			}
		}
	}
}

func TestComparePrintsEveryWorkload(t *testing.T) {
	var out bytes.Buffer
	if _, err := compare(&out, 1, 1000); err != nil {
		t.Fatal(err)
	}
	for _, w := range workloads() {
		if !strings.Contains(out.String(), w.name) {
			t.Errorf("%q is missing in\n%s", w.name, out.String())
		}
	}
}

func BenchmarkBreaker(b *testing.B) {
	for _, w := range workloads() {
		for _, l := range []limiter{ours(w.capacity), knative(w.capacity)} {
			b.Run(w.name+"/breaker="+l.name, func(b *testing.B) {
				b.ReportAllocs()
				w.measure(l, b.N)
			})
		}
	}
}

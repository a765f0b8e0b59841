package activator

import (
	"fmt"
	"sync"
	"testing"
)

// TestRegistryUnderChange has many goroutines change their own keys, which fall into shared shards, while others read:
// nobody's change is lost, and what was there all the time is always found.
func TestRegistryUnderChange(t *testing.T) {
	r := newRegistry[string, int]()
	r.change("fixed", func(m map[string]int) { m["fixed"] = 7 })
	var all sync.WaitGroup
	const writers, keys = 4, 400
	for w := range writers {
		all.Go(func() {
			for i := range keys {
				k := fmt.Sprint(w, "-", i)
				r.change(k, func(m map[string]int) { m[k] = i })
				if i%2 == 0 {
					r.change(k, func(m map[string]int) { delete(m, k) })
				}
				if got := r.get("fixed", "fixed"); got != 7 {
					t.Errorf("get = %d, want 7", got)
				}
			}
		})
	}
	all.Wait()
	n := 0
	for range r.values() {
		n++
	}
	if want := 1 + writers*keys/2; n != want {
		t.Errorf("%d values, want %d", n, want)
	}
	if r.shard("x") != r.shardOf([]byte("x")) {
		t.Error("a name in bytes leads elsewhere than the same one as a string")
	}
}

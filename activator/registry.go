package activator

import (
	"hash/maphash"
	"iter"
	"maps"
	"sync"
	"sync/atomic"
)

// registryShards keeps the copy that each change makes small: with ten thousand revisions some forty entries.
const registryShards = 256

// registry is a map for reading without a lock on the request path. A change copies the part of the map that the name
// falls into. It is safe for concurrent use.
type registry[K comparable, V any] struct {
	seed   maphash.Seed
	mu     sync.Mutex // serialises changes
	shards [registryShards]atomic.Pointer[map[K]V]
}

func newRegistry[K comparable, V any]() *registry[K, V] {
	return &registry[K, V]{seed: maphash.MakeSeed()}
}

// shard returns the part for a name, which must follow from the key.
func (r *registry[K, V]) shard(name string) *atomic.Pointer[map[K]V] {
	return &r.shards[maphash.String(r.seed, name)%registryShards]
}

// shardOf is shard for a name in bytes.
func (r *registry[K, V]) shardOf(name []byte) *atomic.Pointer[map[K]V] {
	return &r.shards[maphash.Bytes(r.seed, name)%registryShards]
}

// get returns the zero value when there is none.
func (r *registry[K, V]) get(name string, k K) (v V) {
	if m := r.shard(name).Load(); m != nil {
		v = (*m)[k]
	}
	return v
}

// change runs f on a copy of the part for a name, which then takes its place. Changes come one after the other.
func (r *registry[K, V]) change(name string, f func(m map[K]V)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	shard := r.shard(name)
	next := map[K]V{}
	if m := shard.Load(); m != nil {
		next = maps.Clone(*m)
	}
	f(next)
	shard.Store(&next)
}

// values are those of this moment.
func (r *registry[K, V]) values() iter.Seq[V] {
	return func(yield func(V) bool) {
		for i := range r.shards {
			m := r.shards[i].Load()
			if m == nil {
				continue
			}
			for _, v := range *m {
				if !yield(v) {
					return
				}
			}
		}
	}
}

package kube

import (
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"
)

// key names an object within its kind.
type key struct{ namespace, name string }

func (k key) String() string { return k.namespace + "/" + k.name }

// table is what is known of one kind of object: a store that a reflector fills, of our own small structs. It replaces
// client-go's indexers, which keep whole objects, and its informers' queues, which would stand between a pod that became
// ready and the request that waits for it: changed is called on the reflector's goroutine, one change at a time.
type table[T any] struct {
	convert func(obj any) *T // nil for objects that are of no interest
	changed func(k key, old, now *T)
	// overtaken, when not nil, says that now is no news beside old: an event that came after our own write's answer.
	overtaken func(old, now *T) bool

	mu     sync.RWMutex
	items  map[key]*T // guarded by mu
	synced atomic.Bool
	strip  cache.TransformFunc
}

func newTable[T any](strip cache.TransformFunc, convert func(any) *T, changed func(k key, old, now *T)) *table[T] {
	return &table[T]{strip: strip, convert: convert, changed: changed, items: make(map[key]*T)}
}

func (t *table[T]) get(k key) *T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.items[k]
}

func (t *table[T]) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.items)
}

// all calls fn with every item under the lock: fn must be quick and must not call the table.
func (t *table[T]) all(fn func(key, *T)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for k, v := range t.items {
		fn(k, v)
	}
}

// put stores or, with nil, removes an item and tells of the change.
func (t *table[T]) put(k key, now *T) {
	t.mu.Lock()
	old := t.items[k]
	if old != nil && now != nil && t.overtaken != nil && t.overtaken(old, now) {
		t.mu.Unlock()
		return
	}
	if now == nil {
		delete(t.items, k)
	} else {
		t.items[k] = now
	}
	t.mu.Unlock()
	if old != nil || now != nil {
		t.changed(k, old, now)
	}
}

// revise replaces an item that is there by what our own write made of it; change returns nil to leave it.
func (t *table[T]) revise(k key, change func(old *T) *T) {
	t.mu.Lock()
	old := t.items[k]
	if old == nil {
		t.mu.Unlock()
		return
	}
	now := change(old)
	if now == nil {
		t.mu.Unlock()
		return
	}
	t.items[k] = now
	t.mu.Unlock()
	t.changed(k, old, now)
}

func keyOf(obj any) (key, bool) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return key{}, false
	}
	return key{m.GetNamespace(), m.GetName()}, true
}

// Add implements cache.ReflectorStore.
func (t *table[T]) Add(obj any) error {
	if k, ok := keyOf(obj); ok {
		t.put(k, t.convert(obj))
	}
	return nil
}

// Update implements cache.ReflectorStore.
func (t *table[T]) Update(obj any) error { return t.Add(obj) }

// Delete implements cache.ReflectorStore.
func (t *table[T]) Delete(obj any) error {
	if k, ok := keyOf(obj); ok {
		t.put(k, nil)
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (t *table[T]) Replace(objs []any, _ string) error {
	there := make(map[key]bool, len(objs))
	for _, obj := range objs {
		if k, ok := keyOf(obj); ok {
			there[k] = true
			t.put(k, t.convert(obj))
		}
	}
	var gone []key
	t.all(func(k key, _ *T) {
		if !there[k] {
			gone = append(gone, k)
		}
	})
	for _, k := range gone {
		t.put(k, nil)
	}
	t.synced.Store(true)
	return nil
}

// Resync implements cache.ReflectorStore.
func (t *table[T]) Resync() error { return nil }

// Transformer implements cache.TransformingStore: a reflector strips what it holds until the first list is complete.
func (t *table[T]) Transformer() cache.TransformFunc { return t.strip }

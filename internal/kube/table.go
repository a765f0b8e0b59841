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
	// version, when not nil, tells of two states of an object which one is later: what the watch brings may be of before our
	// own write, whose answer is here already.
	version func(*T) string
	listed  func() // set before the reflector begins; called when a list has come

	mu      sync.RWMutex
	items   map[key]*T     // guarded by mu
	deleted map[key]string // guarded by mu; versions of what we deleted ourselves, until the watch or a list has come as far
	brought string         // guarded by mu; the latest version that the reflector brought
	synced  atomic.Bool
	strip   cache.TransformFunc
}

func newTable[T any](strip cache.TransformFunc, convert func(any) *T, changed func(k key, old, now *T)) *table[T] {
	return &table[T]{strip: strip, convert: convert, changed: changed, listed: func() {}, items: make(map[key]*T), deleted: make(map[key]string)}
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

// put stores or, with nil, removes an item and tells of the change. What the table knows better is left out.
func (t *table[T]) put(k key, now *T) {
	t.set(k, func(*T) (*T, bool) { return now, now == nil || !t.stale(k, t.versionOf(now)) })
}

// force makes an item what the server said it is when it was asked, whatever the table knew.
func (t *table[T]) force(k key, now *T) { t.set(k, func(*T) (*T, bool) { return now, true }) }

// drop removes an item that we deleted as it was in a version: what the watch brings of it until then is of before that.
func (t *table[T]) drop(k key, version string) {
	t.set(k, func(*T) (*T, bool) {
		if t.version != nil {
			t.deleted[k] = version
		}
		return nil, true
	})
}

// revise replaces an item that is there by what our own write made of it; change returns nil to leave it.
func (t *table[T]) revise(k key, change func(old *T) *T) {
	t.set(k, func(old *T) (*T, bool) {
		if old == nil {
			return nil, false
		}
		now := change(old)
		return now, now != nil
	})
}

// set makes an item what to says, unless it says no, and tells of the change. It is called under the lock.
func (t *table[T]) set(k key, to func(old *T) (now *T, ok bool)) {
	t.mu.Lock()
	old := t.items[k]
	now, ok := to(old)
	if ok && now == nil {
		delete(t.items, k)
	} else if ok {
		delete(t.deleted, k)
		t.items[k] = now
	}
	t.mu.Unlock()
	if ok && (old != nil || now != nil) {
		t.changed(k, old, now)
	}
}

// versionOf returns the version of an item, empty when that does not matter.
func (t *table[T]) versionOf(item *T) string {
	if t.version == nil || item == nil {
		return ""
	}
	return t.version(item)
}

// stale says that an object's state in a version was followed by one that the table knows of, or by our own deletion; the
// caller holds t.mu.
func (t *table[T]) stale(k key, version string) bool {
	if older(version, t.versionOf(t.items[k])) {
		return true
	}
	gone, ok := t.deleted[k]
	return ok && !newer(version, gone)
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

// versionIn returns an object's version.
func versionIn(obj any) string {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return ""
	}
	return m.GetResourceVersion()
}

// Add implements cache.ReflectorStore.
func (t *table[T]) Add(obj any) error {
	if k, ok := keyOf(obj); ok {
		t.reach(versionIn(obj))
		t.put(k, t.convert(obj))
	}
	return nil
}

// Update implements cache.ReflectorStore.
func (t *table[T]) Update(obj any) error { return t.Add(obj) }

// Delete implements cache.ReflectorStore.
func (t *table[T]) Delete(obj any) error {
	k, ok := keyOf(obj)
	if !ok {
		return nil
	}
	version := versionIn(obj)
	t.reach(version)
	t.set(k, func(old *T) (*T, bool) {
		if !older(version, t.deleted[k]) {
			delete(t.deleted, k)
		}
		return nil, !older(version, t.versionOf(old)) // else we have made it anew
	})
	return nil
}

// Replace implements cache.ReflectorStore.
func (t *table[T]) Replace(objs []any, version string) error {
	put, back := t.put, t.rewound(version)
	if back {
		put = t.force
	}
	there := make(map[key]bool, len(objs))
	for _, obj := range objs {
		if k, ok := keyOf(obj); ok {
			there[k] = true
			put(k, t.convert(obj))
		}
	}
	for _, k := range t.missing(there, version, back) {
		t.put(k, nil)
	}
	t.synced.Store(true)
	t.listed()
	return nil
}

// reach notes how far the reflector has come.
func (t *table[T]) reach(version string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.version != nil && !older(version, t.brought) {
		t.brought = version
	}
}

// rewound says whether a list is of before what the reflector has brought already: then a backup of the server was put back,
// and nothing that is known of versions holds.
func (t *table[T]) rewound(version string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	back := t.version != nil && older(version, t.brought)
	if back {
		clear(t.deleted)
	}
	t.brought = version
	return back
}

// missing returns the items that a list does not name although they are of before it, or whatever they are of when it goes
// back, and forgets the deletions of ours that it is of after.
func (t *table[T]) missing(there map[key]bool, version string, back bool) (gone []key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, item := range t.items {
		if !there[k] && (back || !older(version, t.versionOf(item))) {
			gone = append(gone, k)
		}
	}
	for k, was := range t.deleted {
		if !there[k] && !older(version, was) {
			delete(t.deleted, k)
		}
	}
	return gone
}

// Resync implements cache.ReflectorStore.
func (t *table[T]) Resync() error { return nil }

// Transformer implements cache.TransformingStore: a reflector strips what it holds until the first list is complete.
func (t *table[T]) Transformer() cache.TransformFunc { return t.strip }

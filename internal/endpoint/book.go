package endpoint

import (
	"sync"

	"github.com/rousehq/rouse/internal/identity"
)

// Book holds the endpoints of many revisions and tells subscribers of every change. It is the publishing half of
// a pod source, and the test double of one. The zero value is ready; it is safe for concurrent use.
type Book struct {
	mu   sync.Mutex
	revs map[identity.Revision]*page // guarded by mu
}

// page is one revision's entry. Its lock is held while subscribers are called, so that each sees the versions in
// order; it is never taken under another page's lock.
type page struct {
	mu   sync.Mutex
	snap Snapshot
	subs map[int]func(Update)
	next int
}

func (b *Book) page(rev identity.Revision) *page {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.revs == nil {
		b.revs = make(map[identity.Revision]*page)
	}
	p := b.revs[rev]
	if p == nil {
		p = &page{snap: Snapshot{Revision: rev}, subs: make(map[int]func(Update))}
		b.revs[rev] = p
	}
	return p
}

// Subscribe calls fn with the present snapshot before it returns, and then with every change, one at a time and in
// order. fn must not block and must not call the book for the same revision. The returned function ends the
// subscription: once it has returned, fn is not called again.
func (b *Book) Subscribe(rev identity.Revision, fn func(Update)) (cancel func()) {
	p := b.page(rev)
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.next
	p.next++
	p.subs[id] = fn
	fn(Update{Snapshot: p.snap, Delta: Delta{Revision: rev, Version: p.snap.Version}})
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.subs, id)
	}
}

// Publish applies a change and tells the subscribers. Removing a UID that is not there is no fault.
func (b *Book) Publish(rev identity.Revision, upserted []Endpoint, removed ...string) {
	p := b.page(rev)
	p.mu.Lock()
	defer p.mu.Unlock()
	d := Delta{Revision: rev, Version: p.snap.Version + 1, Upserted: upserted, Removed: removed}
	next, err := Apply(p.snap, d)
	if err != nil {
		panic("endpoint: book lost its own version: " + err.Error())
	}
	p.snap = next
	for _, fn := range p.subs {
		fn(Update{Snapshot: next, Delta: d})
	}
}

// Snapshot returns the revision's present endpoints.
func (b *Book) Snapshot(rev identity.Revision) Snapshot {
	p := b.page(rev)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snap
}

// Forget drops a revision. Its subscribers are told nothing more.
func (b *Book) Forget(rev identity.Revision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.revs, rev)
}

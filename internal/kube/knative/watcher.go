package knative

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// Sink hears of revisions and pods. Its methods must not block for long.
type Sink interface {
	// Put tells of a new revision, or of another shape of a known one.
	Put(r Revision)
	// Remove tells that a revision is gone.
	Remove(id identity.Revision)
	// Update tells of the revision's pods. It comes after Put.
	Update(u endpoint.Update)
	// Grant tells the activator's share of the pods: see [Share].
	Grant(id identity.Revision, grants map[string]int)
}

// Watcher keeps a sink up to date. Make one with [NewWatcher], start it with [Watcher.Run].
type Watcher struct {
	self    netip.Addr
	sink    Sink
	log     *slog.Logger
	sources sources
	told    []cache.InformerSynced // what was listed at first has been handled

	mu   sync.Mutex
	revs map[identity.Key]*known // guarded by mu
}

// known is what was seen of a revision; its objects come in any order.
type known struct {
	revision   *Revision
	snapshot   endpoint.Snapshot // what the sink knows, once it knows the revision
	pods       []endpoint.Endpoint
	activators []netip.Addr
	grants     map[string]int
}

// NewWatcher returns a watcher for the activator at address self.
func NewWatcher(c *Cluster, self netip.Addr, sink Sink, log *slog.Logger) (*Watcher, error) {
	if c == nil || sink == nil || log == nil {
		return nil, errors.New("knative: a watcher needs a cluster, a sink and a log")
	}
	w := &Watcher{self: self, sink: sink, log: log, revs: map[identity.Key]*known{}, sources: c.sources()}
	return w, errors.Join(
		w.sources.revisions.SetTransform(strip),
		w.sources.private.SetTransform(stripEndpoints),
		w.sources.public.SetTransform(stripEndpoints),
		w.watch(w.sources.revisions, w.revisionChanged, w.revisionGone),
		w.watch(w.sources.private, w.privateChanged, w.privateGone),
		w.watch(w.sources.public, w.publicChanged, w.publicGone),
	)
}

// Run watches until ctx ends. synced is called once, when everything that there was at first has been told.
func (w *Watcher) Run(ctx context.Context, synced func()) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, inf := range []cache.SharedIndexInformer{w.sources.revisions, w.sources.private, w.sources.public} {
		wg.Go(func() { inf.Run(ctx.Done()) })
	}
	if cache.WaitForCacheSync(ctx.Done(), w.told...) {
		synced()
	}
	<-ctx.Done()
	return nil
}

// watch has the informer's news handled. The informer's own word that it is in sync comes before: it lists at once, and
// handlers are told one by one.
func (w *Watcher) watch(inf cache.SharedIndexInformer, changed, gone func(obj any)) error {
	handled, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		UpdateFunc: func(_, obj any) { changed(obj) },
		DeleteFunc: func(obj any) {
			if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = d.Obj
			}
			gone(obj)
		},
	})
	if err != nil {
		return err
	}
	w.told = append(w.told, handled.HasSynced)
	return nil
}

func (w *Watcher) revisionChanged(obj any) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return
	}
	r := revisionOf(u)
	w.change(r.ID.Key(), func(k *known) {
		if k.revision != nil && *k.revision == r {
			return
		}
		if k.revision == nil || k.revision.ID != r.ID {
			// Pods that were told of before belong to this name's next bearer only if their Endpoints still do.
			k.snapshot, k.grants = endpoint.Snapshot{Revision: r.ID}, nil
		}
		k.revision = &r
		w.sink.Put(r)
	})
}

func (w *Watcher) revisionGone(obj any) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return
	}
	w.change(identity.Key{Namespace: u.GetNamespace(), Name: u.GetName()}, func(k *known) {
		if k.revision != nil && k.revision.ID.UID == string(u.GetUID()) {
			w.sink.Remove(k.revision.ID)
			k.revision, k.snapshot, k.grants = nil, endpoint.Snapshot{}, nil
		}
	})
}

func (w *Watcher) privateChanged(obj any) {
	w.endpointsChanged(obj, func(k *known, e *corev1.Endpoints) { k.pods = podsOf(e) })
}

func (w *Watcher) privateGone(obj any) {
	w.endpointsChanged(obj, func(k *known, _ *corev1.Endpoints) { k.pods = nil })
}

func (w *Watcher) publicChanged(obj any) {
	w.endpointsChanged(obj, func(k *known, e *corev1.Endpoints) {
		// In mode serve the list has pods and not us: the last division stays, for what still comes this way.
		if all := addressesOf(e); slices.Contains(all, w.self) {
			k.activators = all
		}
	})
}

func (w *Watcher) publicGone(obj any) {
	w.endpointsChanged(obj, func(k *known, _ *corev1.Endpoints) { k.activators = nil })
}

func (w *Watcher) endpointsChanged(obj any, apply func(*known, *corev1.Endpoints)) {
	e, ok := obj.(*corev1.Endpoints)
	if !ok || e.Labels[labelRevision] == "" {
		return
	}
	w.change(identity.Key{Namespace: e.Namespace, Name: e.Labels[labelRevision]}, func(k *known) { apply(k, e) })
}

// change applies a change to what is known of a revision, and tells the sink what follows from it.
func (w *Watcher) change(key identity.Key, apply func(*known)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.revs[key]
	if k == nil {
		k = &known{}
		w.revs[key] = k
	}
	apply(k)
	if k.revision == nil {
		if len(k.pods) == 0 && k.activators == nil {
			delete(w.revs, key)
		}
		return
	}
	w.tell(k)
}

// tell brings the sink up to date. Grants go first: a pod must not be used beyond the share, not even for a moment.
func (w *Watcher) tell(k *known) {
	id := k.revision.ID
	grants := Share(k.pods, k.activators, w.self, k.revision.ContainerConcurrency)
	if (grants == nil) != (k.grants == nil) || !maps.Equal(grants, k.grants) {
		k.grants = grants
		w.sink.Grant(id, grants)
	}
	upserted, removed := delta(k.snapshot.Endpoints, k.pods)
	if len(upserted)+len(removed) == 0 {
		return
	}
	d := endpoint.Delta{Revision: id, Version: k.snapshot.Version + 1, Upserted: upserted, Removed: removed}
	next, err := endpoint.Apply(k.snapshot, d)
	if err != nil {
		panic(err) // the delta was made from this snapshot
	}
	k.snapshot = next
	w.sink.Update(endpoint.Update{Snapshot: next, Delta: d})
}

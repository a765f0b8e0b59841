package kube

import (
	"context"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// watching is one watch and its health.
type watching struct {
	what     string
	optional bool // what depends on it has a sensible answer without it
	foreign  bool // optional, and of another program, which may be broken for as long as it likes
	synced   func() bool
	failed   atomic.Bool
	refusals atomic.Int32 // how often in a row the server said that we may not, once it let us read what is not optional
	failures atomic.Int32 // how often in a row it failed in any way, counted likewise
	missing  atomic.Bool  // the server has no such kind of object
	run      func(ctx context.Context)

	listed, open bool // since it was last begun: a list has come, and a watch was granted; of run's goroutine
}

// lists turns a typed list call into what a reflector wants.
func lists[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error)) func(context.Context, metav1.ListOptions) (runtime.Object, error) {
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, o) }
}

// reconnect bounds the pauses between tries to watch: client-go's own half-minute would leave us blind for as long after
// the API server is back.
var reconnect = wait.Backoff{Duration: 250 * time.Millisecond, Factor: 1.6, Jitter: 0.5, Steps: 1000, Cap: 3 * time.Second}

func follow[T any](c *Cluster, what string, optional bool, example any, t *table[T],
	list func(context.Context, metav1.ListOptions) (runtime.Object, error),
	watches func(context.Context, metav1.ListOptions) (watch.Interface, error), selector string,
) *watching {
	w := &watching{what: what, optional: optional, synced: t.synced.Load}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			return list(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			events, err := watches(ctx, o)
			if err == nil {
				w.open = true
				c.works(ctx, w)
			}
			return events, err
		},
	}
	w.run = func(ctx context.Context) {
		t.listed = func() {
			w.listed = true
			c.works(ctx, w)
		}
		backoff := reconnect
		r := cache.NewReflectorWithOptions(lw, example, t, cache.ReflectorOptions{Name: what, TypeDescription: what, Backoff: &backoff})
		for ctx.Err() == nil {
			w.listed, w.open = false, false
			err := r.ListAndWatchWithContext(ctx)
			c.health(ctx, w, err)
			pause(ctx, backoff.Step())
			if err == nil {
				backoff = reconnect
			}
		}
	}
	c.watches = append(c.watches, w)
	return w
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// works tells of a watch that works again, as soon as it does: it may then go on for hours. One whose list comes and whose
// watch is refused does not work.
func (c *Cluster) works(ctx context.Context, w *watching) {
	if w.listed && w.open && w.failed.Load() {
		c.health(ctx, w, nil)
	}
}

// health tells of a watch that stopped working, once, and of one that works again.
func (c *Cluster) health(ctx context.Context, w *watching, err error) {
	if ctx.Err() != nil {
		return
	}
	c.count(w, err)
	switch {
	case err != nil && !w.failed.Swap(true):
		if !w.optional || !apierrors.IsNotFound(err) { // KEDA need not be there
			c.onWatch(w.what, err)
		}
	case err == nil && w.failed.Swap(false):
		c.onWatch(w.what, nil)
	}
}

// count notes whether the server refuses a watch, and how often it has failed.
func (c *Cluster) count(w *watching, err error) {
	w.missing.Store(apierrors.IsNotFound(err))
	readable := c.syncedWith(false)
	tally(&w.refusals, readable && apierrors.IsForbidden(err))
	tally(&w.failures, readable && err != nil)
}

// tally counts how often in a row something holds.
func tally(n *atomic.Int32, holds bool) {
	if holds {
		n.Add(1)
	} else {
		n.Store(0)
	}
}

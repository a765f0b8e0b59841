package interop

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

// everything is a router with one revision.
type everything struct{}

func (everything) Route(forward.Exchange) (activator.Route, bool) {
	return activator.Route{Revision: revision.Key()}, true
}

// outcomes counts how requests ended at the activator.
type outcomes struct {
	mu  sync.Mutex // guards all
	all []activator.Outcome
}

func (o *outcomes) Dispatched(identity.Revision, bool, time.Duration) {}

func (o *outcomes) Done(_ identity.Revision, out activator.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, out)
}

func (o *outcomes) tries() (most int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.all {
		most = max(most, out.Tries)
	}
	return most
}

// discard is a sink for tests that look at no statistics.
type discard struct{}

func (discard) Report(metrics.Message) {}

// front is our activator with a listener.
type front struct {
	*activator.Activator
	outcomes outcomes
	url      string
}

// startFront serves the pods of a book by the limit that the activator keeps.
func startFront(t *testing.T, book *endpoint.Book, limit int, stats activator.StatSink) *front {
	t.Helper()
	f := &front{}
	a, err := activator.New(activator.Config{Name: "rouse-activator"}, activator.Deps{
		Router: everything{}, Stats: stats, Observer: &f.outcomes,
		NewPool: func(e endpoint.Endpoint) *forward.Pool {
			return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr, Protocol: e.Protocol, NotAdmitted: e.Sidecar})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Activator = a
	a.Put(revision, activator.Settings{ContainerConcurrency: limit, QueueLimit: 10_000, QueueDeadline: patience,
		Timeouts: forward.Timeouts{Total: patience}})
	t.Cleanup(book.Subscribe(revision, a.Update))
	f.serve(t)
	return f
}

func (f *front) serve(t *testing.T) {
	t.Helper()
	srv, err := forward.NewServer(forward.Config{Forwarding: forward.Forwarding{XForwarded: true}}, f.Handler(false))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.url = "http://" + ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var owned sync.WaitGroup
	owned.Go(func() { _ = srv.Serve(ctx, ln) })
	owned.Go(func() { _ = f.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = srv.Shutdown(ctx) // what is left is cut
		owned.Wait()
		f.Remove(revision)
	})
}

package interop

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

// clients ask until their context ends: half with connections that are kept and half with fresh ones, GET and POST in turn,
// without retries of their own.
type clients struct {
	url string

	mu     sync.Mutex // guards the following
	served int
	failed []string
}

func (c *clients) run(ctx context.Context, t *testing.T, n int) (wait func()) {
	var all sync.WaitGroup
	for i := range n {
		client := newClient(t)
		client.Transport.(*http.Transport).DisableKeepAlives = i%2 == 0
		all.Go(func() {
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for k := 0; ctx.Err() == nil; k++ {
				c.one(client, k%2 == 0)
				<-tick.C
			}
		})
	}
	return all.Wait
}

func (c *clients) one(client *http.Client, post bool) {
	method, body := http.MethodGet, ""
	if post {
		method, body = http.MethodPost, "some words"
	}
	// Not the test's context: what is on its way is to be answered.
	req, err := http.NewRequest(method, c.url, strings.NewReader(body))
	if err == nil {
		req.GetBody = nil // the transport sends it once
		var resp *http.Response
		if resp, err = client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode != 200 {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served++
	if err != nil {
		c.failed = append(c.failed, err.Error())
	}
}

// TestKnativesQueueProxyDrains: SIGTERM under load. Its probes fail at once, it serves what still comes while the
// endpoints have not spread, then the other pod, which is ours, has all the load, and the process ends when Knative's 30 s
// have passed without a request. No client sees any of it.
func TestKnativesQueueProxyDrains(t *testing.T) {
	theirs, ours := startApplication(t), startApplication(t)
	old := startKnative(t, theirs, 10)
	other := startRouse(t, ours, 10, "127.0.0.2", "ROUSE_ADMIN_PORT=18022", "ROUSE_STATS_PORT=19090", "ROUSE_METRICS_PORT=19091")
	old.ready()
	other.ready()
	var book endpoint.Book
	book.Publish(revision, []endpoint.Endpoint{old.endpoint(endpoint.Ready, endpoint.H1), other.endpoint(endpoint.Ready, endpoint.H1)})
	f := startFront(t, &book, 10, discard{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	load := &clients{url: f.url}
	wait := load.run(ctx, t, 8)
	until(t, "both pods serve", func() bool { a, _ := theirs.seen(); b, _ := ours.seen(); return a > 100 && b > 100 })

	old.terminate()
	until(t, "its probes fail", func() bool { status, _ := old.probe(); return status == http.StatusServiceUnavailable })
	before, _ := theirs.seen()
	until(t, "it still serves", func() bool { n, _ := theirs.seen(); return n > before+100 })
	book.Publish(revision, []endpoint.Endpoint{old.endpoint(endpoint.Draining, endpoint.H1)})
	idle, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	f.AwaitIdle(idle, revision, old.uid)
	after, _ := theirs.seen()
	before, _ = ours.seen()
	select {
	case <-old.ended:
	case <-time.After(2 * patience):
		t.Fatal("the queue-proxy does not end")
	}
	cancel()
	wait()
	if n, _ := theirs.seen(); n != after {
		t.Errorf("%d requests came to the pod after it was said to drain", n-after)
	}
	if n, _ := ours.seen(); n < before+1000 {
		t.Errorf("the other pod served %d requests meanwhile, want the whole load", n-before)
	}
	if old.err != nil {
		t.Errorf("the queue-proxy ended with %v", old.err)
	}
	if load.served < 1000 || len(load.failed) > 0 {
		t.Errorf("%d of %d requests failed, want none of many: %.3q", len(load.failed), load.served, load.failed)
	}
	t.Logf("%d requests, %d failed", load.served, len(load.failed))
}

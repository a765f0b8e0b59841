package interop

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/internal/endpoint"
)

// many sends n requests at once and returns what came, in no order.
func many(t *testing.T, n int, client *http.Client, url string, headers ...string) []outcome {
	t.Helper()
	got := make([]outcome, n)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() { got[i] = ask(t.Context(), client, url, headers...) })
	}
	all.Wait()
	return got
}

// finish lets the application answer until every request has ended.
func finish(t *testing.T, app *application, all *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Wait()
	}()
	until(t, "every request has ended", func() bool {
		app.release()
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
}

func wantAll(t *testing.T, got []outcome, status int) {
	t.Helper()
	for _, o := range got {
		if o.err != nil || o.status != status {
			t.Errorf("an answer was %d %q, %v; want %d", o.status, o.body, o.err, status)
		}
	}
}

// TestKnativesLimitHolds: limit 1, with one activator of ours that keeps it and with two that know nothing of each
// other. Knative's queue-proxy is the last word: the application never sees two requests.
func TestKnativesLimitHolds(t *testing.T) {
	app := startApplication(t)
	pod := startKnative(t, app, 1)
	pod.ready()
	var book endpoint.Book
	book.Publish(revision, []endpoint.Endpoint{pod.endpoint(endpoint.Ready, endpoint.H1)})
	first, second := startFront(t, &book, 1, discard{}), startFront(t, &book, 1, discard{})
	client := newClient(t)
	wantAll(t, many(t, 100, client, first.url), 200)
	var both sync.WaitGroup
	for _, f := range []*front{first, second} {
		both.Go(func() { wantAll(t, many(t, 100, client, f.url), 200) })
	}
	both.Wait()
	if total, most := app.seen(); total != 300 || most != 1 {
		t.Errorf("the application saw %d requests and %d at once, want 300 and 1", total, most)
	}
}

// TestHeadersThroughKnativesQueueProxy: what our activator tells Knative's queue-proxy arrives as from Knative's.
func TestHeadersThroughKnativesQueueProxy(t *testing.T) {
	app := startApplication(t)
	pod := startKnative(t, app, 10)
	pod.ready()
	var book endpoint.Book
	book.Publish(revision, []endpoint.Endpoint{pod.endpoint(endpoint.Ready, endpoint.H1)})
	f := startFront(t, &book, 10, discard{})
	wantAll(t, []outcome{ask(t.Context(), newClient(t), f.url, "Knative-Serving-Revision", "x", "Knative-Serving-Namespace", "y")}, 200)
	header, host := app.last(t)
	if want := strings.TrimPrefix(f.url, "http://"); host != want {
		t.Errorf("the application saw host %q, want %q", host, want)
	}
	if got := header.Get("K-Proxy-Request"); got != "activator" {
		t.Errorf("K-Proxy-Request = %q, want activator: it is how Knative's queue-proxy knows what is proxied", got)
	}
	for _, gone := range []string{"Knative-Serving-Revision", "Knative-Serving-Namespace", "K-Original-Host"} {
		if v := header.Get(gone); v != "" {
			t.Errorf("%s = %q reached the application", gone, v)
		}
	}
	if got := header.Get("X-Forwarded-For"); !strings.HasPrefix(got, "127.0.0.1") {
		t.Errorf("X-Forwarded-For = %q, want the client first", got)
	}
}

// TestKnativesFullQueueIsTheAnswer: Knative's queue-proxy takes 1 and queues 10, and refuses the rest. Its refusal lacks
// our private header, so that nobody can know whether the application saw the request: it is passed on, not tried again.
func TestKnativesFullQueueIsTheAnswer(t *testing.T) {
	app := startApplication(t)
	pod := startKnative(t, app, 1)
	pod.ready()
	var book endpoint.Book
	book.Publish(revision, []endpoint.Endpoint{pod.endpoint(endpoint.Ready, endpoint.H1)})
	f := startFront(t, &book, 0, discard{}) // without a limit of its own
	client := newClient(t)
	const sent, admitted = 40, 11
	var refused atomic.Int64
	var all sync.WaitGroup
	for range sent {
		all.Go(func() {
			switch o := ask(t.Context(), client, f.url+"/hold"); {
			case o.err != nil:
				t.Error(o.err)
			case o.status == 200:
			case o.status == 503 && strings.Contains(o.body, "pending request queue full"):
				refused.Add(1)
			default:
				t.Errorf("an answer was %d %q, want 200, or 503 as the queue-proxy said it", o.status, o.body)
			}
		})
	}
	until(t, "the rest is refused", func() bool { return refused.Load() == sent-admitted })
	finish(t, app, &all)
	if total, most := app.seen(); total != admitted || most != 1 {
		t.Errorf("the application saw %d requests and %d at once, want %d and 1", total, most, admitted)
	}
	if n := f.outcomes.tries(); n != 1 {
		t.Errorf("a request was tried %d times, want 1", n)
	}
}

// TestOurProbeFindsKnativesQueueProxy: a pod that its source does not call ready yet. Our activator asks Knative's
// queue-proxy, which says no while there is no application, and gives it the parked request as soon as it says yes.
func TestOurProbeFindsKnativesQueueProxy(t *testing.T) {
	later := &application{port: freePort(t), gate: make(chan struct{})}
	probe := fmt.Sprintf(`SERVING_READINESS_PROBE={"tcpSocket":{"port":%d,"host":"127.0.0.1"},"periodSeconds":1,"timeoutSeconds":1,"successThreshold":1}`, later.port)
	pod := startKnative(t, later, 1, probe)
	until(t, "the queue-proxy refuses our probe", func() bool { status, _ := pod.probe(); return status == http.StatusServiceUnavailable })
	var book endpoint.Book
	f := startFront(t, &book, 1, discard{})
	f.Put(revision, activator.Settings{ContainerConcurrency: 1, QueueLimit: 10, QueueDeadline: patience, Probe: activator.Probe{By: activator.QueueProbe}})
	book.Publish(revision, []endpoint.Endpoint{pod.endpoint(endpoint.Starting, endpoint.H1)})
	answered := make(chan outcome, 1)
	go func() { answered <- ask(t.Context(), newClient(t), f.url) }()
	until(t, "the request is parked", func() bool { parked, _, _ := f.Counts(revision); return parked == 1 })
	if _, _, ready := f.Counts(revision); ready != 0 {
		t.Errorf("%d pods may be picked without an application, want none", ready)
	}
	later.serve(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), later.port))
	select {
	case o := <-answered:
		wantAll(t, []outcome{o}, 200)
	case <-time.After(patience):
		t.Error("the request is parked although the queue-proxy says that it is ready")
	}
}

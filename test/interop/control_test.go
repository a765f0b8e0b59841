package interop

import (
	"context"
	"math"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/statstream"
)

// decider is our control loop over one revision with a window of 6 s. Its scale target starts nothing: it writes down.
type decider struct {
	*control.Loop
	t *testing.T

	mu    sync.Mutex // guards wants
	wants []int
}

func (d *decider) Apply(_ context.Context, r control.Request) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wants = append(d.wants, r.Desired)
	return nil
}

// story returns the numbers of pods that were asked for so far.
func (d *decider) story() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]int(nil), d.wants...)
}

// settings of the revision: two requests per pod, and six seconds to forget.
func settings(t *testing.T) *config.Revision {
	t.Helper()
	in := config.Input{ID: revision, Service: "hello", Annotations: map[string]string{}}
	for key, value := range map[string]string{"window": "6s", "target": "2", "target-utilization-percentage": "100",
		"scale-to-zero-grace-period": "1s", "panic-threshold-percentage": "1000"} {
		in.Annotations[config.PrefixAutoscaling+key] = value
	}
	rev, faults := config.Resolve(in)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return rev
}

func startLoop(t *testing.T, book *endpoint.Book) *decider {
	t.Helper()
	loop, err := control.New(control.Config{}, control.Deps{Pods: book})
	if err != nil {
		t.Fatal(err)
	}
	d := &decider{Loop: loop, t: t}
	if err := loop.Add(settings(t), control.Target{Scale: d, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	run(t, loop.Run)
	return d
}

// run starts something that blocks until its context ends, and waits for its end.
func run(t *testing.T, what func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- what(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func (d *decider) explain() control.Explanation {
	d.t.Helper()
	e, err := d.Explain(revision.Key())
	if err != nil {
		d.t.Fatal(err)
	}
	return e
}

// stable returns the average over the stable window, -1 before there is one.
func (d *decider) stable() float64 {
	if o := d.explain().Observed; len(o) > 0 {
		return o[0].Stable
	}
	return -1
}

// startScraper reads a pod with Knative's queue-proxy into a loop.
func startScraper(t *testing.T, d *decider, p *pod) *statstream.Scraper {
	t.Helper()
	s, err := statstream.NewScraper(statstream.ScraperConfig{Sink: d})
	if err != nil {
		t.Fatal(err)
	}
	s.Put(revision, []identity.Pod{{UID: p.uid, Addr: p.addr}}, statstream.MetricsPort)
	run(t, s.Run)
	return s
}

// hold keeps n requests in an application until the returned function is called, which waits for their end.
func hold(t *testing.T, app *application, n int, url string, headers ...string) (end func()) {
	t.Helper()
	client := newClient(t)
	before := app.inFlight()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if o := ask(context.Background(), client, url+"/hold", headers...); o.err != nil || o.status != 200 {
				t.Errorf("a request that was held: %d, %v", o.status, o.err)
			}
		})
	}
	until(t, "the requests are in the application", func() bool { return app.inFlight() == before+n })
	return func() { finish(t, app, &all) }
}

// TestProxiedLoadOfKnativesQueueProxyCountsOnce: six requests through our activator and two beside it. The queue-proxy
// says eight, six of them proxied, and the activator says six: control sees eight, not fourteen.
func TestProxiedLoadOfKnativesQueueProxyCountsOnce(t *testing.T) {
	app := startApplication(t)
	pod := startKnative(t, app, 0)
	pod.ready()
	var book endpoint.Book
	book.Publish(revision, []endpoint.Endpoint{pod.endpoint(endpoint.Ready, endpoint.H1)})
	loop := startLoop(t, &book)
	scraper := startScraper(t, loop, pod)
	f := startFront(t, &book, 0, loop)
	first := hold(t, app, 6, f.url)
	second := hold(t, app, 2, "http://"+pod.addr.String())
	fetched := scraper.Counts().Fetched
	until(t, "the window is full", func() bool { return scraper.Counts().Fetched >= fetched+9 })
	if e := loop.explain(); math.Abs(e.InFlight-8) > 0.5 {
		t.Errorf("in flight = %g, want 8", e.InFlight)
	}
	// A bucket is a second of the clock; the reports' beat may put two into one and none into the next.
	if got := loop.stable(); math.Abs(got-8) > 8./6+0.1 {
		t.Errorf("the stable average is %g, want 8", got)
	}
	if c := scraper.Counts(); c.Failed > 0 || c.Skipped > 0 {
		t.Errorf("scrapes %+v, want all to succeed", c)
	}
	second()
	first()
}

// TestScrapedDecidesAsPushed: the same load, seven requests at once and then none, on a pod with Knative's queue-proxy,
// which is scraped, and on one with ours, which pushes. Both loops ask for the same pods, down to zero.
func TestScrapedDecidesAsPushed(t *testing.T) {
	theirApp, ourApp := startApplication(t), startApplication(t)
	var theirBook, ourBook endpoint.Book
	scraped, pushed := startLoop(t, &theirBook), startLoop(t, &ourBook)

	receiver, err := statstream.NewHandler(statstream.HandlerConfig{Sink: pushed, Authorize: statstream.StaticToken("secret")})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(receiver)
	t.Cleanup(srv.Close)
	theirs := startKnative(t, theirApp, 0)
	ours := startRouse(t, ourApp, 0, "127.0.0.2", "ROUSE_ADMIN_PORT=18022", "ROUSE_STATS_PORT=19090", "ROUSE_METRICS_PORT=19091",
		"ROUSE_STATS_URL="+strings.Replace(srv.URL, "http", "ws", 1), "ROUSE_STATS_TOKEN=secret")
	theirs.ready()
	ours.ready()
	theirBook.Publish(revision, []endpoint.Endpoint{theirs.endpoint(endpoint.Ready, endpoint.H1)})
	ourBook.Publish(revision, []endpoint.Endpoint{ours.endpoint(endpoint.Ready, endpoint.H1)})
	scraper := startScraper(t, scraped, theirs)

	endTheirs := hold(t, theirApp, 7, "http://"+theirs.addr.String())
	endOurs := hold(t, ourApp, 7, "http://"+ours.addr.String())
	fetched, reports := scraper.Counts().Fetched, receiver.Counts().Reports
	until(t, "both windows are full", func() bool {
		return scraper.Counts().Fetched >= fetched+9 && receiver.Counts().Reports >= reports+9
	})
	for name, d := range map[string]*decider{"scraped": scraped, "pushed": pushed} {
		if got := d.stable(); math.Abs(got-7) > 7./6+0.1 {
			t.Errorf("%s: the stable average is %g, want 7", name, got)
		}
		until(t, name+" asks for 4 pods", func() bool { s := d.story(); return len(s) > 0 && s[len(s)-1] == 4 })
	}
	endTheirs()
	endOurs()
	for name, d := range map[string]*decider{"scraped": scraped, "pushed": pushed} {
		until(t, name+" asks for none", func() bool { s := d.story(); return s[len(s)-1] == 0 })
		for _, n := range d.story() {
			if n > 5 { // what two reports in one bucket can ask for
				t.Errorf("%s asked for %v pods, more than seven requests need", name, d.story())
			}
		}
		t.Logf("%s: %v", name, d.story())
	}
}

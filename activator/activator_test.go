package activator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

var errTest = errors.New("left")

var hello = identity.Revision{Namespace: "default", Name: "hello-00001", UID: "u1", Generation: 1}

// byHost routes the host "hello" and nothing else.
type byHost struct{}

func (byHost) Route(x forward.Exchange) (Route, bool) {
	to := Route{Revision: hello.Key()}
	switch string(x.Path()) {
	case "/healthz":
		to.Answer = &Answer{When: WhileCold, Status: 204, Fields: []Field{{"X-Static", "yes"}}}
	case "/wait":
		to.Answer = &Answer{When: Placeholder, Status: 503, Body: "starting"}
	case "/robots.txt":
		to.Answer = &Answer{When: Always, Status: 200, Body: "none"}
	}
	return to, string(x.Host()) == "hello"
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink keeps every report.
type sink struct {
	mu  sync.Mutex
	all []metrics.Message
}

func (s *sink) Report(m metrics.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, m)
}

// copied returns what was reported so far.
func (s *sink) copied() []metrics.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// world is an activator with one revision and pods made of thin air.
type world struct {
	*Activator
	book  endpoint.Book
	stats sink
	pools map[*forward.Pool]string // which pod a pool leads to
}

func newWorld(t *testing.T, s Settings) *world {
	t.Helper()
	w := &world{pools: map[*forward.Pool]string{}}
	a, err := New(Config{QueueTotal: 1000}, Deps{Router: byHost{}, Stats: &w.stats, NewPool: func(e endpoint.Endpoint) *forward.Pool {
		p := forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr})
		w.pools[p] = e.Pod.UID
		return p
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.Activator = a
	a.Put(hello, s)
	w.book.Subscribe(hello, a.Update)
	return w
}

func (w *world) pod(uid string, state endpoint.State) {
	w.book.Publish(hello, []endpoint.Endpoint{{
		Pod:   identity.Pod{UID: uid, Addr: netip.MustParseAddrPort("127.0.0.1:1")},
		State: state,
	}})
}

func settings() Settings {
	return Settings{ContainerConcurrency: 1, QueueLimit: 100, QueueDeadline: time.Minute}
}

// serve runs one request on its own goroutine; done is closed when it is answered.
func (w *world) serve(x *forwardtest.Exchange) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		w.Handler(false).ServeExchange(x)
	}()
	return done
}

func TestParkedUntilAPodIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		x := forwardtest.New("hello")
		done := w.serve(x)
		synctest.Wait()
		if parked, _, _ := w.Counts(hello); parked != 1 || x.Status != 0 {
			t.Fatalf("parked = %d, status = %d, want 1 parked without an answer", parked, x.Status)
		}
		w.pod("a", endpoint.Starting)
		synctest.Wait()
		if x.Forwards != 0 {
			t.Fatal("a starting pod was given a request")
		}
		w.pod("a", endpoint.Ready)
		<-done
		if x.Status != 200 || x.RequestEdits["K-Proxy-Request"] != "activator" {
			t.Errorf("status = %d, edits = %v, want 200 and the proxy header", x.Status, x.RequestEdits)
		}
	})
}

func TestFirstDemandIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		x := forwardtest.New("hello")
		done := w.serve(x)
		synctest.Wait()
		if len(w.stats.all) != 1 || w.stats.all[0].Stat.AverageConcurrency != 1 || w.stats.all[0].Name != hello.Name {
			t.Errorf("reports = %+v, want one of concurrency 1", w.stats.all)
		}
		w.pod("a", endpoint.Ready)
		<-done
	})
}

// TestFIFO parks many requests and sets slots free one by one: they must be dispatched in the order they came.
func TestFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		const n = 50
		var mu sync.Mutex
		var order []int
		var all []chan struct{}
		for i := range n {
			x := forwardtest.New("hello")
			x.OnForward = func(*forward.Pool) forward.Result {
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				return forward.Result{Status: 200}
			}
			all = append(all, w.serve(x))
			synctest.Wait()
		}
		w.pod("a", endpoint.Ready)
		for _, done := range all {
			<-done
		}
		for i, got := range order {
			if got != i {
				t.Fatalf("dispatch order = %v, want first in, first out", order)
			}
		}
	})
}

// TestLimitHolds dispatches far more requests than slots and checks every pod's own count.
func TestLimitHolds(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 4, 10} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := settings()
				s.ContainerConcurrency = limit
				w := newWorld(t, s)
				for _, uid := range []string{"a", "b", "c"} {
					w.pod(uid, endpoint.Ready)
				}
				var mu sync.Mutex
				inPod, worst := map[*forward.Pool]int{}, 0
				var all []chan struct{}
				for range 20 * limit {
					x := forwardtest.New("hello")
					x.OnForward = func(p *forward.Pool) forward.Result {
						mu.Lock()
						inPod[p]++
						worst = max(worst, inPod[p])
						mu.Unlock()
						time.Sleep(time.Millisecond)
						mu.Lock()
						inPod[p]--
						mu.Unlock()
						return forward.Result{Status: 200}
					}
					all = append(all, w.serve(x))
				}
				for _, done := range all {
					<-done
				}
				if worst != limit || len(inPod) != 3 {
					t.Errorf("at most %d at once in %d pods, want exactly %d in 3", worst, len(inPod), limit)
				}
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(w *world, x *forwardtest.Exchange)
		want fault.Cause
		text string
	}{
		{"the client leaves", func(_ *world, x *forwardtest.Exchange) { x.Leave() }, fault.ClientGone, ""},
		{"the deadline passes", func(*world, *forwardtest.Exchange) { time.Sleep(2 * time.Minute) }, fault.QueueDeadline, "rouse.dev/queue-deadline is 1m0s"},
		{"pods cannot start", func(w *world, _ *forwardtest.Exchange) { w.Fail(hello, "no such program") }, fault.WakeFailed, "no such program"},
		{"the revision goes", func(w *world, _ *forwardtest.Exchange) { w.Remove(hello) }, fault.NoRoute, "removed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, settings())
				x := forwardtest.New("hello")
				done := w.serve(x)
				synctest.Wait()
				c.do(w, x)
				<-done
				if x.Cause != c.want || !strings.Contains(x.Body, c.text) {
					t.Errorf("cause = %v, body %q, want %v with %q", x.Cause, x.Body, c.want, c.text)
				}
				if w.parked.Load() != 0 {
					t.Errorf("%d requests counted as parked, want 0: the place is free at once", w.parked.Load())
				}
			})
		})
	}
}

func TestQueueBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings()
		s.QueueLimit = 2
		w := newWorld(t, s)
		first, second, third := forwardtest.New("hello"), forwardtest.New("hello"), forwardtest.New("hello")
		d1, d2 := w.serve(first), w.serve(second)
		synctest.Wait()
		<-w.serve(third)
		if third.Cause != fault.QueueFull || !strings.Contains(third.Body, "rouse.dev/queue-limit is 2") || third.RetryAfter <= 0 {
			t.Errorf("third: %v, %q, Retry-After %v; want queue_full that names the limit", third.Cause, third.Body, third.RetryAfter)
		}
		w.pod("a", endpoint.Ready)
		<-d1
		<-d2
	})
}

// TestAPanicGivesBackWhatItHeld: the pod's only slot serves the next request, and nothing stays in flight.
func TestAPanicGivesBackWhatItHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.pod("a", endpoint.Ready)
		bad := forwardtest.New("hello")
		bad.OnForward = func(*forward.Pool) forward.Result { panic("a bug") }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not come out")
				}
			}()
			w.Handler(false).ServeExchange(bad)
		}()
		good := forwardtest.New("hello")
		<-w.serve(good)
		if parked, inFlight, _ := w.Counts(hello); good.Status != 200 || parked != 0 || inFlight != 0 {
			t.Errorf("the next request was answered %d; %d parked, %d in flight", good.Status, parked, inFlight)
		}
	})
}

// TestRetriedRequestKeepsItsPlace refuses the first connection: the request must go to the other pod, ahead of those
// that came later, and the pod that refused is left alone.
func TestRetriedRequestKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.pod("a", endpoint.Ready)
		var order []string
		x := forwardtest.New("hello")
		later := forwardtest.New("hello")
		x.OnForward = func(*forward.Pool) forward.Result {
			order = append(order, "first")
			if len(order) == 1 {
				w.serve(later)
				synctest.Wait()
				return forward.Result{Cause: fault.ConnectFailed, Retryable: true}
			}
			return forward.Result{Status: 200}
		}
		later.OnForward = func(*forward.Pool) forward.Result {
			order = append(order, "later")
			return forward.Result{Status: 200}
		}
		began := time.Now()
		<-w.serve(x)
		synctest.Wait()
		if got := strings.Join(order, " "); got != "first first later" {
			t.Errorf("order = %q, want the retried request before the later one", got)
		}
		if waited := time.Since(began); waited != ejectFirst {
			t.Errorf("the pod that refused was tried again after %v, want %v", waited, ejectFirst)
		}
	})
}

// TestRetriedRequestMeetsAFullQueue: what came while a request was in its pod fills the queue; the one that comes back has
// its place still, and newcomers have none until both are served.
func TestRetriedRequestMeetsAFullQueue(t *testing.T) {
	for name, bound := range map[string]func(w *world, s *Settings){
		"of the revision":  func(_ *world, s *Settings) { s.QueueLimit = 1 },
		"of all revisions": func(w *world, _ *Settings) { w.cfg.QueueTotal = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := settings()
				w := newWorld(t, s)
				bound(w, &s)
				w.Put(hello, s)
				w.pod("a", endpoint.Ready)
				x, later, last := forwardtest.New("hello"), forwardtest.New("hello"), forwardtest.New("hello")
				refuse := make(chan struct{})
				x.OnForward = func(*forward.Pool) forward.Result {
					if <-refuse; x.Forwards > 1 {
						return served
					}
					return forward.Result{Cause: fault.NotAdmitted, Retryable: true}
				}
				first := w.serve(x)
				synctest.Wait()
				second := w.serve(later)
				synctest.Wait()
				close(refuse)
				synctest.Wait()
				<-w.serve(last)
				<-first
				<-second
				if x.Status != 200 || later.Status != 200 || last.Status != 503 {
					t.Errorf("answered %d, then %d, and the newcomer %d; want 200, 200 and 503", x.Status, later.Status, last.Status)
				}
				if n := w.Parked(); n != 0 {
					t.Errorf("%v count as parked after all, want 0", n)
				}
			})
		})
	}
}

func TestTriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.pod("a", endpoint.Ready)
		x := forwardtest.New("hello")
		x.OnForward = func(*forward.Pool) forward.Result {
			return forward.Result{Cause: fault.ConnectFailed, Retryable: true}
		}
		<-w.serve(x)
		if x.Forwards != 12 || x.Cause != fault.ConnectFailed || x.AnsweredTwice() != "" {
			t.Errorf("%d tries, %v, twice: %q; want 12, connect_failed, one answer", x.Forwards, x.Cause, x.AnsweredTwice())
		}
	})
}

// TestARestartedApplicationIsWaitedFor: the only pod refuses connections until its application is back, and nobody takes
// it out of the endpoints.
func TestARestartedApplicationIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.pod("a", endpoint.Ready)
		back := time.Now().Add(5 * time.Second)
		x := forwardtest.New("hello")
		x.OnForward = func(*forward.Pool) forward.Result {
			if time.Now().Before(back) {
				return forward.Result{Cause: fault.ConnectFailed, Retryable: true}
			}
			return served
		}
		<-w.serve(x)
		if x.Status != 200 {
			t.Errorf("answered %d after %d tries in %v, want 200", x.Status, x.Forwards, time.Since(x.Received()))
		}
	})
}

func TestRevisionHeadersNeedATrustedListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.pod("a", endpoint.Ready)
		for trusted, want := range map[bool]int{true: 200, false: 404} {
			x := forwardtest.New("elsewhere")
			x.Headers["knative-serving-namespace"], x.Headers["knative-serving-revision"] = hello.Namespace, hello.Name
			w.Handler(trusted).ServeExchange(x)
			if x.Status != want {
				t.Errorf("trusted %v: status = %d, want %d", trusted, x.Status, want)
			}
		}
	})
}

// TestDrainingPodGetsNothingNew keeps the running request and sends the next one elsewhere.
func TestDrainingPodGetsNothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.pod("a", endpoint.Ready)
		release := make(chan struct{})
		x := forwardtest.New("hello")
		x.OnForward = func(*forward.Pool) forward.Result {
			<-release
			return forward.Result{Status: 200}
		}
		done := w.serve(x)
		synctest.Wait()
		w.pod("a", endpoint.Draining)
		w.pod("b", endpoint.Ready)
		var uid string
		y := forwardtest.New("hello")
		y.OnForward = func(p *forward.Pool) forward.Result {
			uid = w.pools[p]
			return forward.Result{Status: 200}
		}
		<-w.serve(y)
		close(release)
		<-done
		if uid != "b" || x.Status != 200 {
			t.Errorf("the new request went to %q, the running one got %d; want b and 200", uid, x.Status)
		}
	})
}

// TestAnswersInsteadOfTheRevision checks when each fixed answer is given, and whether it wakes.
func TestAnswersInsteadOfTheRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			path             string
			ready            bool
			status, forwards int
			wakes            bool
		}{
			{"/healthz", false, 204, 0, false},
			{"/healthz", true, 200, 1, true},
			{"/wait", false, 503, 0, true},
			{"/wait", true, 200, 1, true},
			{"/robots.txt", false, 200, 0, false},
			{"/robots.txt", true, 200, 0, false},
		} {
			w := newWorld(t, settings())
			if c.ready {
				w.pod("a", endpoint.Ready)
			}
			x := forwardtest.New("hello")
			x.TargetV = c.path
			w.Handler(false).ServeExchange(x)
			if x.Status != c.status || x.Forwards != c.forwards || (len(w.stats.all) > 0) != c.wakes {
				t.Errorf("%s, ready %v: %d, %d forwards, %d reports; want %d, %d, wakes %v",
					c.path, c.ready, x.Status, x.Forwards, len(w.stats.all), c.status, c.forwards, c.wakes)
			}
		}
	})
}

func TestColdStartIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.cfg.ColdStartHeader, w.cfg.ServerTiming = true, true
		x := forwardtest.New("hello")
		done := w.serve(x)
		time.Sleep(20 * time.Millisecond)
		w.pod("a", endpoint.Ready)
		<-done
		if x.ResponseEdits[headerColdStart] != "true" || x.ResponseEdits[headerServerTiming] != "parked;dur=20.00" {
			t.Errorf("response headers = %v, want the cold start and 20 ms parked", x.ResponseEdits)
		}
		warm := forwardtest.New("hello")
		<-w.serve(warm)
		if len(warm.ResponseEdits) != 0 {
			t.Errorf("a warm request's response headers = %v, want none", warm.ResponseEdits)
		}
	})
}

// TestAwaitIdleCoversTheMomentBeforeSending: a picked pod counts as busy before a byte was sent to it.
func TestAwaitIdleCoversTheMomentBeforeSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.pod("a", endpoint.Ready)
		release := make(chan struct{})
		x := forwardtest.New("hello")
		x.OnForward = func(*forward.Pool) forward.Result {
			<-release
			return forward.Result{Status: 200}
		}
		done := w.serve(x)
		synctest.Wait()
		w.pod("a", endpoint.Draining)
		idle := make(chan struct{})
		go func() {
			defer close(idle)
			w.AwaitIdle(t.Context(), hello, "a")
		}()
		synctest.Wait()
		select {
		case <-idle:
			t.Error("a pod with a request was called idle")
		default:
		}
		close(release)
		<-idle
		<-done
		w.AwaitIdle(t.Context(), hello, "a")    // idle already
		w.AwaitIdle(t.Context(), hello, "gone") // unknown: nothing in flight
	})
}

// TestGrowthIsReportedAheadAndOnce parks a burst: what was reported ahead of the period is left out of its own report.
func TestGrowthIsReportedAheadAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, settings())
		w.cfg.Growth = 2
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		var xs []*forwardtest.Exchange
		for range 40 {
			x := forwardtest.New("hello")
			xs = append(xs, x)
			all.Go(func() { w.Handler(false).ServeExchange(x) })
			synctest.Wait()
		}
		var ahead []float64
		sum := 0.0
		for _, m := range w.stats.copied() {
			sum += m.Stat.AverageConcurrency
			ahead = append(ahead, sum)
		}
		if want := []float64{1, 2, 4, 8, 16, 24, 32, 40}; !slices.Equal(ahead, want) {
			t.Errorf("reported ahead %v, want %v", ahead, want)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if own := w.stats.copied()[len(ahead)].Stat.AverageConcurrency; own > 8 {
			t.Errorf("the period's own report says %v, want the 8 that were not reported ahead", own)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if full := w.stats.copied()[len(ahead)+1].Stat.AverageConcurrency; full != 40 {
			t.Errorf("the next period says %v, want all 40", full)
		}
		for _, x := range xs {
			x.Leave()
		}
		cancel()
		all.Wait()
	})
}

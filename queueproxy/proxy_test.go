package queueproxy

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/metrics"
)

func newProxy(t *testing.T, limit, queue int, stats StatSink) *Proxy {
	t.Helper()
	app := netip.MustParseAddrPort("127.0.0.1:1")
	pool := forward.NewPool(forward.PoolConfig{Addr: app})
	t.Cleanup(pool.Close)
	p, err := New(Config{
		Revision: identity.Revision{Namespace: "default", Name: "hello-00001", UID: "u"}, Pod: "pod-a",
		ContainerConcurrency: limit, QueueLimit: queue, App: app, Timeouts: forward.Timeouts{Total: time.Minute},
	}, Deps{Pool: pool, Stats: stats})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name    string
			headers map[string]string
			drain   bool
			ready   bool
			want    int
			body    string
		}{
			{"activator's probe", map[string]string{"user-agent": "Knative-Activator-Probe", "k-network-probe": "queue"}, false, true, 200, "queue"},
			{"kubelet's probe", map[string]string{"user-agent": "kube-probe/1.36"}, false, true, 200, "queue"},
			{"kubelet's header", map[string]string{"k-kubelet-probe": "queue"}, false, true, 200, "queue"},
			{"not ready", map[string]string{"user-agent": "kube-probe/1.36"}, false, false, 503, "queue not ready"},
			{"draining", map[string]string{"user-agent": "kube-probe/1.36"}, true, true, 503, "draining"},
			{"for this revision", map[string]string{"user-agent": "Knative-Activator-Probe", "k-network-probe": "queue",
				"knative-serving-namespace": "default", "knative-serving-revision": "hello-00001"}, false, true, 200, "queue"},
			{"for another revision", map[string]string{"user-agent": "Knative-Activator-Probe", "k-network-probe": "queue",
				"knative-serving-namespace": "default", "knative-serving-revision": "shop"}, false, true, 503, "another revision"},
			{"for its namesake in another namespace", map[string]string{"user-agent": "Knative-Activator-Probe", "k-network-probe": "queue",
				"knative-serving-namespace": "shop", "knative-serving-revision": "hello-00001"}, false, true, 503, "another revision"},
			{"another proxy's probe", map[string]string{"user-agent": "kube-probe/1.36", "k-network-probe": "activator"}, false, true, 400, "activator"},
		} {
			p := newProxy(t, 1, 0, nil)
			p.deps.Ready = func(context.Context) bool { return c.ready }
			if c.drain {
				p.Drain()
			}
			x := forwardtest.New("hello")
			x.Headers = c.headers
			p.ServeExchange(x)
			if x.Status != c.want || !strings.Contains(x.Body, c.body) || x.Forwards != 0 {
				t.Errorf("%s: %d %q, %d forwards; want %d %q and none", c.name, x.Status, x.Body, x.Forwards, c.want, c.body)
			}
		}
	})
}

// TestNetworkProbe: an ingress asks whether its routing leads here, and recognizes the answer by its own hash.
func TestNetworkProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, 1, 0, nil)
		ask := func(hash string) *forwardtest.Exchange {
			x := forwardtest.New("hello")
			x.Headers["k-network-probe"] = "probe"
			if hash != "" {
				x.Headers["k-network-hash"] = hash
			}
			p.ServeExchange(x)
			return x
		}
		if x := ask("abc"); x.Status != 200 || x.ResponseEdits[hashHeader] != "abc" || x.Forwards != 0 {
			t.Errorf("network probe = %d with hash %q, %d forwards; want 200, its hash and none", x.Status, x.ResponseEdits[hashHeader], x.Forwards)
		}
		if x := ask(""); x.Status != 400 {
			t.Errorf("network probe without a hash = %d, want 400", x.Status)
		}
		p.Drain()
		if x := ask("abc"); x.Status != 503 {
			t.Errorf("network probe while draining = %d, want 503", x.Status)
		}
	})
}

// TestProbeHeaderAloneGoesToTheApplication: a request for readiness is a probe by its sender, not by what it asks.
func TestProbeHeaderAloneGoesToTheApplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, 1, 0, nil)
		x := forwardtest.New("hello")
		x.Headers["k-network-probe"] = "queue"
		p.ServeExchange(x)
		if x.Forwards != 1 {
			t.Errorf("%d forwards, want 1", x.Forwards)
		}
	})
}

// TestLimitAndQueue holds the application at its limit, lets ten times as many wait, and refuses the rest with the
// private header that lets an activator try another pod.
func TestLimitAndQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 2
		p := newProxy(t, limit, 0, nil)
		var mu sync.Mutex
		now, most := 0, 0
		one := func() *forwardtest.Exchange {
			x := forwardtest.New("hello")
			x.OnForward = func(*forward.Pool) forward.Result {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return forward.Result{Status: 200}
			}
			return x
		}
		var all sync.WaitGroup
		for range 11 * limit {
			all.Go(func() { p.ServeExchange(one()) })
		}
		synctest.Wait()
		if inside, pending := p.Depth(); inside != 11*limit || pending != 10*limit {
			t.Errorf("depth = %d, %d; want %d of which %d wait", inside, pending, 11*limit, 10*limit)
		}
		refused := one()
		p.ServeExchange(refused)
		if refused.Cause != fault.QueueFull || refused.ResponseEdits[forward.NotAdmittedHeader] == "" {
			t.Errorf("the request beyond the queue: %v, header %q; want queue_full and the private header",
				refused.Cause, refused.ResponseEdits[forward.NotAdmittedHeader])
		}
		all.Wait()
		if most != limit {
			t.Errorf("the application saw %d at once, want %d", most, limit)
		}
	})
}

// TestHungApplicationEndsEveryRequestInTime: whoever waits is answered when its timeout is over, counted from its arrival, and
// not when those before it have had theirs; what is left of the timeout is what the application gets.
func TestHungApplicationEndsEveryRequestInTime(t *testing.T) {
	for name, tc := range map[string]struct {
		limits forward.Timeouts
		after  time.Duration
		want   fault.Cause
	}{
		"total":          {forward.Timeouts{Total: 300 * time.Second}, 300 * time.Second, fault.TimeoutTotal},
		"response start": {forward.Timeouts{Total: 300 * time.Second, FirstByte: 100 * time.Second}, 100 * time.Second, fault.TimeoutFirstByte},
		"idle":           {forward.Timeouts{Total: 300 * time.Second, FirstByte: 300 * time.Second, Idle: 50 * time.Second}, 50 * time.Second, fault.TimeoutIdle},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newProxy(t, 1, 0, nil)
			p.cfg.Timeouts = tc.limits
			var all sync.WaitGroup
			for i := range 11 {
				all.Go(func() {
					x := forwardtest.New("hello")
					x.OnForward = func(*forward.Pool) forward.Result {
						limit, cause := firstOver(x.TimeoutsV)
						time.Sleep(limit)
						return forward.Result{Cause: cause, Status: 504}
					}
					began := time.Now()
					p.ServeExchange(x)
					if took := time.Since(began); x.Status != 504 || took != tc.after {
						t.Errorf("%s: request %d answered %d after %s, want 504 after %s", name, i, x.Status, took, tc.after)
					}
					if x.Forwards == 0 && x.Cause != tc.want {
						t.Errorf("%s: request %d ended by %v, want %v", name, i, x.Cause, tc.want)
					}
				})
			}
			all.Wait()
			if inside, pending := p.Depth(); inside != 0 || pending != 0 {
				t.Errorf("%s: depth = %d, %d after all, want none", name, inside, pending)
			}
		})
	}
}

// TestWaitCountsAgainstTheTimeouts: a request that got its slot late has less time in the application.
func TestWaitCountsAgainstTheTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, 1, 0, nil)
		p.cfg.Timeouts = forward.Timeouts{Total: time.Minute, FirstByte: 30 * time.Second, Idle: 20 * time.Second, Tunnel: time.Hour}
		first, second := forwardtest.New("hello"), forwardtest.New("hello")
		first.OnForward = func(*forward.Pool) forward.Result {
			time.Sleep(10 * time.Second)
			return forward.Result{Status: 200}
		}
		var all sync.WaitGroup
		all.Go(func() { p.ServeExchange(first) })
		synctest.Wait()
		p.ServeExchange(second)
		all.Wait()
		if first.TimeoutsV != p.cfg.Timeouts {
			t.Errorf("the first one's timeouts = %+v, want all of %+v", first.TimeoutsV, p.cfg.Timeouts)
		}
		want := forward.Timeouts{Total: 50 * time.Second, FirstByte: 20 * time.Second, Idle: 20 * time.Second, Tunnel: time.Hour}
		if second.Status != 200 || second.TimeoutsV != want {
			t.Errorf("the second one: %d, timeouts %+v; want 200, %+v", second.Status, second.TimeoutsV, want)
		}
	})
}

func TestClientThatLeavesTheQueueFreesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, 1, 1, nil)
		release := make(chan struct{})
		first, second := forwardtest.New("hello"), forwardtest.New("hello")
		first.OnForward = func(*forward.Pool) forward.Result {
			<-release
			return forward.Result{Status: 200}
		}
		var all sync.WaitGroup
		all.Go(func() { p.ServeExchange(first) })
		synctest.Wait()
		all.Go(func() { p.ServeExchange(second) })
		synctest.Wait()
		second.Leave()
		synctest.Wait()
		if _, pending := p.Depth(); pending != 0 || second.Cause != fault.ClientGone {
			t.Errorf("pending = %d, cause %v; want the place free and client_gone", pending, second.Cause)
		}
		close(release)
		all.Wait()
	})
}

func TestHostIsRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, 0, 0, nil)
		x := forwardtest.New("10.0.0.1:8012")
		x.Headers["k-original-host"] = "hello.default.example.com"
		p.ServeExchange(x)
		if x.HostEdit != "hello.default.example.com" || x.TimeoutsV.Total != time.Minute {
			t.Errorf("host %q, timeouts %v; want the original host and the revision's timeout", x.HostEdit, x.TimeoutsV)
		}
	})
}

// TestRevisionHeadersEndHere: the ingress names the revision to the activator; the application is not told.
func TestRevisionHeadersEndHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, 0, 0, nil)
		x := forwardtest.New("hello")
		p.ServeExchange(x)
		if len(x.RequestEdits) != 0 {
			t.Errorf("edits of a request without them = %v, want none", x.RequestEdits)
		}
		x = forwardtest.New("hello")
		x.Headers["knative-serving-namespace"], x.Headers["knative-serving-revision"] = "default", "hello-00001"
		p.ServeExchange(x)
		for _, name := range []string{headerNamespace, headerRevision} {
			if v, edited := x.RequestEdits[name]; !edited || v != "" {
				t.Errorf("%s reaches the application", name)
			}
		}
	})
}

func TestApplicationThatTakesNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, 1, 0, nil)
		x := forwardtest.New("hello")
		x.OnForward = func(*forward.Pool) forward.Result {
			return forward.Result{Cause: fault.ConnectFailed, Retryable: true}
		}
		p.ServeExchange(x)
		if x.Status != 502 || x.ResponseEdits[forward.NotAdmittedHeader] != "connect_failed" {
			t.Errorf("status %d, header %q; want 502 that says the application saw nothing", x.Status, x.ResponseEdits[forward.NotAdmittedHeader])
		}
	})
}

type reports struct {
	mu  sync.Mutex
	all []metrics.Message
}

func (r *reports) Report(m metrics.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, m)
}

// gauge is a Usage that counts its calls.
type gauge struct{ calls int }

func (g *gauge) Measure(time.Time) (cores, bytes float64) {
	g.calls++
	return 1.5, float64(g.calls)
}

// TestReportsSayWhatTheApplicationUses looks once per report.
func TestReportsSayWhatTheApplicationUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stats := &reports{}
		p := newProxy(t, 5, 0, stats)
		p.deps.Usage = &gauge{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		time.Sleep(2*time.Second + 1) // virtual
		cancel()
		<-done
		for i, m := range stats.all {
			if e := m.Stat.Extension; e.CPU != 1.5 || e.Memory != float64(i+1) {
				t.Errorf("report %d: %g cores, %g bytes; want 1.5 and %d", i, e.CPU, e.Memory, i+1)
			}
		}
		if len(stats.all) != 2 {
			t.Errorf("%d reports in 2 s, want 2", len(stats.all))
		}
	})
}

// TestReports keeps one request in flight for a whole period: concurrency 1, and its proxied share.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &reports{}
		p := newProxy(t, 5, 0, sink)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { p.Run(ctx) })
		x := forwardtest.New("hello")
		x.Headers["k-proxy-request"] = "activator"
		x.OnForward = func(*forward.Pool) forward.Result {
			time.Sleep(2500 * time.Millisecond)
			return forward.Result{Status: 200}
		}
		all.Go(func() { p.ServeExchange(x) })
		time.Sleep(2100 * time.Millisecond)
		cancel()
		all.Wait()
		if len(sink.all) != 2 {
			t.Fatalf("%d reports in 2.1 s, want 2", len(sink.all))
		}
		s := sink.all[1].Stat
		if s.AverageConcurrency != 1 || s.AverageProxiedConcurrency != 1 || s.PodName != "pod-a" || s.Extension.Sequence != 2 {
			t.Errorf("second report = %+v, want concurrency 1, all of it proxied, sequence 2", s)
		}
		if p.Last().AverageConcurrency != 1 {
			t.Errorf("Last = %+v, want the newest period", p.Last())
		}
	})
}

func TestTelemetryCountsByStatusAndOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(t, 0, 0, nil)
		reg := prometheus.NewRegistry()
		tel, err := NewTelemetry(reg, Labels{Namespace: "default", Revision: "hello-00001"}, p)
		if err != nil {
			t.Fatal(err)
		}
		tel.Done(forward.Result{Status: 200}, nil, time.Millisecond, time.Millisecond)
		tel.Done(forward.Result{Cause: fault.ClientGone}, nil, time.Millisecond, 0)
		if got := testutil.ToFloat64(tel.requests.WithLabelValues("499", "4xx", "DISABLED")); got != 1 {
			t.Errorf("requests with 499 = %v, want 1", got)
		}
		if got := testutil.ToFloat64(tel.appRequests.WithLabelValues("200", "2xx")); got != 1 {
			t.Errorf("application requests with 200 = %v, want 1", got)
		}
		if got := testutil.ToFloat64(tel.outcomes[fault.ClientGone]); got != 1 {
			t.Errorf("outcomes of client_gone = %v, want 1", got)
		}
	})
}

// TestAPanicGivesBackWhatItHeld: neither a slot nor a request in flight stays behind.
func TestAPanicGivesBackWhatItHeld(t *testing.T) {
	p := newProxy(t, 1, 1, nil)
	for range 3 {
		x := forwardtest.New("hello")
		x.OnForward = func(*forward.Pool) forward.Result { panic("a bug") }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not come out")
				}
			}()
			p.ServeExchange(x)
		}()
	}
	if inFlight, pending := p.Depth(); inFlight != 0 || pending != 0 || p.load.inFlight() != 0 {
		t.Errorf("%d in flight, %d pending, %d counted, want none", inFlight, pending, p.load.inFlight())
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	err := Config{ContainerConcurrency: -1, QueueLimit: -1, StatPeriod: time.Nanosecond}.Validate()
	for _, want := range []string{"ContainerConcurrency", "QueueLimit", "App", "StatPeriod"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want it to name %s", err, want)
		}
	}
}

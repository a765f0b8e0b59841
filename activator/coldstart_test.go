package activator

import (
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/identity"
)

// cold is a world whose telemetry is looked at.
type cold struct {
	*world
	t   *testing.T
	reg *prometheus.Registry
	tel *Telemetry
}

func newCold(t *testing.T) *cold {
	t.Helper()
	c := &cold{world: newWorld(t, settings()), t: t, reg: prometheus.NewRegistry()}
	tel, err := NewTelemetry(c.reg, func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	c.tel, c.deps.Observer = tel, tel
	return c
}

// asked is a request that is parked, or done, when it returns. Its pod's answer takes 8 ms and begins after 5.
func (c *cold) asked() (x *forwardtest.Exchange, done chan struct{}) {
	x = forwardtest.New("hello")
	x.OnForward = func(*forward.Pool) forward.Result {
		time.Sleep(8 * time.Millisecond)
		return forward.Result{Status: 200, FirstByte: 5 * time.Millisecond}
	}
	done = c.serve(x)
	synctest.Wait()
	return x, done
}

// after lets time pass and then makes the pod starting or ready.
func (c *cold) after(d time.Duration, s endpoint.State) {
	time.Sleep(d)
	c.pod("a", s)
}

// busy parks a request at a pod that is ready and has another one.
func (c *cold) busy() {
	c.t.Helper()
	c.pod("a", endpoint.Ready)
	_, first := c.asked()
	_, second := c.asked()
	if parked, _, _ := c.Counts(hello); parked != 1 {
		c.t.Errorf("%d requests are parked, want the second", parked)
	}
	<-first
	<-second
}

// sleeps takes the pod away.
func (c *cold) sleeps() { c.book.Publish(hello, nil, "a") }

// observed is what a histogram holds.
type observed struct {
	Count uint64
	Sum   time.Duration
}

// phases returns what was observed, by phase.
func (c *cold) phases() map[string]observed {
	c.t.Helper()
	families, err := c.reg.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	got := map[string]observed{}
	for _, f := range families {
		if f.GetName() != "rouse_activator_cold_start_phase_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if h := m.GetHistogram(); l.GetName() == "phase" {
					got[l.GetValue()] = observed{h.GetSampleCount(), time.Duration(math.Round(h.GetSampleSum() * 1e9))}
				}
			}
		}
	}
	return got
}

// want compares with the sums of n cold starts, in milliseconds; none when n is 0.
func (c *cold) want(n uint64, pod, ready, dispatch, firstByte int) {
	c.t.Helper()
	want := map[string]observed{}
	if n > 0 {
		for phase, ms := range map[string]int{"pod": pod, "ready": ready, "dispatch": dispatch, "first_byte": firstByte,
			"total": pod + ready + dispatch + firstByte} {
			want[phase] = observed{n, time.Duration(ms) * time.Millisecond}
		}
	}
	if diff := cmp.Diff(want, c.phases()); diff != "" {
		c.t.Errorf("cold start phases (-want +got):\n%s", diff)
	}
}

// asksFor is a prober that is told yes after this long.
type asksFor time.Duration

func (d asksFor) Probe(context.Context, *forward.Pool, identity.Revision, Probe) error {
	time.Sleep(time.Duration(d))
	return nil
}

const ms = time.Millisecond

// TestColdStartPhases wakes a revision in virtual time: each phase is exactly as long as what it waited for.
func TestColdStartPhases(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(c *cold)
	}{
		{"known, ready, answered", func(c *cold) {
			_, done := c.asked()
			c.after(30*ms, endpoint.Starting)
			c.after(200*ms, endpoint.Ready)
			<-done
			c.want(1, 30, 200, 0, 5)
		}},
		{"one request counts of all that waited", func(c *cold) {
			var all []chan struct{}
			for range 20 {
				_, done := c.asked()
				all = append(all, done)
				time.Sleep(ms)
			}
			c.after(10*ms, endpoint.Starting)
			c.after(200*ms, endpoint.Ready)
			for _, done := range all {
				<-done
			}
			c.want(1, 30, 200, 0, 5)
		}},
		{"twice", func(c *cold) {
			for range 2 {
				_, done := c.asked()
				c.after(30*ms, endpoint.Starting)
				c.after(200*ms, endpoint.Ready)
				<-done
				_, warm := c.asked()
				<-warm
				c.sleeps()
				time.Sleep(time.Hour)
			}
			c.want(2, 60, 400, 0, 10)
		}},
		{"a pod starts already", func(c *cold) {
			c.pod("a", endpoint.Starting)
			time.Sleep(time.Second)
			_, done := c.asked()
			c.after(200*ms, endpoint.Ready)
			<-done
			c.want(1, 0, 200, 0, 5)
		}},
		{"a pod that drains is none to come", func(c *cold) {
			c.pod("a", endpoint.Draining)
			_, done := c.asked()
			c.after(30*ms, endpoint.Starting)
			c.after(200*ms, endpoint.Ready)
			<-done
			c.want(1, 30, 200, 0, 5)
		}},
		{"known by being ready", func(c *cold) {
			_, done := c.asked()
			c.after(30*ms, endpoint.Ready)
			<-done
			c.want(1, 30, 0, 0, 5)
		}},
		{"known and gone and known", func(c *cold) {
			c.Grant(hello, map[string]int{})
			_, done := c.asked()
			c.after(30*ms, endpoint.Ready)
			time.Sleep(20 * ms)
			c.sleeps()
			c.after(180*ms, endpoint.Ready)
			c.Grant(hello, nil)
			<-done
			c.want(1, 30, 200, 0, 5)
		}},
		{"the activator asks", func(c *cold) {
			s := settings()
			s.Probe = Probe{By: QueueProbe}
			c.Put(hello, s)
			c.probes.prober = asksFor(200 * ms)
			ctx, cancel := context.WithCancel(c.t.Context())
			ran := make(chan error)
			go func() { ran <- c.Run(ctx) }()
			_, done := c.asked()
			c.after(30*ms, endpoint.Starting)
			<-done
			cancel()
			if err := <-ran; err != nil {
				c.t.Error(err)
			}
			c.want(1, 30, 200, 0, 5)
		}},
		{"a lease comes late", func(c *cold) {
			c.Grant(hello, map[string]int{})
			_, done := c.asked()
			c.after(30*ms, endpoint.Starting)
			c.after(200*ms, endpoint.Ready)
			time.Sleep(15 * ms)
			c.Grant(hello, map[string]int{"a": 1})
			<-done
			c.want(1, 30, 200, 15, 5)
		}},
		{"the pod refuses at first", func(c *cold) {
			x, done := c.asked()
			answer := x.OnForward
			x.OnForward = func(p *forward.Pool) forward.Result {
				if x.Forwards == 1 {
					time.Sleep(2 * ms)
					return forward.Result{Cause: fault.ConnectFailed, Retryable: true}
				}
				return answer(p)
			}
			c.after(30*ms, endpoint.Starting)
			c.after(200*ms, endpoint.Ready)
			<-done
			c.want(1, 30, 200, 2+int(ejectFirst/ms), 5)
		}},
		{"the engine does not tell when the response began", func(c *cold) {
			x, done := c.asked()
			x.OnForward = func(*forward.Pool) forward.Result {
				time.Sleep(8 * ms)
				return forward.Result{Status: 200}
			}
			c.after(30*ms, endpoint.Starting)
			c.after(200*ms, endpoint.Ready)
			<-done
			c.want(1, 30, 200, 0, 8)
		}},
		{"cut after it began", func(c *cold) {
			x, done := c.asked()
			x.OnForward = func(*forward.Pool) forward.Result {
				time.Sleep(8 * ms)
				return forward.Result{Status: 200, Cause: fault.ClientGone, FirstByte: 5 * ms}
			}
			c.after(30*ms, endpoint.Starting)
			c.after(200*ms, endpoint.Ready)
			<-done
			c.want(1, 30, 200, 0, 5)
		}},
		{"the first client leaves and another waits on", func(c *cold) {
			x, left := c.asked()
			_, done := c.asked()
			time.Sleep(10 * ms)
			x.Leave()
			<-left
			c.after(20*ms, endpoint.Starting)
			c.after(200*ms, endpoint.Ready)
			<-done
			c.want(1, 30, 200, 0, 5)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { tc.do(newCold(t)) }) })
	}
}

// TestNoColdStart: nothing is observed of requests that met a pod, nor of a cold start that fails; the next one is
// counted from its own beginning.
func TestNoColdStart(t *testing.T) {
	fails := func(end func(c *cold, x *forwardtest.Exchange)) func(*cold) {
		return func(c *cold) {
			x, done := c.asked()
			time.Sleep(20 * ms)
			end(c, x)
			<-done
		}
	}
	answers := func(res forward.Result) func(*cold) {
		return fails(func(c *cold, x *forwardtest.Exchange) {
			x.OnForward = func(*forward.Pool) forward.Result { return res }
			c.pod("a", endpoint.Ready)
		})
	}
	for _, tc := range []struct {
		name string
		do   func(c *cold)
	}{
		{"ready from the start", func(c *cold) {
			c.pod("a", endpoint.Ready)
			_, done := c.asked()
			<-done
		}},
		{"a pod without a free slot", (*cold).busy},
		{"the pod of those that wait goes", func(c *cold) {
			c.pod("a", endpoint.Ready)
			_, first := c.asked()
			_, second := c.asked()
			c.sleeps()
			_, third := c.asked()
			c.after(30*ms, endpoint.Ready)
			<-first
			<-second
			<-third
		}},
		{"pods cannot start", fails(func(c *cold, _ *forwardtest.Exchange) {
			c.Fail(hello, "no such program")
			c.Fail(hello, "")
		})},
		{"the client leaves", fails(func(_ *cold, x *forwardtest.Exchange) { x.Leave() })},
		{"the deadline passes", fails(func(*cold, *forwardtest.Exchange) { time.Sleep(time.Minute) })},
		{"no answer in time", answers(forward.Result{Status: 504, Cause: fault.TimeoutFirstByte})},
		{"refused in every try", answers(forward.Result{Cause: fault.ConnectFailed, Retryable: true})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCold(t)
				tc.do(c)
				time.Sleep(time.Minute)
				c.busy()
				c.want(0, 0, 0, 0, 0)
				c.sleeps()
				time.Sleep(time.Hour)
				_, done := c.asked()
				c.after(30*ms, endpoint.Starting)
				c.after(200*ms, endpoint.Ready)
				<-done
				c.want(1, 30, 200, 0, 5)
			})
		})
	}
}

// coldOnes keeps the outcomes that ended a cold start.
type coldOnes struct {
	mu   sync.Mutex
	done int
	cold []Outcome // guarded by mu
}

func (o *coldOnes) Dispatched(identity.Revision, bool, time.Duration) {}

func (o *coldOnes) Done(_ identity.Revision, out Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done++; out.Cold != nil {
		o.cold = append(o.cold, out)
	}
}

// TestColdStartOverSockets parks requests of real connections: one of them counts, with the first byte that the engine saw.
func TestColdStartOverSockets(t *testing.T) {
	const n = 20
	a, addr := front(t, settings())
	seen := &coldOnes{}
	a.deps.Observer = seen
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer srv.Close()
	conns := park(t, a, addr, n)
	at := netip.MustParseAddrPort(srv.Listener.Addr().String())
	for version, state := range []endpoint.State{endpoint.Starting, endpoint.Ready} {
		publish(a, uint64(version+1), endpoint.Endpoint{Pod: identity.Pod{UID: "a", Addr: at}, State: state})
	}
	for _, c := range conns {
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "every request is counted", func() bool {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		return seen.done == n
	})
	if len(seen.cold) != 1 {
		t.Fatalf("%d of %d requests count as the cold start, want 1", len(seen.cold), n)
	}
	o := seen.cold[0]
	c := o.Cold
	if c.Pod <= 0 || c.Ready <= 0 || c.Dispatch <= 0 || c.FirstByte <= 0 || c.FirstByte != o.FirstByte || c.Total() > o.Took {
		t.Errorf("phases %+v of a request that took %v, first byte after %v; want all of them, and no more than it took", *c, o.Took, o.FirstByte)
	}
}

// TestForgottenPhases: a revision that is gone leaves no series.
func TestForgottenPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCold(t)
		_, done := c.asked()
		c.after(30*ms, endpoint.Ready)
		<-done
		if n := testutil.CollectAndCount(c.tel.phases); n != len(coldPhases) {
			t.Errorf("%d series of one revision, want one per phase: %d", n, len(coldPhases))
		}
		c.tel.Forget(hello)
		if n := testutil.CollectAndCount(c.tel.phases); n != 0 {
			t.Errorf("%d series are left of a revision that is gone, want 0", n)
		}
	})
}

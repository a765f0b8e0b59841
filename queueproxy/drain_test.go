package queueproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/lifecycle"
)

// newSidecar returns a sidecar with Knative's defaults: a minimum of 5 s and a quiet time of 2 s.
func newSidecar(t *testing.T, deps Deps) *Sidecar {
	t.Helper()
	s, err := NewSidecar(SidecarConfig{
		Proxy: Config{App: netip.MustParseAddrPort("127.0.0.1:1")}, FollowProtocol: true,
		Drain: lifecycle.DrainConfig{Minimum: 5 * time.Second, Quiet: 2 * time.Second, Grace: time.Minute},
	}, deps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stop ends a sidecar that a test has no more use for, so that no goroutine is left in the bubble.
func stop(t *testing.T, s *Sidecar) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Stop(ctx) // cut at once, which is what it says
}

func probe(p *Proxy) int {
	x := forwardtest.New("hello")
	x.Headers["user-agent"] = "kube-probe/1"
	p.ServeExchange(x)
	return x.Status
}

// TestProbesAreNoClients: who asks for the sidecar's own state does not keep it from ending.
func TestProbesAreNoClients(t *testing.T) {
	s := newSidecar(t, Deps{})
	defer stop(t, s)
	for header, want := range map[string]bool{
		"user-agent: kube-probe/1": true, "user-agent: Knative-Activator-Probe": true, "k-network-probe: probe": true, "user-agent: curl": false,
	} {
		x := forwardtest.New("hello")
		name, value, _ := strings.Cut(header, ": ")
		x.Headers[name] = value
		if s.Proxy().ServeExchange(x); x.Probe != want {
			t.Errorf("%s: marked as a probe %t, want %t", header, x.Probe, want)
		}
	}
}

// TestApplicationRestartDoesNotDrain: the application's preStop hook comes, and nothing says that the pod ends.
func TestApplicationRestartDoesNotDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar(t, Deps{})
		defer stop(t, s)
		began := time.Now()
		var during atomic.Int64
		time.AfterFunc(500*time.Millisecond, func() { during.Store(int64(probe(s.Proxy()))) })
		drained, err := s.AwaitDrain(t.Context())
		if took := time.Since(began); drained || err != nil || took != time.Second {
			t.Errorf("AwaitDrain = %t, %v after %s; want false after 1s", drained, err, took)
		}
		if after := probe(s.Proxy()); during.Load() != 503 || after != 200 {
			t.Errorf("probes = %d meanwhile and %d after, want 503 and 200", during.Load(), after)
		}
		if s.Proxy().Draining() {
			t.Error("the sidecar drains")
		}
	})
}

// TestApplicationWaitsForTheDrain: the hook comes first, the sign that the pod ends within the second; the application
// is kept until the last request is done.
func TestApplicationWaitsForTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar(t, Deps{})
		defer stop(t, s)
		x := forwardtest.New("hello")
		x.OnForward = func(*forward.Pool) forward.Result {
			time.Sleep(20 * time.Second)
			return forward.Result{Status: 200}
		}
		began := time.Now()
		var all sync.WaitGroup
		all.Go(func() { s.Proxy().ServeExchange(x) })
		time.AfterFunc(900*time.Millisecond, s.BeginDrain)
		drained, err := s.AwaitDrain(t.Context())
		if took := time.Since(began); !drained || err != nil || took < 20*time.Second || took > 20*time.Second+2*drainPoll {
			t.Errorf("AwaitDrain = %t, %v after %s; want true when the request ends at 20s", drained, err, took)
		}
		all.Wait()
		if x.Status != 200 {
			t.Errorf("the request was answered %d, want 200", x.Status)
		}
	})
}

// TestDrainStartedBySidecarsOwnHook: in a native sidecar its hook runs beside the application's, long before SIGTERM.
func TestDrainStartedBySidecarsOwnHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar(t, Deps{})
		defer stop(t, s)
		s.BeginDrain()
		began := time.Now()
		if status := probe(s.Proxy()); status != 503 {
			t.Errorf("probe = %d at once, want 503", status)
		}
		x := forwardtest.New("hello")
		s.Proxy().ServeExchange(x)
		if x.Status != 200 {
			t.Errorf("a request while draining = %d, want it served", x.Status)
		}
		drained, err := s.AwaitDrain(t.Context())
		if took := time.Since(began); !drained || err != nil || took < 5*time.Second || took > 5*time.Second+2*drainPoll {
			t.Errorf("AwaitDrain = %t, %v after %s; want true after the minimum of 5s", drained, err, took)
		}
		if again, err := s.AwaitDrain(t.Context()); !again || err != nil {
			t.Errorf("AwaitDrain after the drain = %t, %v; want true", again, err)
		}
	})
}

func TestWaiterThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar(t, Deps{})
		defer stop(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if drained, err := s.AwaitDrain(ctx); drained || err == nil {
			t.Errorf("AwaitDrain = %t, %v; want the context's error", drained, err)
		}
		if status := probe(s.Proxy()); status != 200 {
			t.Errorf("probe = %d, want 200", status)
		}
	})
}

// TestGraceEndsTheDrain: a stream that does not end is cut when the grace period is over.
func TestGraceEndsTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar(t, Deps{})
		release := make(chan struct{})
		x := forwardtest.New("hello")
		x.OnForward = func(*forward.Pool) forward.Result {
			<-release
			return forward.Result{Status: 200}
		}
		var all sync.WaitGroup
		all.Go(func() { s.Proxy().ServeExchange(x) })
		began := time.Now()
		err := s.Drain(t.Context())
		if took := time.Since(began); err != nil || took < time.Minute || took > time.Minute+2*drainPoll {
			t.Errorf("Drain = %v after %s, want the end of the grace period after 1m", err, took)
		}
		close(release)
		all.Wait()
		stop(t, s)
	})
}

// TestDrainEndsProbes: a probe that waits for the application's start is answered when the drain begins.
func TestDrainEndsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar(t, Deps{Ready: func(ctx context.Context) bool {
			<-ctx.Done()
			return true
		}})
		defer stop(t, s)
		var status atomic.Int64
		var all sync.WaitGroup
		all.Go(func() { status.Store(int64(probe(s.Proxy()))) })
		synctest.Wait()
		if status.Load() != 0 {
			t.Errorf("probe = %d, want it to wait", status.Load())
		}
		s.BeginDrain()
		all.Wait()
		if status.Load() != 503 {
			t.Errorf("probe = %d after the drain began, want 503", status.Load())
		}
	})
}

// TestProtocolOfTheRequest: what came over HTTP/2 goes to the application as HTTP/2.
func TestProtocolOfTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar(t, Deps{})
		defer stop(t, s)
		for proto, want := range map[forward.Proto]*forward.Pool{forward.HTTP11: s.pools[0], forward.HTTP10: s.pools[0], forward.HTTP2: s.pools[1]} {
			x := forwardtest.New("hello")
			x.ProtoV = proto
			x.OnForward = func(to *forward.Pool) forward.Result {
				if to != want {
					t.Errorf("protocol %d went to the wrong connections", proto)
				}
				return forward.Result{Status: 200}
			}
			s.Proxy().ServeExchange(x)
		}
	})
}

// TestAnnouncedDrain waits for what is in flight and for nothing else, whether it was announced before or after it began.
func TestAnnouncedDrain(t *testing.T) {
	for name, early := range map[string]bool{"before": true, "after": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSidecar(t, Deps{})
				defer stop(t, s)
				x := forwardtest.New("hello")
				x.OnForward = func(*forward.Pool) forward.Result {
					time.Sleep(3 * time.Second)
					return forward.Result{Status: 200}
				}
				var all sync.WaitGroup
				all.Go(func() { s.Proxy().ServeExchange(x) })
				synctest.Wait()
				if early {
					s.Announced()
				} else {
					time.AfterFunc(time.Second, s.Announced)
				}
				began := time.Now()
				if err := s.Drain(t.Context()); err != nil {
					t.Errorf("Drain = %v", err)
				}
				if took := time.Since(began); took < 3*time.Second || took > 3*time.Second+2*drainPoll {
					t.Errorf("drained after %s, want when the request ended at 3s, not at the minimum of 5s", took)
				}
				all.Wait()
				if x.Status != 200 {
					t.Errorf("the request was answered %d, want 200", x.Status)
				}
			})
		})
	}
}

// pipes is a listener of connections in memory.
type pipes struct {
	conns chan net.Conn
	close sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p *pipes) Close() error {
	p.close.Do(func() { close(p.conns) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestDrainGoesOnWhileRequestsCome: a router that hears late sends a request per second on connections that it has kept.
// Each is answered, and told to be the last of its connection.
func TestDrainGoesOnWhileRequestsCome(t *testing.T) {
	const connections = 20
	synctest.Test(t, func(t *testing.T) {
		s := newSidecar(t, Deps{})
		ln := &pipes{conns: make(chan net.Conn)}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Run(ctx, ln) }()
		var kept []net.Conn
		for range connections {
			here, there := net.Pipe()
			ln.conns <- there
			kept = append(kept, here)
			defer here.Close()
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		drained := make(chan time.Time, 1)
		s.BeginDrain()
		go func() {
			if err := s.Drain(ctx); err != nil {
				t.Errorf("Drain = %v", err)
			}
			drained <- time.Now()
		}()
		var last time.Time
		for i, c := range kept {
			time.Sleep(time.Second)
			if len(drained) > 0 {
				t.Fatalf("the drain ended %s after a request", time.Since(last))
			}
			last = time.Now()
			// Nothing listens where the application should: the sidecar answers for it.
			if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 0\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != 502 || !resp.Close {
				t.Fatalf("request %d = %v, %v; want an answer that closes the connection", i, resp, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
		}
		if quiet := (<-drained).Sub(last); quiet < 2*time.Second || quiet > 2*time.Second+2*drainPoll {
			t.Errorf("the drain ended %s after the last request, want 2s", quiet)
		}
		cancel()
		stop(t, s)
		if err := <-served; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// TestStopSaysThatRequestsWereCut when some were: one that ran out of time while nothing was in flight has cut none.
func TestStopSaysThatRequestsWereCut(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "with a request": true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSidecar(t, Deps{})
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // less than the minimum of 5 s
			defer cancel()
			release := make(chan struct{})
			var all sync.WaitGroup
			if busy {
				x := forwardtest.New("hello")
				x.OnForward = func(*forward.Pool) forward.Result {
					<-release
					return forward.Result{Status: 200}
				}
				all.Go(func() { s.Proxy().ServeExchange(x) })
				synctest.Wait()
			}
			if err := s.Stop(ctx); busy != errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: Stop = %v, want an error only when something was cut", name, err)
			}
			close(release)
			all.Wait()
		})
	}
}

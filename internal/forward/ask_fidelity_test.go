package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

// TestAskSpeaksAndKeeps: what the pod is sent, what comes back, and whether the connection serves what follows.
func TestAskSpeaksAndKeeps(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		want         Answer
		bad, kept    bool
	}{
		{"whole", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nqueue", Answer{200, "queue"}, false, true},
		{"no", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nno\n", Answer{503, "no\n"}, false, true},
		{"closes", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nqueue", Answer{200, "queue"}, false, false},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nqueue\r\n0\r\n\r\n", Answer{200, ""}, false, false},
		{"more than it says", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nqueueHTTP", Answer{200, "queue"}, false, false},
		{"hints first", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nqueue", Answer{200, "queue"}, false, true},
		{"not HTTP", "SSH-2.0-OpenSSH\r\n\r\n", Answer{}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newApp(t)
			pool := NewPool(PoolConfig{Addr: a.addr()})
			defer pool.Close()
			type result struct {
				Answer
				err error
			}
			got := make(chan result, 1)
			go func() {
				answer, err := pool.Ask(t.Context(), Question{Path: "/healthz", Agent: "probe", Fields: [][2]string{{"K-Network-Probe", "queue"}, {"X-More", "y"}}})
				got <- result{answer, err}
			}()
			pod := a.accept()
			pod.want("GET /healthz HTTP/1.1\r\nHost: " + a.addr().String() + "\r\nUser-Agent: probe\r\nK-Network-Probe: queue\r\nX-More: y\r\n\r\n")
			pod.send(c.answer)
			r := <-got
			if r.Answer != c.want || (r.err != nil) != c.bad {
				t.Errorf("Ask = %+v, %v; want %+v, an error: %v", r.Answer, r.err, c.want, c.bad)
			}
			pool.mu.Lock()
			kept := len(pool.idle) == 1
			pool.mu.Unlock()
			if kept != c.kept {
				t.Errorf("connection kept: %v, want %v", kept, c.kept)
			}
		})
	}
}

// TestAskedConnectionServesRequests: the first request goes over the connection of the question, or of the mere
// connecting.
func TestAskedConnectionServesRequests(t *testing.T) {
	for _, way := range []string{"ask", "connect"} {
		t.Run(way, func(t *testing.T) {
			a := newApp(t)
			var dials atomic.Int64
			p := newProxy(t, a, proxyOptions{})
			p.pool.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
			done := make(chan error, 1)
			var pod *peer
			if way == "ask" {
				go func() {
					_, err := p.pool.Ask(t.Context(), Question{Path: "/"})
					done <- err
				}()
				pod = a.accept()
				readRequest(pod)
				pod.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			} else {
				go func() { done <- p.pool.Connect(t.Context()) }()
				pod = a.accept()
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			client := p.dial()
			client.send(crlf("GET / HTTP/1.1\nHost: app.test\n\n"))
			readRequest(pod)
			pod.send(response("ok"))
			client.want(response("ok"))
			if n := dials.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// TestAskEndsWithItsContext: a pod that never answers costs its time and no more.
func TestAskEndsWithItsContext(t *testing.T) {
	a := newApp(t)
	pool := NewPool(PoolConfig{Addr: a.addr()})
	defer pool.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := pool.Ask(ctx, Question{Path: "/"})
		done <- err
	}()
	pod := a.accept()
	readRequest(pod)
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("Ask succeeded without an answer")
		}
	case <-time.After(patience):
		t.Fatal("Ask does not end with its context")
	}
}

// TestExpectedRoundTripBoundsTheFirstConnect: a pool that knows nothing gives a connection its whole second; one that was
// told of a round trip of 70 ms gives up earlier, yet late enough for such a line; a measurement of its own wins.
func TestExpectedRoundTripBoundsTheFirstConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 70 * time.Millisecond
		hang := func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		took := func(expect time.Duration) time.Duration {
			p := NewPool(PoolConfig{Addr: netip.MustParseAddrPort("10.0.0.1:1"), Protocol: endpoint.H1, Dial: hang})
			defer p.Close()
			p.ExpectRTT(expect)
			began := time.Now()
			if err := p.Connect(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Connect = %v, want its deadline", err)
			}
			return time.Since(began)
		}
		if got := took(0); got != defaultConnectTimeout {
			t.Errorf("without knowledge: gave up after %v, want %v", got, defaultConnectTimeout)
		}
		if got := took(rtt); got < 2*rtt || got > 5*rtt {
			t.Errorf("on a line of %v: gave up after %v, want between 2 and 5 of them", rtt, got)
		}
		if got := took(200 * time.Microsecond); got != minConnectTimeout {
			t.Errorf("on a short line: gave up after %v, want the least, %v", got, minConnectTimeout)
		}
	})
}

package activator

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// until waits for a condition that must come true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

// moody is a pod of limit 1 that notes every attempt it sees. Of some requests it refuses the first attempt as a
// queue-proxy would, and some it answers with a gateway's failure.
type moody struct {
	mu      sync.Mutex
	log     []int
	refused map[int]bool
	atOnce  int
	most    int
}

func (m *moody) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	n, _ := strconv.Atoi(req.Header.Get("X-Number"))
	m.mu.Lock()
	m.log = append(m.log, n)
	m.atOnce++
	m.most = max(m.most, m.atOnce)
	again := n%17 == 5 && !m.refused[n]
	m.refused[n] = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.atOnce--
		m.mu.Unlock()
	}()
	switch {
	case again:
		w.Header().Set(forward.NotAdmittedHeader, "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	case n%97 == 50:
		w.WriteHeader(http.StatusBadGateway)
	}
}

// front is an activator on a real listener with pods at the address.
func front(t testing.TB, s Settings) (a *Activator, addr string) {
	t.Helper()
	a, err := New(Config{}, Deps{Router: byHost{}, Stats: &sink{}, NewPool: func(e endpoint.Endpoint) *forward.Pool {
		return forward.NewPool(forward.PoolConfig{Addr: e.Pod.Addr, NotAdmitted: true})
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.Put(hello, s)
	srv, err := forward.NewServer(forward.Config{}, a.Handler(false))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(ctx, ln) })
	t.Cleanup(func() {
		a.Remove(hello)
		cancel()
		running.Wait()
		_ = srv.Shutdown(context.Background())
	})
	return a, ln.Addr().String()
}

// park opens n connections, each with one request that carries its number, and has each parked before the next.
func park(t testing.TB, a *Activator, addr string, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: hello\r\nX-Number: %d\r\nConnection: close\r\n\r\n", i); err != nil {
			t.Fatal(err)
		}
		until(t, "the request is parked", func() bool { return a.parked.Load() == int64(i+1) })
		conns[i] = c
	}
	return conns
}

// TestNoInversion parks requests through a real listener, numbered in the order of their parking, and lets a pod of
// limit 1 have them, which notes every attempt: the numbers never fall. Meanwhile the grants come and go, the pod
// refuses some requests at first, so that they return to the head of the queue, and is ejected for others.
func TestNoInversion(t *testing.T) {
	const n = 300
	s := settings()
	s.QueueLimit = n
	s.Outlier = Outlier{Failures: 1, First: 5 * time.Millisecond, Most: 10 * time.Millisecond}
	a, addr := front(t, s)
	pod := &moody{refused: map[int]bool{}}
	srv := httptest.NewServer(pod)
	defer srv.Close()
	conns := park(t, a, addr, n)
	closed := map[string]int{}
	a.Grant(hello, closed)
	at := netip.MustParseAddrPort(srv.Listener.Addr().String())
	publish(a, 1, endpoint.Endpoint{Pod: identity.Pod{UID: "a", Addr: at}, State: endpoint.Ready},
		// A second pod without a grant makes the first one ejectable.
		endpoint.Endpoint{Pod: identity.Pod{UID: "b", Addr: at}, State: endpoint.Ready})
	stop := make(chan struct{})
	var toggling sync.WaitGroup
	toggling.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				a.Grant(hello, []map[string]int{{"a": 1}, closed, {"a": 1}, {"a": 3}}[i%4])
				runtime.Gosched()
			}
		}
	})
	statuses := map[int]int{}
	for i, c := range conns {
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		if err != nil || len(b) < 12 {
			t.Fatalf("request %d: %q, %v", i, b, err)
		}
		status, _ := strconv.Atoi(string(b[9:12]))
		statuses[status]++
	}
	close(stop)
	toggling.Wait()
	inversions := 0
	for i := 1; i < len(pod.log); i++ {
		if pod.log[i] < pod.log[i-1] {
			inversions++
		}
	}
	refusals := len(pod.log) - n
	if inversions != 0 || pod.most != 1 || statuses[200]+statuses[502] != n || statuses[502] != 3 || refusals != 18 {
		t.Errorf("%d inversions, %d at once in a pod of limit 1, %d refusals, statuses %v; want 0, 1, 18, and 297 of 200 with 3 of 502",
			inversions, pod.most, refusals, statuses)
	}
}

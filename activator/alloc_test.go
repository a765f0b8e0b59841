//go:build linux && !race

package activator

import (
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// TestRequestAllocatesNothing sends requests through a whole activator, with metrics and every way of choosing among
// pods switched on, to a pod that allocates nothing itself. The race detector makes pools forget on purpose, so that the
// test is built without it.
func TestRequestAllocatesNothing(t *testing.T) {
	tel, err := NewTelemetry(prometheus.NewRegistry(), func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	s := settings()
	s.ContainerConcurrency = 10
	s.Outlier = Outlier{Failures: 5}
	s.Zone = ZonePreference{On: true, Spill: 2}
	s.Affinity = Affinity{By: ByCookie, Name: "sid"}
	a, addr := front(t, s)
	a.deps.Observer, a.deps.Pods, a.cfg.Zone = tel, tel, "z"
	app, err := forward.NewServer(forward.Config{}, forward.HandlerFunc(func(x forward.Exchange) { x.Reply(200, "text/plain", "ok") }))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(served)
		_ = app.Serve(ctx, ln)
	}()
	t.Cleanup(func() {
		cancel()
		<-served
		_ = app.Shutdown(context.Background())
	})
	publish(a, 1, endpoint.Endpoint{Pod: identity.Pod{UID: "a", Addr: netip.MustParseAddrPort(ln.Addr().String())}, State: endpoint.Ready, Zone: "z"})
	if got := allocations(t, addr); got > 0.02 {
		t.Errorf("%.3f allocations per request, want 0", got)
	}
}

// allocations asks over one connection, and returns what the process allocated per request.
func allocations(t *testing.T, addr string) float64 {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	request := []byte("GET / HTTP/1.1\r\nHost: hello\r\nCookie: a=1; sid=abc\r\n\r\n")
	buf := make([]byte, 4096)
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	length, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	one := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf[:length]); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		one()
	}
	const n = 4000
	var before, after runtime.MemStats
	runtime.GC()
	one()
	runtime.ReadMemStats(&before)
	for range n {
		one()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / n
}

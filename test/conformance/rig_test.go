package conformance

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// bareServer is net/http with HTTP/2 in clear text, and nothing else.
func bareServer(t *testing.T, h http.Handler) *net.TCPAddr {
	t.Helper()
	ln := listen(t)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: protocols}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return ln.Addr().(*net.TCPAddr)
}

// proxyTo is the engine in front of one pod.
func proxyTo(t *testing.T, pod *net.TCPAddr, protocol endpoint.Protocol) *net.TCPAddr {
	t.Helper()
	pool := forward.NewPool(forward.PoolConfig{Addr: pod.AddrPort(), Protocol: protocol})
	srv, err := forward.NewServer(forward.Config{Forwarding: forward.Forwarding{XForwarded: true, Forwarded: true}},
		forward.HandlerFunc(func(x forward.Exchange) {
			if r := x.Forward(pool); r.Retryable {
				x.Fail(r.Cause, "", 0)
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		_ = srv.Shutdown(ctx)
		pool.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return ln.Addr().(*net.TCPAddr)
}

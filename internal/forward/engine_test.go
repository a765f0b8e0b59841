package forward

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// engine is a running server in front of a backend.
type engine struct {
	srv  *Server
	pool *Pool
	addr string
}

func startEngine(t testing.TB, cfg Config, backend http.Handler, h func(*Pool) Handler) *engine {
	t.Helper()
	b := httptest.NewServer(backend)
	t.Cleanup(b.Close)
	pool := NewPool(PoolConfig{Addr: netip.MustParseAddrPort(b.Listener.Addr().String())})
	t.Cleanup(pool.Close)
	return serveEngine(t, cfg, pool, h(pool))
}

func serveEngine(t testing.TB, cfg Config, pool *Pool, h Handler) *engine {
	t.Helper()
	srv, err := NewServer(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
		over, cut := context.WithCancel(context.Background())
		cut()
		_ = srv.Shutdown(over)
	})
	return &engine{srv: srv, pool: pool, addr: ln.Addr().String()}
}

func direct(p *Pool) Handler { return HandlerFunc(func(x Exchange) { x.Forward(p) }) }

func TestForwardSmoke(t *testing.T) {
	e := startEngine(t, Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Path", r.RequestURI)
		_, _ = w.Write(b)
	}), direct)
	for _, body := range []string{"", "hello", strings.Repeat("x", 1<<20)} {
		for range 3 {
			res, err := http.Post("http://"+e.addr+"/a%2fb?x", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || string(got) != body || res.Header.Get("X-Path") != "/a%2fb?x" {
				t.Fatalf("POST %d bytes = %d bytes, %v, %v", len(body), len(got), err, res.Header)
			}
			res, err = http.Post("http://"+e.addr+"/a%2fb?x", "text/plain", io.MultiReader(strings.NewReader(body)))
			if err != nil {
				t.Fatal(err)
			}
			got, err = io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || string(got) != body {
				t.Fatalf("chunked POST %d bytes = %d bytes, %v", len(body), len(got), err)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

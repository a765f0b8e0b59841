package forward

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
)

// TestFidelityH2TLS speaks HTTP/2 over TLS on both sides, chosen by ALPN, and HTTP/1.1 where the pod knows no other.
func TestFidelityH2TLS(t *testing.T) {
	for _, upstream2 := range []bool{true, false} {
		pod := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Pod-Proto", r.Proto)
			w.Header().Set("X-Xfp", r.Header.Get("X-Forwarded-Proto"))
			_, _ = io.Copy(w, r.Body)
		}))
		pod.EnableHTTP2 = upstream2
		pod.StartTLS()
		defer pod.Close()
		cert := pod.TLS.Certificates[0]
		server := Config{
			TLS:        &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}},
			Forwarding: Forwarding{XForwarded: true},
		}
		trust := pod.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		trust.ServerName = "example.com"
		p := newProxy(t, &app{t: t, ln: pod.Listener}, proxyOptions{server: server, pool: PoolConfig{Protocol: endpoint.TLS, TLS: trust.Clone()}})
		for _, inbound2 := range []bool{true, false} {
			tr := &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: inbound2}
			if !inbound2 {
				tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
			}
			c := &http.Client{Transport: tr}
			res, err := c.Post("https://"+p.addr+"/", "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			tr.CloseIdleConnections()
			if (res.ProtoMajor == 2) != inbound2 {
				t.Errorf("client spoke %s, want HTTP/2: %v", res.Proto, inbound2)
			}
			wantProto := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[upstream2]
			if string(b) != "hello" || res.Header.Get("X-Pod-Proto") != wantProto || res.Header.Get("X-Xfp") != "https" {
				t.Errorf("body %q, header %v; want the pod to speak %s", b, res.Header, wantProto)
			}
		}
	}
}

// TestFidelityH2PoolClose closes a pool with a request on it: that finishes, and no connection stays.
func TestFidelityH2PoolClose(t *testing.T) {
	release := make(chan struct{})
	var open atomic.Int64
	app := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-release
	}
	a := goApp(t, app)
	p := newProxy(t, a, proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C, Dial: func(ctx context.Context, n, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, n, addr)
		if err != nil {
			return nil, err
		}
		open.Add(1)
		return &closeConn{Conn: c, closed: func() { open.Add(-1) }}, nil
	}}})
	res, err := p.h2Client().Get(p.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	p.pool.Close()
	close(release)
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	p.wantCause(fault.None)
	eventually(t, "the closed pool has no connection", func() bool { return open.Load() == 0 })
}

type closeConn struct {
	net.Conn
	closed func()
	done   atomic.Bool
}

func (c *closeConn) Close() error {
	if c.done.CompareAndSwap(false, true) {
		c.closed()
	}
	return c.Conn.Close()
}

// TestFidelityH2PoolUpgrades has WebSocket clients of pods that otherwise speak HTTP/2, in clear text and over TLS on
// both sides.
func TestFidelityH2PoolUpgrades(t *testing.T) {
	echoer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.CloseNow() }()
		kind, b, err := c.Read(r.Context())
		if err == nil {
			_ = c.Write(r.Context(), kind, b)
			_, _, _ = c.Read(r.Context())
		}
	})
	try := func(t *testing.T, p *proxy, scheme string, trust *tls.Config) {
		t.Helper()
		tr := &http.Transport{TLSClientConfig: trust}
		defer tr.CloseIdleConnections()
		c, _, err := websocket.Dial(t.Context(), scheme+"://"+p.addr+"/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(t.Context()); err != nil || string(b) != "hello" {
			t.Fatalf("echo = %q, %v", b, err)
		}
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Errorf("close: %v", err)
		}
		if r := p.result(); !r.Upgraded {
			t.Errorf("result = %+v", r)
		}
	}
	t.Run("h2c", func(t *testing.T) {
		p := newProxy(t, goApp(t, echoer.ServeHTTP), proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}})
		try(t, p, "ws", nil)
	})
	t.Run("TLS", func(t *testing.T) {
		pod := httptest.NewUnstartedServer(echoer)
		pod.EnableHTTP2 = true
		pod.StartTLS()
		defer pod.Close()
		trust := pod.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		trust.ServerName = "example.com"
		server := Config{TLS: &tls.Config{Certificates: pod.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}}
		p := newProxy(t, &app{t: t, ln: pod.Listener}, proxyOptions{server: server, pool: PoolConfig{Protocol: endpoint.TLS, TLS: trust.Clone()}})
		h1 := trust.Clone()
		h1.NextProtos = []string{"http/1.1"}
		try(t, p, "wss", h1)
	})
}

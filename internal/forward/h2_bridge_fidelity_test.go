package forward

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
)

// TestFidelityH2EmptyAnswer has pods that end the stream with the head, which in HTTP/1 needs a length unless the head says
// by itself that nothing follows. The connection goes on.
func TestFidelityH2EmptyAnswer(t *testing.T) {
	for _, tc := range []struct {
		name, method, version string
		pod                   []string
		want                  string
	}{
		{"200", "GET", "1.1", []string{":status", "200", "x-a", "b"}, "HTTP/1.1 200 OK\nContent-Length: 0\nX-A: b\n\n"},
		{"its own length", "GET", "1.1", []string{":status", "200", "content-length", "0"}, "HTTP/1.1 200 OK\nContent-Length: 0\n\n"},
		{"gRPC, trailers only", "POST", "1.1", []string{":status", "200", "content-type", "application/grpc", "grpc-status", "5"},
			"HTTP/1.1 200 OK\nContent-Length: 0\nContent-Type: application/grpc\nGrpc-Status: 5\n\n"},
		{"404 to HTTP/1.0", "GET", "1.0", []string{":status", "404"}, "HTTP/1.1 404 Not Found\nContent-Length: 0\nConnection: keep-alive\n\n"},
		{"204", "GET", "1.1", []string{":status", "204"}, "HTTP/1.1 204 No Content\n\n"},
		{"304", "GET", "1.1", []string{":status", "304"}, "HTTP/1.1 304 Not Modified\n\n"},
		{"304 with a length", "GET", "1.1", []string{":status", "304", "content-length", "5"}, "HTTP/1.1 304 Not Modified\nContent-Length: 5\n\n"},
		{"HEAD", "HEAD", "1.1", []string{":status", "200"}, "HTTP/1.1 200 OK\n\n"},
		{"HEAD with a length", "HEAD", "1.1", []string{":status", "200", "content-length", "5"}, "HTTP/1.1 200 OK\nContent-Length: 5\n\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := newFramedPod(t, false, func(c *podConn, stream uint32) { c.head(stream, true, tc.pod...) })
			p := newProxy(t, pod.app, proxyOptions{pool: pod.pool()})
			c := p.dial()
			for range 2 {
				c.send(fmt.Sprintf("%s / HTTP/%s\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", tc.method, tc.version))
				c.want(crlf(tc.want))
				p.wantCause(fault.None)
			}
		})
	}
}

// TestFidelityNoLengthWith204 has applications that send a length with a status that has no content: it must not be passed
// on (RFC 9110, section 8.6).
func TestFidelityNoLengthWith204(t *testing.T) {
	raw := newRawApp(t, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
	framed := newFramedPod(t, false, func(c *podConn, stream uint32) { c.head(stream, true, ":status", "204", "content-length", "5") })
	for name, p := range map[string]*proxy{
		"h1": newProxy(t, raw, proxyOptions{}),
		"h2": newProxy(t, framed.app, proxyOptions{pool: framed.pool()}),
	} {
		t.Run(name, func(t *testing.T) {
			c := p.dial()
			for range 2 {
				c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				c.want("HTTP/1.1 204 No Content\r\n\r\n")
			}
			f := p.framed()
			f.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/")
			f.wantHeaders(1, true, ":status", "204", "content-length", "")
		})
	}
}

// newRawApp gives each request without a body the same answer.
func newRawApp(t testing.TB, answer string) *app {
	a := newApp(t)
	go func() {
		for c := range a.conns {
			go func() {
				defer c.Close()
				for br := bufio.NewReader(c); ; {
					if _, err := http.ReadRequest(br); err != nil {
						return
					}
					if _, err := io.WriteString(c, answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return a
}

// TestFidelityOddStatus has pods that answer what is no status, or switch protocols without being asked: clients of either
// protocol get 502, and their connections go on.
func TestFidelityOddStatus(t *testing.T) {
	try := func(t *testing.T, a *app, o proxyOptions) {
		t.Helper()
		p := newProxy(t, a, o)
		c := p.dial()
		for range 2 {
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			res, err := http.ReadResponse(c.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if res.StatusCode != 502 {
				t.Errorf("answer = %s, want 502", res.Status)
			}
			p.wantCause(fault.UpstreamProtocol)
		}
		f := p.framed()
		for _, stream := range []uint32{1, 3} {
			f.request(stream, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/")
			f.wantHeaders(stream, false, ":status", "502")
			if d, ok := f.next().(*http2.DataFrame); !ok || !d.StreamEnded() {
				t.Errorf("frame = %v, want the text", d)
			}
			p.wantCause(fault.UpstreamProtocol)
		}
	}
	for _, status := range []string{"0", "7", "99", "1000", "12345"} {
		t.Run("h2 pod, "+status, func(t *testing.T) {
			pod := newFramedPod(t, false, func(c *podConn, stream uint32) { c.head(stream, true, ":status", status) })
			try(t, pod.app, proxyOptions{pool: pod.pool()})
		})
	}
	t.Run("h2 pod, 101 before 200", func(t *testing.T) {
		pod := newFramedPod(t, false, func(c *podConn, stream uint32) {
			c.head(stream, false, ":status", "101")
			c.head(stream, true, ":status", "200")
		})
		try(t, pod.app, proxyOptions{pool: pod.pool()})
	})
	for _, line := range []string{"000 Nothing", "099 Less", "101 Switching Protocols"} {
		t.Run("h1 pod, "+line, func(t *testing.T) {
			try(t, newRawApp(t, "HTTP/1.1 "+line+"\r\nContent-Length: 2\r\n\r\nok"), proxyOptions{})
		})
	}
}

// TestFidelityH2ReplayOfChunks sends a body in chunks of one byte to a pod that does not admit it: when the next pod would
// get less than all of it, it gets nothing. What counts is what was kept, with the framing.
func TestFidelityH2ReplayOfChunks(t *testing.T) {
	for _, size := range []int{100, 3000, 20_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			first := goApp(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set(NotAdmittedHeader, "full")
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			second := goApp(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
			one := NewPool(PoolConfig{Addr: first.addr(), Protocol: endpoint.H2C, NotAdmitted: true})
			defer one.Close()
			tried := make(chan Result, 1)
			p := newProxy(t, second, proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}, handler: func(p *proxy, x Exchange) {
				r := x.Forward(one)
				tried <- r
				if r.Retryable {
					p.forward(x)
				}
			}})
			c := p.dial()
			c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
			c.send(strings.Repeat("1\r\nx\r\n", size) + "0\r\n\r\n")
			res, err := http.ReadResponse(c.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			r := <-tried
			if r.Cause != fault.NotAdmitted || r.RequestBytes != 0 && r.RequestBytes != int64(size) {
				t.Errorf("first try = %+v", r)
			}
			switch {
			case r.Retryable && string(b) != strings.Repeat("x", size):
				t.Errorf("the second pod got %d of %d bytes", len(b), size)
			case !r.Retryable && (res.StatusCode != 503 || r.Status != 503):
				t.Errorf("answer = %d, result %+v", res.StatusCode, r)
			case r.Retryable != (size == 100):
				t.Errorf("result = %+v", r)
			}
		})
	}
}

// TestFidelityCutBodyIsNotComplete breaks answers off whose end a client of HTTP/1.0 knows by the end of the connection
// only: it gets a reset, and over TLS an end without a close_notify, whatever the pod speaks.
func TestFidelityCutBodyIsNotComplete(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	cert.Close()
	trust := cert.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trust.ServerName = "example.com"
	for _, pod2 := range []bool{false, true} {
		for _, encrypted := range []bool{false, true} {
			t.Run(fmt.Sprintf("pod h2 %v, client TLS %v", pod2, encrypted), func(t *testing.T) {
				cut := make(chan struct{})
				a, o := newApp(t), proxyOptions{}
				if pod2 {
					pod := newFramedPod(t, false, func(c *podConn, stream uint32) {
						c.head(stream, false, ":status", "200")
						_ = c.WriteData(stream, false, []byte("half"))
						<-cut
						_ = c.WriteRSTStream(stream, http2.ErrCodeInternal)
					})
					a, o.pool = pod.app, pod.pool()
				} else {
					go func() {
						pod := a.accept()
						pod.head()
						pod.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
						<-cut
						pod.reset()
					}()
				}
				if encrypted {
					o.server.TLS = &tls.Config{Certificates: cert.TLS.Certificates}
				}
				p := newProxy(t, a, o)
				c := p.dial()
				if encrypted {
					c.c = tls.Client(c.c, trust.Clone())
					c.br = bufio.NewReader(c.c)
				}
				c.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
				c.wantHead("HTTP/1.1 200 OK\r\n")
				c.want("half")
				close(cut)
				if b, err := io.ReadAll(c.br); err == nil || isTimeout(err) {
					t.Errorf("the cut body ends with %q, %v", b, err)
				}
				p.wantCause(fault.UpstreamAborted)
			})
		}
	}
}

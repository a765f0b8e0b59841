package forward

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
)

// goApp is an application on net/http that speaks HTTP/1.1 and h2c.
func goApp(t testing.TB, h http.HandlerFunc) *app { return goAppOn(t, listen(t, false), h) }

func goAppOn(t testing.TB, ln net.Listener, h http.HandlerFunc) *app {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: protocols}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	a := &app{t: t, ln: ln}
	a.mem, _ = ln.(*memListener)
	return a
}

// h2Client returns an h2c client of p's.
func (p *proxy) h2Client() *http.Client { return p.client(true) }

func (p *proxy) client(h2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(h2)
	protocols.SetHTTP1(!h2)
	tr := &http.Transport{Protocols: protocols, DisableCompression: true, ExpectContinueTimeout: patience}
	if p.mem != nil {
		tr.DialContext = p.mem.dial
	}
	p.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (p *proxy) url(path string) string { return "http://" + p.addr + path }

// crossings are the ways in which at least one side speaks HTTP/2.
var crossings = []struct {
	name     string
	inbound2 bool
	upstream endpoint.Protocol
}{
	{"h2 to h2", true, endpoint.H2C},
	{"h2 to h1", true, endpoint.H1},
	{"h1 to h2", false, endpoint.H2C},
}

// eachCrossing runs a test for each of them, with an application on net/http.
func eachCrossing(t *testing.T, app http.HandlerFunc, o proxyOptions, f func(t *testing.T, p *proxy, c *http.Client)) {
	t.Helper()
	for _, x := range crossings {
		t.Run(x.name, func(t *testing.T) {
			o := o
			o.pool.Protocol = x.upstream
			p := newProxy(t, goApp(t, app), o)
			f(t, p, p.client(x.inbound2))
		})
	}
}

// eachCrossingInBubble does so in virtual time, over connections in memory.
func eachCrossingInBubble(t *testing.T, app http.HandlerFunc, o proxyOptions, f func(t *testing.T, p *proxy, c *http.Client)) {
	t.Helper()
	for _, x := range crossings {
		bubble(t, x.name, func(t *testing.T) {
			o := o
			o.pool.Protocol = x.upstream
			p := newProxy(t, goAppOn(t, newMemListener(), app), o)
			f(t, p, p.client(x.inbound2))
		})
	}
}

func TestFidelityH2Message(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for name, want := range map[string]string{"X-A": "1,2", "X-Secret": "", "Te": "trailers", "Cookie": "a=b", "User-Agent": "", "Accept-Encoding": ""} {
			if got := strings.Join(r.Header.Values(name), ","); got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
		if r.RequestURI != "/a%2Fb/../c?x=%20" || r.Host != "app.test" || string(b) != "hello" || r.Trailer.Get("X-Sum") != "abc" {
			t.Errorf("app saw %s, host %s, body %q, trailer %v", r.RequestURI, r.Host, b, r.Trailer)
		}
		h := w.Header()
		h["Set-Cookie"] = []string{"a=1", "b=2"}
		h["Date"] = nil
		h["Content-Type"] = nil
		h.Set(NotAdmittedHeader, "1")
		h.Set("Trailer", "X-T")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "world")
		h.Set("X-T", "t")
	}
	eachCrossing(t, app, proxyOptions{}, func(t *testing.T, p *proxy, c *http.Client) {
		req, err := http.NewRequest("PUT", p.url("/"), io.MultiReader(strings.NewReader("hello")))
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = "/a%2Fb/../c?x=%20"
		req.Host = "app.test"
		req.Header = http.Header{"X-A": {"1", "2"}, "Te": {"trailers"}, "Cookie": {"a=b"}, "User-Agent": {""}}
		req.Trailer = http.Header{"X-Sum": nil}
		req.Body = io.NopCloser(io.MultiReader(strings.NewReader("hello"), atEOF(func() { req.Trailer.Set("X-Sum", "abc") })))
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusTeapot || string(b) != "world" || res.Trailer.Get("X-T") != "t" {
			t.Errorf("client saw %d %q, trailers %v", res.StatusCode, b, res.Trailer)
		}
		if res.Header.Get(NotAdmittedHeader) != "" || strings.Join(res.Header["Set-Cookie"], ",") != "a=1,b=2" || res.Header["Date"] != nil || res.Header["Content-Type"] != nil {
			t.Errorf("response header = %v", res.Header)
		}
		if r := p.wantCause(fault.None); r.RequestBytes != 5 || r.ResponseBytes != 5 || r.Status != http.StatusTeapot || r.FirstByte <= 0 {
			t.Errorf("result = %+v", r)
		}
	})
}

// atEOF is an empty reader that calls f when it is read.
func atEOF(f func()) io.Reader { return eofFunc(f) }

type eofFunc func()

func (f eofFunc) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestFidelityH2LengthsAreKept(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Length", strconv.FormatInt(r.ContentLength, 10))
		if r.URL.Path == "/none" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "hello")
	}
	eachCrossing(t, app, proxyOptions{}, func(t *testing.T, p *proxy, c *http.Client) {
		for _, tc := range []struct {
			method, path, body string
			status             int
			length             int64
		}{
			{"GET", "/", "", 200, 5}, {"HEAD", "/", "", 200, 5}, {"POST", "/", "abc", 200, 5}, {"POST", "/", "", 200, 5},
			{"DELETE", "/none", "", 204, 0}, {"OPTIONS", "/", "", 200, 5}, {"PATCH", "/", "x", 200, 5},
		} {
			req, _ := http.NewRequest(tc.method, p.url(tc.path), strings.NewReader(tc.body))
			if tc.body == "" {
				req.Body = nil
			}
			res, err := c.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", tc.method, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if got := res.Header.Get("X-Length"); got != strconv.Itoa(len(tc.body)) || res.StatusCode != tc.status || res.ContentLength != tc.length {
				t.Errorf("%s %s: pod saw length %s, client %d and length %d; want %d, %d, %d", tc.method, tc.path, got, res.StatusCode, res.ContentLength, len(tc.body), tc.status, tc.length)
			}
		}
	})
}

func TestFidelityH2EarlyHints(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("X-Final", "1")
		w.WriteHeader(http.StatusOK)
	}
	eachCrossing(t, app, proxyOptions{}, func(t *testing.T, p *proxy, c *http.Client) {
		var hints atomic.Value
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints.Store(fmt.Sprint(code, h.Get("Link")))
				return nil
			},
		})
		req, _ := http.NewRequestWithContext(ctx, "GET", p.url("/"), nil)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := hints.Load(); got != "103</a.css>" && got != "103 </a.css>" {
			t.Errorf("hints = %v", got)
		}
		if res.Header.Get("X-Final") != "1" || res.Header.Get("Link") != "" {
			t.Errorf("header = %v", res.Header)
		}
	})
}

// TestFidelityH2Streams checks that parts arrive one by one, both ways at the same time.
func TestFidelityH2Streams(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			_, _ = w.Write(b[:n])
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	}
	eachCrossing(t, app, proxyOptions{}, func(t *testing.T, p *proxy, c *http.Client) {
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", p.url("/"), pr)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		for _, part := range []string{"one", "two", "three"} {
			if _, err := io.WriteString(pw, part); err != nil {
				t.Fatal(err)
			}
			wantRead(t, res.Body, part)
		}
		pw.Close()
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
			t.Fatalf("rest = %q, %v", rest, err)
		}
		p.wantCause(fault.None)
	})
}

func TestFidelityH2ClientGone(t *testing.T) {
	started, cancelled := make(chan struct{}, 16), make(chan struct{}, 16)
	app := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			_ = http.NewResponseController(w).Flush()
		}
		started <- struct{}{}
		<-r.Context().Done()
		cancelled <- struct{}{}
	}
	eachCrossing(t, app, proxyOptions{}, func(t *testing.T, p *proxy, c *http.Client) {
		for _, path := range []string{"/silent", "/begun"} {
			ctx, cancel := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, "GET", p.url(path), nil)
			done := make(chan error, 1)
			go func() {
				res, err := c.Do(req)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				done <- err
			}()
			<-started
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatalf("Do = %v", err)
			}
			p.wantCause(fault.ClientGone)
			<-cancelled
		}
	})
}

func TestFidelityH2Parked(t *testing.T) {
	queue := breaker.New(0, 10)
	results := make(chan error, 1)
	p := newProxy(t, newApp(t), proxyOptions{handler: func(p *proxy, x Exchange) {
		if string(x.Path()) == "/deadline" {
			x.SetWaitDeadline(time.Now().Add(20 * time.Millisecond))
		}
		err := queue.Acquire(x.Waiter())
		x.SetWaitDeadline(time.Time{})
		cause := fault.Internal
		errors.As(err, &cause)
		x.Fail(cause, "", time.Second)
		results <- err
	}})
	c := p.h2Client()
	res, err := c.Get(p.url("/deadline"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if err := <-results; err != fault.QueueDeadline || res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("Acquire = %v, answer %d %v", err, res.StatusCode, res.Header)
	}
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", p.url("/gone"), nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := c.Do(req); err == nil {
			res.Body.Close()
		}
	}()
	eventually(t, "the request is parked", func() bool { return queue.Counts().Pending == 1 })
	cancel()
	if err := <-results; err != fault.ClientGone {
		t.Errorf("Acquire = %v", err)
	}
	<-done
}

func TestFidelityH2UpstreamAborted(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "abc")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	eachCrossing(t, app, proxyOptions{}, func(t *testing.T, p *proxy, c *http.Client) {
		res, err := c.Get(p.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err == nil || string(b) != "abc" {
			t.Errorf("body = %q, %v; want abc and an error", b, err)
		}
		p.wantCause(fault.UpstreamAborted)
	})
}

func TestFidelityH2Timeouts(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}
	for _, tc := range []struct {
		limits Timeouts
		cause  fault.Cause
		path   string
	}{
		{Timeouts{Total: time.Second, Idle: time.Hour}, fault.TimeoutTotal, "/silent"},
		{Timeouts{FirstByte: time.Second, Total: time.Hour}, fault.TimeoutFirstByte, "/silent"},
		{Timeouts{Idle: time.Second}, fault.TimeoutIdle, "/silent"},
		{Timeouts{Total: time.Second, FirstByte: time.Hour}, fault.TimeoutTotal, "/begun"},
		{Timeouts{Idle: time.Second, FirstByte: 500 * time.Millisecond}, fault.TimeoutIdle, "/begun"},
	} {
		t.Run(tc.cause.String()+tc.path, func(t *testing.T) {
			o := proxyOptions{before: func(x Exchange) { x.SetTimeouts(tc.limits) }}
			eachCrossingInBubble(t, app, o, func(t *testing.T, p *proxy, c *http.Client) {
				res, err := c.Get(p.url(tc.path))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				b, err := io.ReadAll(res.Body)
				if tc.path == "/silent" && (res.StatusCode != 504 || err != nil) {
					t.Errorf("answer = %d, %v", res.StatusCode, err)
				}
				if tc.path == "/begun" && (res.StatusCode != 200 || string(b) != "abc" || err == nil) {
					t.Errorf("answer = %d %q, %v; want a stream that is cut after abc", res.StatusCode, b, err)
				}
				p.wantCause(tc.cause)
			})
		})
	}
}

// TestFidelityH2SlowReader has a client that does not read: the whole limit must end a handler that blocks in a write.
func TestFidelityH2SlowReader(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 64<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	o := proxyOptions{before: func(x Exchange) { x.SetTimeouts(Timeouts{Total: 500 * time.Millisecond}) }}
	eachCrossingInBubble(t, app, o, func(t *testing.T, p *proxy, c *http.Client) {
		res, err := c.Get(p.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		p.wantCause(fault.TimeoutTotal)
		if _, err := io.Copy(io.Discard, res.Body); err == nil {
			t.Error("the cut response looks complete")
		}
	})
}

// framed is an HTTP/2 client connection whose frames the test writes and reads itself.
type framed struct {
	*http2.Framer
	t    testing.TB
	hbuf bytes.Buffer
	henc *hpack.Encoder
}

func (p *proxy) framed() *framed {
	p.t.Helper()
	c := p.dial()
	c.send(http2.ClientPreface)
	f := &framed{Framer: http2.NewFramer(c.c, c.br), t: p.t}
	f.henc = hpack.NewEncoder(&f.hbuf)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := f.WriteSettings(); err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (f *framed) request(stream uint32, end bool, fields ...string) {
	f.t.Helper()
	f.hbuf.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := f.henc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			f.t.Fatal(err)
		}
	}
	err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.hbuf.Bytes(), EndStream: end, EndHeaders: true})
	if err != nil {
		f.t.Fatal(err)
	}
}

// next returns the next frame that is not about settings, windows or pings.
func (f *framed) next() http2.Frame {
	f.t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			f.t.Fatalf("read frame: %v", err)
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				if err := f.WriteSettingsAck(); err != nil {
					f.t.Fatal(err)
				}
			}
		case *http2.PingFrame:
			if !fr.IsAck() {
				if err := f.WritePing(true, fr.Data); err != nil {
					f.t.Fatal(err)
				}
			}
		case *http2.WindowUpdateFrame:
		default:
			return fr
		}
	}
}

func (f *framed) wantHeaders(stream uint32, end bool, fields ...string) *http2.MetaHeadersFrame {
	f.t.Helper()
	fr := f.next()
	h, ok := fr.(*http2.MetaHeadersFrame)
	if !ok || h.StreamID != stream || h.StreamEnded() != end {
		f.t.Fatalf("frame = %v, want headers of stream %d with end %v", fr, stream, end)
	}
	for i := 0; i < len(fields); i += 2 {
		got := ""
		for _, hf := range h.Fields {
			if hf.Name == fields[i] {
				got = hf.Value
			}
		}
		if got != fields[i+1] {
			f.t.Fatalf("%s = %q, want %q in %v", fields[i], got, fields[i+1], h.Fields)
		}
	}
	return h
}

// TestFidelityH2ContinueIsThePods checks, frame by frame, that the client hears 100 only when the pod says so.
func TestFidelityH2ContinueIsThePods(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	f := p.framed()
	f.request(1, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/", "expect", "100-continue", "content-length", "5")
	pod := a.accept()
	pod.want("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	pod.send("HTTP/1.1 100 Continue\r\n\r\n")
	f.wantHeaders(1, false, ":status", "100")
	if err := f.WriteData(1, true, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	pod.want("hello")
	pod.send(response("ok"))
	f.wantHeaders(1, false, ":status", "200", "content-length", "2")
	d, ok := f.next().(*http2.DataFrame)
	if !ok || string(d.Data()) != "ok" || !d.StreamEnded() {
		t.Fatalf("data = %v", d)
	}

	f.request(3, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/", "expect", "100-continue", "content-length", "5")
	pod.wantHead("POST / HTTP/1.1\r\n")
	pod.send("HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	f.wantHeaders(3, true, ":status", "417")
}

// TestFidelityH2GRPC checks gRPC's shapes frame by frame: trailers-only from the pod, and from the proxy.
func TestFidelityH2GRPC(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/grpc")
		if r.URL.Path == "/only" {
			h.Set("Grpc-Status", "5")
			h["Content-Length"], h["Date"] = nil, nil
			w.WriteHeader(200)
			return
		}
		w.WriteHeader(200)
		_, _ = w.Write([]byte{0, 0, 0, 0, 0})
		_ = http.NewResponseController(w).Flush()
		h.Set(http.TrailerPrefix+"Grpc-Status", "0")
	}
	grpc := []string{":method", "POST", ":scheme", "http", ":authority", "a", "content-type", "application/grpc", "te", "trailers"}
	call := func(path string) []string { return append([]string{":path", path}, grpc...) }
	p := newProxy(t, goApp(t, app), proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}})
	f := p.framed()
	f.request(1, false, sorted(call("/unary"))...)
	if err := f.WriteData(1, true, []byte{0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	f.wantHeaders(1, false, ":status", "200", "content-type", "application/grpc", "content-length", "")
	if d, ok := f.next().(*http2.DataFrame); !ok || len(d.Data()) != 5 || d.StreamEnded() {
		t.Fatalf("data = %v", d)
	}
	f.wantHeaders(1, true, "grpc-status", "0")
	f.request(3, true, sorted(call("/only"))...)
	f.wantHeaders(3, true, ":status", "200", "grpc-status", "5", "content-length", "", "date", "")

	refused := newProxy(t, closedApp(t), proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}})
	f = refused.framed()
	f.request(1, true, sorted(call("/x"))...)
	f.wantHeaders(1, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "14", "grpc-message", "no connection to the pod", "content-length", "")
	if r := refused.wantCause(fault.ConnectFailed); !r.Retryable {
		t.Errorf("result = %+v", r)
	}
}

// sorted puts pseudo headers first.
func sorted(fields []string) []string {
	var pseudo, rest []string
	for i := 0; i < len(fields); i += 2 {
		if fields[i][0] == ':' {
			pseudo = append(pseudo, fields[i], fields[i+1])
		} else {
			rest = append(rest, fields[i], fields[i+1])
		}
	}
	return append(pseudo, rest...)
}

// closedApp has an address at which nobody listens.
func closedApp(t testing.TB) *app {
	a := &app{t: t, ln: listen(t, false)}
	a.ln.Close()
	return a
}

func TestFidelityH2Refusals(t *testing.T) {
	p := newProxy(t, newApp(t), proxyOptions{})
	f := p.framed()
	f.request(1, true, ":method", "CONNECT", ":authority", "a:80")
	f.wantHeaders(1, false, ":status", "400")
	f = p.framed()
	f.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"+strings.Repeat("x", 17_000))
	f.wantHeaders(1, false, ":status", "414")
}

// TestFidelityH2Reset resets a stream in the middle; its neighbour on the connection goes on.
func TestFidelityH2Reset(t *testing.T) {
	started, gone := make(chan struct{}), make(chan struct{})
	app := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/reset" {
			close(started)
			<-r.Context().Done()
			close(gone)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}
	p := newProxy(t, goApp(t, app), proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}})
	f := p.framed()
	f.request(1, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/reset")
	f.request(3, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/echo")
	<-started
	if err := f.WriteRSTStream(1, http2.ErrCodeCancel); err != nil {
		t.Fatal(err)
	}
	<-gone
	p.wantCause(fault.ClientGone)
	if err := f.WriteData(3, true, []byte("still")); err != nil {
		t.Fatal(err)
	}
	f.wantHeaders(3, false, ":status", "200")
	if d, ok := f.next().(*http2.DataFrame); !ok || string(d.Data()) != "still" {
		t.Fatalf("data = %v", d)
	}
	p.wantCause(fault.None)
}

// TestFidelityH2Drain checks GOAWAY on present and later connections, and that streams that are open finish.
func TestFidelityH2Drain(t *testing.T) {
	release := make(chan struct{})
	app := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
	}
	p := newProxy(t, goApp(t, app), proxyOptions{})
	f := p.framed()
	f.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/slow")
	eventually(t, "the stream is open", func() bool { return p.srv.Stats().Active == 1 })
	p.srv.Drain()
	if g, ok := f.next().(*http2.GoAwayFrame); !ok || g.ErrCode != http2.ErrCodeNo || g.LastStreamID != 1 {
		t.Fatalf("frame = %v, want GOAWAY", g)
	}
	late := p.framed()
	late.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/fast")
	wantGoAwayAnd200(t, late)
	shut := make(chan error, 1)
	go func() { shut <- p.srv.Shutdown(context.Background()) }()
	close(release)
	f.wantHeaders(1, true, ":status", "200")
	if err := <-shut; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if st := p.srv.Stats(); st.Open != 0 || st.Active != 0 {
		t.Errorf("stats = %+v", st)
	}
}

func wantGoAwayAnd200(t *testing.T, f *framed) {
	t.Helper()
	answered, away := false, false
	for !answered || !away {
		switch fr := f.next().(type) {
		case *http2.GoAwayFrame:
			away = true
		case *http2.MetaHeadersFrame:
			answered = fr.PseudoValue("status") == "200"
		default:
			t.Fatalf("frame = %v", fr)
		}
	}
}

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
			if want := 1; inbound2 {
				want = 2
				if res.ProtoMajor != want {
					t.Errorf("client spoke %s", res.Proto)
				}
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

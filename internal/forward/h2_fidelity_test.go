package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
	if err := <-results; !errors.Is(err, fault.QueueDeadline) || res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
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
	if err := <-results; !errors.Is(err, fault.ClientGone) {
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

// TestFidelityMisuse has handlers that do what they must not: both protocols answer 500 once, and stay usable.
func TestFidelityMisuse(t *testing.T) {
	handlers := map[string]func(p *proxy, x Exchange){
		"/silent": func(p *proxy, x Exchange) {},
		"/edit":   func(p *proxy, x Exchange) { x.Set("X-A", "1\r\nX-B: 2"); p.forward(x) },
		"/host":   func(p *proxy, x Exchange) { x.SetHost("a b"); p.forward(x) },
		"/nine": func(p *proxy, x Exchange) {
			for i := range 9 {
				x.Set("X-"+strconv.Itoa(i), "1")
			}
			p.forward(x)
		},
		"/twice": func(p *proxy, x Exchange) {
			x.Fail(fault.Internal, "first", 0)
			x.Reply(200, "text/plain", "second")
			if r := x.Forward(p.pool); r.Cause != fault.Internal || r.Retryable {
				t.Errorf("Forward after an answer = %+v", r)
			}
		},
	}
	for _, h2 := range []bool{false, true} {
		p := newProxy(t, newApp(t), proxyOptions{handler: func(p *proxy, x Exchange) { handlers[string(x.Path())](p, x) }})
		for path := range handlers {
			res, err := p.client(h2).Get(p.url(path))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 500 || err != nil || strings.Contains(string(b), "second") {
				t.Errorf("h2 %v, %s: answer = %d %q, %v", h2, path, res.StatusCode, b, err)
			}
		}
	}
}

package sink

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"), // the benchmark's rival
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*TCPDialer).tcpAddrsClean"))
}

func target(t testing.TB, cfg Config) *Target {
	t.Helper()
	x, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

func server(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestExchange(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/p?q=1" || r.Header.Get("Ce-Id") != "7" || r.Header.Get("Authorization") != "Bearer tok" || r.Header.Get("Prefer") != "reply" {
			t.Errorf("the request is %s %v", r.URL, r.Header)
		}
		w.Header().Set("Kne-X", "y")
		w.WriteHeader(418)
		_, _ = w.Write([]byte("tea"))
	})
	x := target(t, Config{URL: s.URL + "/p?q=1", Header: [][2]string{{"Prefer", "reply"}}, Token: func(context.Context) (string, error) { return "tok", nil }})
	var e Exchange
	for range 3 {
		e.Head, e.Body = []byte("ce-id: 7\r\n"), []byte("body")
		if err := x.Do(&e); err != nil || e.Status() != 418 || string(e.Answer()) != "tea" || e.Peek("kne-x") != "y" {
			t.Fatalf("Do = %v; status %d, answer %q", err, e.Status(), e.Answer())
		}
	}
}

func TestConnectionThatTheSinkClosedIsReplaced(t *testing.T) {
	var mu sync.Mutex
	conns := map[string]bool{}
	s := server(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		conns[r.RemoteAddr] = true
	})
	x := target(t, Config{URL: s.URL})
	var e Exchange
	if err := x.Do(&e); err != nil {
		t.Fatal(err)
	}
	s.CloseClientConnections()
	if err := x.Do(&e); err != nil {
		t.Fatalf("Do on a connection that was closed meanwhile: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(conns) != 2 {
		t.Errorf("%d connections, want 2", len(conns))
	}
}

// An exchange keeps its connection until Release; then others have it, or CloseIdle ends it.
func TestExchangeKeepsItsConnection(t *testing.T) {
	var mu sync.Mutex
	conns := map[string]bool{}
	s := server(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		conns[r.RemoteAddr] = true
	})
	x := target(t, Config{URL: s.URL})
	var one, other Exchange
	for i, step := range []struct {
		do   func() error
		want int
	}{
		{func() error { return x.Do(&one) }, 1},
		{func() error { return x.Do(&one) }, 1},
		{func() error { one.Release(); return x.Do(&other) }, 1},
		{func() error { return x.Do(&one) }, 2},
		{func() error {
			one.Release()
			other.Release()
			x.CloseIdle(time.Now().Add(time.Hour))
			return x.Do(&one)
		}, 3},
		{func() error { return target(t, Config{URL: s.URL}).Do(&one) }, 4}, // another target: the connection goes back
		{func() error { return x.Do(&other) }, 4},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if len(conns) != step.want {
			t.Errorf("step %d: %d connections, want %d", i, len(conns), step.want)
		}
		mu.Unlock()
	}
}

// A fresh connection that breaks is a failed try: it is the caller's to repeat.
func TestBrokenExchangeIsAnError(t *testing.T) {
	var tries atomic.Int64
	s := server(t, func(http.ResponseWriter, *http.Request) {
		tries.Add(1)
		panic(http.ErrAbortHandler)
	})
	x := target(t, Config{URL: s.URL})
	if err := x.Do(&Exchange{}); err == nil || tries.Load() != 1 {
		t.Errorf("Do = %v after %d tries, want an error after 1", err, tries.Load())
	}
}

func TestTimeoutAndClose(t *testing.T) {
	hold := make(chan struct{})
	entered := make(chan struct{}, 2)
	s := server(t, func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-hold })
	defer close(hold)
	x := target(t, Config{URL: s.URL, Timeout: 20 * time.Millisecond})
	if err := x.Do(&Exchange{}); !isTimeout(err) {
		t.Errorf("Do = %v, want a timeout", err)
	}
	<-entered
	slow := target(t, Config{URL: s.URL})
	failed := make(chan error, 1)
	go func() { failed <- slow.Do(&Exchange{}) }()
	<-entered
	slow.Close()
	if err := <-failed; err == nil {
		t.Error("Close left an exchange alone")
	}
	if err := slow.Do(&Exchange{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Do after Close = %v", err)
	}
}

func TestTokenFailureSendsNothing(t *testing.T) {
	s := server(t, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
	x := target(t, Config{URL: s.URL, Token: func(context.Context) (string, error) { return "", errors.New("no") }})
	if err := x.Do(&Exchange{}); !errors.Is(err, ErrToken) {
		t.Errorf("Do = %v, want ErrToken", err)
	}
}

func TestHTTP2AndTLS(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Proto", r.Proto)
		_, _ = w.Write([]byte(r.Header.Get("Ce-Id")))
	})
	plain := httptest.NewUnstartedServer(h)
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Start()
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(h)
	t.Cleanup(secure.Close)
	tlsConfig := secure.Client().Transport.(*http.Transport).TLSClientConfig
	for _, c := range []struct {
		name, proto string
		cfg         Config
	}{
		{"h2c", "HTTP/2.0", Config{URL: plain.URL, HTTP2: true}},
		{"tls", "HTTP/1.1", Config{URL: secure.URL, TLS: tlsConfig}},
	} {
		x := target(t, c.cfg)
		e := Exchange{Head: []byte("ce-id: 5\r\n"), Body: []byte("b")}
		if err := x.Do(&e); err != nil || e.Peek("Proto") != c.proto || string(e.Answer()) != "5" {
			t.Errorf("%s: Do = %v, protocol %q, answer %q", c.name, err, e.Peek("Proto"), e.Answer())
		}
	}
	x := target(t, Config{URL: secure.URL})
	if err := x.Do(&Exchange{}); err == nil {
		t.Error("a certificate of an unknown authority was taken")
	}
}

func TestWrongURLs(t *testing.T) {
	for _, u := range []string{"", "x", "ftp://h/", "/path", "http://"} {
		if _, err := New(Config{URL: u}); err == nil || !strings.Contains(err.Error(), "absolute http or https URL") {
			t.Errorf("New(%q) = %v", u, err)
		}
	}
}

func TestRetryClasses(t *testing.T) {
	retried := map[int]bool{404: true, 408: true, 409: true, 429: true}
	for status := 300; status < 600; status++ {
		if want := retried[status] || status >= 500; Retryable(status) != want {
			t.Errorf("Retryable(%d) = %v, want %v", status, !want, want)
		}
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"5": 5 * time.Second, " 7 ": 7 * time.Second, "-1": 0, "x": 0, "": 0, "Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := ParseRetryAfter(text, now); got != want {
			t.Errorf("ParseRetryAfter(%q) = %v, want %v", text, got, want)
		}
	}
	if got := (Policy{Delay: time.Hour}).Wait(1000, 0); got <= 0 {
		t.Errorf("Wait(1000) = %v: it overflowed", got)
	}
}

// BenchmarkExchange stands beside a fasthttp client that sends the same bytes.
func BenchmarkExchange(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &fasthttp.Server{Handler: func(c *fasthttp.RequestCtx) { c.SetStatusCode(202) }}
	go func() { _ = srv.Serve(ln) }()
	defer func() { _ = srv.Shutdown() }()
	head := "ce-id: partition:3/offset:42\r\nce-specversion: 1.0\r\nce-type: dev.knative.kafka.event\r\nce-source: /apis/v1/x\r\nce-subject: partition:3#42\r\n"
	body := []byte(strings.Repeat("x", 100))
	b.Run("rouse", func(b *testing.B) {
		x := target(b, Config{URL: "http://" + ln.Addr().String() + "/"})
		var e Exchange
		b.ReportAllocs()
		for b.Loop() {
			e.Head, e.Body = append(e.Head[:0], head...), body
			if err := x.Do(&e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fasthttp", func(b *testing.B) {
		c := &fasthttp.HostClient{Addr: ln.Addr().String()}
		b.ReportAllocs()
		for b.Loop() {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			req.Header.SetMethod("POST")
			req.SetRequestURI("http://" + ln.Addr().String() + "/")
			for _, line := range strings.Split(strings.TrimSuffix(head, "\r\n"), "\r\n") {
				name, value, _ := strings.Cut(line, ": ")
				req.Header.Set(name, value)
			}
			req.SetBodyRaw(body)
			if err := c.Do(req, resp); err != nil {
				b.Fatal(err)
			}
			fasthttp.ReleaseRequest(req)
			fasthttp.ReleaseResponse(resp)
		}
	})
}

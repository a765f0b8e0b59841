package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
)

func TestNewServerRefuses(t *testing.T) {
	h := HandlerFunc(func(Exchange) {})
	for _, tc := range []struct {
		name string
		cfg  Config
		h    Handler
	}{
		{"no handler", Config{}, nil},
		{"negative head", Config{MaxHeadBytes: -1}, h},
		{"negative target", Config{MaxTargetBytes: -1}, h},
		{"negative replay", Config{ReplayBytes: -1}, h},
		{"negative head timeout", Config{HeadTimeout: -1}, h},
		{"negative idle timeout", Config{IdleTimeout: -1}, h},
	} {
		if _, err := NewServer(tc.cfg, tc.h); err == nil {
			t.Errorf("NewServer with %s = nil error", tc.name)
		}
	}
}

// pipeListener accepts in-memory connections.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial() net.Conn {
	a, b := net.Pipe()
	l.conns <- b
	return a
}

// memServer serves h over in-memory connections, in a bubble.
func memServer(t *testing.T, cfg Config, h Handler) (*Server, *pipeListener, chan error) {
	t.Helper()
	s, err := NewServer(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	l := newPipeListener()
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), l) }()
	return s, l, served
}

const plainGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// readUntil reads until text ends what came.
func readUntil(t *testing.T, c net.Conn, text string) string {
	t.Helper()
	var got []byte
	buf := make([]byte, 4096)
	for !strings.HasSuffix(string(got), text) {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("got %q and %v, want it to end with %q", got, err, text)
		}
		got = append(got, buf[:n]...)
	}
	return string(got)
}

// TestLastAcceptLeavesProbesOut: kubelet asks a draining pod once a second on a connection of its own.
func TestLastAcceptLeavesProbesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l, _ := memServer(t, Config{}, HandlerFunc(func(x Exchange) {
			if string(x.Path()) == "/probe" {
				x.MarkProbe()
			}
			x.Reply(200, "text/plain", "done")
		}))
		last := func(what string, want time.Time) {
			t.Helper()
			synctest.Wait()
			if got := s.Stats().LastAccept; !got.Equal(want) {
				t.Errorf("%s: the newest connection is of %v, want %v", what, got, want)
			}
		}
		last("before any", time.Time{})
		came := time.Now()
		client := l.dial()
		last("a client that has sent nothing", came)
		time.Sleep(time.Second)
		probe := l.dial()
		send(t, probe, "GET /probe HTTP/1.1\r\nHost: a\r\n\r\n")
		readUntil(t, probe, "done")
		last("a probe after it", came)
		probe.Close()
		last("the probe has ended", came)
		client.Close()
		last("the client has ended, too", came)
		time.Sleep(time.Second)
		again := l.dial()
		defer again.Close()
		send(t, again, plainGet)
		last("a client again", time.Now())
	})
}

// TestLastRequestLeavesProbesOut: on a connection that is kept, requests are the only sign of a client.
func TestLastRequestLeavesProbesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s, l, _ := memServer(t, Config{}, HandlerFunc(func(x Exchange) {
			switch string(x.Path()) {
			case "/probe":
				x.MarkProbe()
			case "/slow":
				<-release
			}
			x.Reply(200, "text/plain", "done")
		}))
		last := func(what string, want time.Time) {
			t.Helper()
			synctest.Wait()
			if got := s.Stats(); !got.LastRequest.Equal(want) || want.After(got.LastAccept) && !got.LastCame().Equal(want) {
				t.Errorf("%s: the newest request is of %v (with connections %v), want %v", what, got.LastRequest, got.LastCame(), want)
			}
			time.Sleep(time.Second)
		}
		ask := func(c net.Conn, path string) {
			send(t, c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
			if path != "/slow" {
				readUntil(t, c, "done")
			}
		}
		client := l.dial()
		last("a client that has sent nothing", time.Time{})
		ask(client, "/probe")
		last("a probe", time.Time{})
		came := time.Now()
		ask(client, "/")
		last("a request behind it", came)
		ask(client, "/probe")
		last("a probe behind that", came)
		came = time.Now()
		ask(client, "/slow")
		time.Sleep(time.Minute)
		if st := s.Stats(); st.Active != 1 {
			t.Errorf("%d active, want the slow request", st.Active)
		}
		close(release)
		readUntil(t, client, "done")
		last("a request counts from when it came", came)
		client.Close()
		last("the client has ended", came)

		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		h2 := &http.Client{Transport: &http.Transport{
			Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil },
		}}
		for _, path := range []string{"/", "/probe"} {
			if path == "/" {
				came = time.Now()
			}
			resp, err := h2.Get("http://a" + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			last("a stream: "+path, came)
		}
		h2.CloseIdleConnections()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestValuesOfARepeatedHeader come in their order, by either protocol.
func TestValuesOfARepeatedHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l, _ := memServer(t, Config{}, HandlerFunc(func(x Exchange) {
			x.Reply(200, "text/plain", fmt.Sprintf("%q %q %q", x.Header("x-a"), x.Values("x-a"), x.Values("x-b")))
		}))
		for _, h2 := range []bool{false, true} {
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!h2)
			protocols.SetUnencryptedHTTP2(h2)
			client := &http.Client{Transport: &http.Transport{
				Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil },
			}}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header["X-A"] = []string{"1", "2"}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if want := `"1" ["1" "2"] []`; err != nil || string(body) != want {
				t.Errorf("over HTTP/2 %t: %s, %v; want %s", h2, body, err, want)
			}
			client.CloseIdleConnections()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownWaitsForActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s, l, served := memServer(t, Config{}, HandlerFunc(func(x Exchange) {
			if string(x.Path()) == "/slow" {
				<-release
			}
			x.Reply(200, "text/plain", "done")
		}))
		idle, active := l.dial(), l.dial()
		send(t, idle, plainGet)
		readUntil(t, idle, "done")
		send(t, active, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
		synctest.Wait()
		if got := s.Stats(); got.Open != 2 || got.Active != 1 {
			t.Errorf("Stats = %+v, want 2 open and 1 active", got)
		}
		over := make(chan error, 1)
		go func() { over <- s.Shutdown(context.Background()) }()
		synctest.Wait()
		if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the idle connection: %v, want its end", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
		close(release)
		if got := readUntil(t, active, "done"); !strings.Contains(got, "Connection: close\r\n") {
			t.Errorf("the last response %q lacks Connection: close", got)
		}
		if err := <-over; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

func TestShutdownCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := breaker.New(0, 10)
		causes := make(chan error, 1)
		s, l, _ := memServer(t, Config{}, HandlerFunc(func(x Exchange) {
			causes <- limiter.Acquire(x.Waiter())
			x.Fail(fault.ClientGone, "", 0)
		}))
		c := l.dial()
		send(t, c, plainGet)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("Shutdown = %v after %v, want the deadline after 1s", err, time.Since(began))
		}
		if err := <-causes; !errors.Is(err, fault.ClientGone) {
			t.Errorf("the parked request got %v, want %v", err, fault.ClientGone)
		}
		if got := s.Stats().Open; got != 0 {
			t.Errorf("%d connections after Shutdown", got)
		}
		if err := s.Serve(t.Context(), newPipeListener()); err != nil {
			t.Errorf("Serve after Shutdown = %v, want nil at once", err)
		}
	})
}

func TestDrainSaysClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l, _ := memServer(t, Config{}, HandlerFunc(func(x Exchange) { x.Reply(200, "", "") }))
		c := l.dial()
		send(t, c, plainGet)
		if got := readUntil(t, c, "\r\n\r\n"); strings.Contains(got, "Connection:") {
			t.Errorf("before Drain: %q", got)
		}
		s.Drain()
		synctest.Wait()
		if got := s.Stats().Open; got != 1 {
			t.Errorf("Drain cut an idle connection: %d open", got)
		}
		for _, c := range []net.Conn{c, l.dial()} {
			send(t, c, plainGet)
			if got := readUntil(t, c, "\r\n\r\n"); !strings.Contains(got, "Connection: close\r\n") {
				t.Errorf("after Drain: %q", got)
			}
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

// TestResumeTakesDrainBack: an idle connection that Drain did not cut goes on, and so do new ones, of both protocols.
func TestResumeTakesDrainBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l, _ := memServer(t, Config{}, HandlerFunc(func(x Exchange) { x.Reply(200, "", "") }))
		c := l.dial()
		send(t, c, plainGet)
		readUntil(t, c, "\r\n\r\n")
		s.Drain()
		s.Resume()
		for _, c := range []net.Conn{c, l.dial()} {
			for range 2 {
				send(t, c, plainGet)
				if got := readUntil(t, c, "\r\n\r\n"); strings.Contains(got, "Connection:") {
					t.Errorf("after Resume: %q", got)
				}
			}
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

func TestConnectionTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l, _ := memServer(t, Config{HeadTimeout: 2 * time.Second, IdleTimeout: 5 * time.Second},
			HandlerFunc(func(x Exchange) { x.Reply(200, "", "") }))
		endsAfter := func(what string, c net.Conn, want time.Duration) {
			t.Helper()
			began := time.Now()
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(began) != want {
				t.Errorf("%s: %v after %v, want the end after %v", what, err, time.Since(began), want)
			}
		}
		endsAfter("new connection", l.dial(), 5*time.Second)
		slow := l.dial()
		send(t, slow, "GET / HTTP/1.1\r\n")
		endsAfter("head that does not end", slow, 2*time.Second)
		used := l.dial()
		for range 3 { // the limits start anew with each request
			send(t, used, plainGet)
			readUntil(t, used, "\r\n\r\n")
			time.Sleep(4 * time.Second)
			send(t, used, "GET / ")
			time.Sleep(time.Second)
			send(t, used, "HTTP/1.1\r\nHost: a\r\n\r\n")
			readUntil(t, used, "\r\n\r\n")
		}
		endsAfter("used connection", used, 5*time.Second)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

// TestWaitDeadline shows that a deadline holds for the wait that it was armed for and for no later one.
func TestWaitDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := breaker.New(0, 10)
		type outcome struct {
			err   error
			after time.Duration
		}
		results := make(chan outcome, 4)
		s, l, _ := memServer(t, Config{}, HandlerFunc(func(x Exchange) {
			wait := func(limit time.Duration) {
				began := time.Now()
				if limit >= 0 {
					x.SetWaitDeadline(began.Add(limit))
				}
				err := limiter.Acquire(x.Waiter())
				x.SetWaitDeadline(time.Time{})
				results <- outcome{err, time.Since(began)}
			}
			wait(time.Second)
			wait(0)                // over before the wait begins
			wait(10 * time.Second) // later than what the timer was armed for
			wait(-1)               // none
			x.Reply(200, "", "")
		}))
		c := l.dial()
		send(t, c, plainGet)
		for _, want := range []time.Duration{time.Second, 0, 10 * time.Second} {
			if got := <-results; !errors.Is(got.err, fault.QueueDeadline) || got.after != want {
				t.Errorf("wait = %v after %v, want %v after %v", got.err, got.after, fault.QueueDeadline, want)
			}
		}
		time.Sleep(time.Hour)
		limiter.SetCapacity(1)
		if got := <-results; got.err != nil || got.after != time.Hour {
			t.Errorf("wait without a deadline = %v after %v, want a slot after an hour", got.err, got.after)
		}
		readUntil(t, c, "\r\n\r\n")
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

func TestHandlerMisuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, ends := testPool(PoolConfig{})
		defer ends.close()
		defer pool.Close()
		var got Result
		s, l, _ := memServer(t, Config{}, HandlerFunc(func(x Exchange) {
			switch string(x.Path()) {
			case "/value":
				x.Set("X-A", "a\r\nX-B: b")
				got = x.Forward(pool)
			case "/many":
				for _, n := range "abcdefghi" {
					x.Set(string(n), "1")
				}
				got = x.Forward(pool)
			case "/twice":
				x.Reply(200, "", "")
				got = x.Forward(pool)
			case "/none":
				got = Result{Cause: fault.Internal, Status: 500}
			}
		}))
		for path, want := range map[string]int{"/value": 500, "/many": 500, "/twice": 200, "/none": 500} {
			c := l.dial()
			send(t, c, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			b, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 "+statusLine(want)) {
				t.Errorf("%s: %q, %v, want %d", path, b, err, want)
			}
			if got.Cause != fault.Internal || got.Status != want {
				t.Errorf("%s: result %+v, want internal with %d", path, got, want)
			}
		}
		if len(ends.ends) != 0 {
			t.Error("a misused exchange reached the pod")
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

func statusLine(status int) string {
	if status == 200 {
		return "200 OK\r\n"
	}
	return "500 Internal Server Error\r\n"
}

package statstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rousehq/rouse/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipes is a listener whose connections are made in memory, so that virtual time can pass while they rest.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inbox is a Sink that remembers what it got and when.
type inbox struct {
	mu    sync.Mutex
	began time.Time
	lines []string
}

func (b *inbox) Report(m metrics.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, fmt.Sprintf("%s %s/%s %g", time.Since(b.began), m.Name, m.Stat.PodName, m.Stat.AverageConcurrency))
}

func (b *inbox) got() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.lines...)
}

// control is a listening handler.
type control struct {
	t       *testing.T
	net     *pipes
	srv     *http.Server
	handler *Handler
	done    chan error
}

func listen(t *testing.T, cfg HandlerConfig) *control {
	t.Helper()
	h, err := NewHandler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &control{t: t, net: newPipes(), handler: h, srv: &http.Server{Handler: h}, done: make(chan error, 1)}
	go func() { c.done <- c.srv.Serve(c.net) }()
	return c
}

func (c *control) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := c.handler.Close(ctx); err != nil {
		c.t.Errorf("Close = %v", err)
	}
	_ = c.srv.Close()
	if err := <-c.done; !errors.Is(err, http.ErrServerClosed) {
		c.t.Errorf("Serve = %v", err)
	}
}

// connect runs a client until the returned function is called. dial is asked for each connection.
func connect(t *testing.T, cfg ClientConfig, dial func(context.Context, string, string) (net.Conn, error)) (*Client, func()) {
	t.Helper()
	tr := &http.Transport{DialContext: dial}
	cfg.HTTP = &http.Client{Transport: tr}
	cfg.URL = "ws://control:8080"
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	synctest.Wait()
	return c, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		tr.CloseIdleConnections()
	}
}

func stat(rev, pod string, concurrency float64) metrics.Message {
	return metrics.Message{Namespace: "default", Name: rev, Stat: metrics.Stat{PodName: pod, AverageConcurrency: concurrency}}
}

func diff(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestReportsArriveAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{began: time.Now()}
		srv := listen(t, HandlerConfig{Sink: in})
		defer srv.close()
		c, stop := connect(t, ClientConfig{Producer: "activator-1"}, srv.net.dial)
		defer stop()
		time.Sleep(90 * time.Second) // pings keep it up
		c.Report(stat("hello", "activator-1", 1))
		c.Report(stat("other", "activator-1", 2))
		diff(t, "received", []string{"1m30s hello/activator-1 1", "1m30s other/activator-1 2"}, in.got())
		if counts := srv.handler.Counts(); counts.Streams != 1 || counts.Missing+counts.Duplicates+counts.Malformed > 0 {
			t.Errorf("counts %+v", counts)
		}
	})
}

// TestTwoOfOneName: what one of two processes reports is dropped when both have one name; that is said with the remedy, once
// for all revisions, and again while it lasts. The last reports of a process that a successor has are no sign of it.
func TestTwoOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := listen(t, HandlerConfig{Sink: &inbox{}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer srv.close()
		one, stop := connect(t, ClientConfig{Producer: "host/1"}, srv.net.dial)
		defer stop()
		two, end := connect(t, ClientConfig{Producer: "host/2"}, srv.net.dial)
		defer end()
		report := func(seconds int) (warnings int) {
			for range seconds {
				for _, rev := range []string{"hello", "other"} {
					one.Report(stat(rev, "host", 1))
					synctest.Wait()
					two.Report(stat(rev, "host", 1))
					synctest.Wait()
				}
				time.Sleep(time.Second)
			}
			return strings.Count(log.String(), "--name (ROUSE_NAME)")
		}
		if n := report(10); n != 0 {
			t.Errorf("said %d times while one may be the other's successor:\n%s", n, log.String())
		}
		if n := report(60); n != 1 || !strings.Contains(log.String(), "name=host") {
			t.Errorf("said %d times in a minute, want once, with the name:\n%s", n, log.String())
		}
		if n := report(600); n != 2 {
			t.Errorf("said %d times in eleven minutes, want 2:\n%s", n, log.String())
		}
	})
}

func TestOnlyTheNewestWaitsForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{began: time.Now()}
		first := listen(t, HandlerConfig{Sink: in})
		var mu sync.Mutex
		now := first
		dial := func(ctx context.Context, n, a string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			return now.net.dial(ctx, n, a)
		}
		c, stop := connect(t, ClientConfig{Producer: "p", MaxBackoff: 200 * time.Millisecond}, dial)
		defer stop()
		c.Report(stat("hello", "p", 1))
		synctest.Wait()
		first.close()
		time.Sleep(time.Second)
		c.Report(stat("old", "p", 9))
		for i := range 5 {
			time.Sleep(time.Second)
			c.Report(stat("hello", "p", float64(2+i)))
		}
		second := listen(t, HandlerConfig{Sink: in})
		defer second.close()
		mu.Lock()
		now = second
		mu.Unlock()
		time.Sleep(time.Second)
		got := in.got()
		if len(got) != 2 || !strings.HasSuffix(got[1], "hello/p 6") {
			t.Errorf("received %q, want the first and then only the newest", got)
		}
		counts := c.Counts()
		if counts.Sent != 2 || counts.Replaced != 4 || counts.Dropped != 1 || counts.Lost == 0 {
			t.Errorf("counts %+v", counts)
		}
		c.Report(stat("hello", "p", 7))
		synctest.Wait()
		if n := second.handler.Counts().Missing; n != 0 {
			t.Errorf("%d missing: a new handler knows of no gap before its first report", n)
		}
	})
}

func TestLastReportsAreSentAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{began: time.Now()}
		srv := listen(t, HandlerConfig{Sink: in})
		defer srv.close()
		c, stop := connect(t, ClientConfig{Producer: "p"}, srv.net.dial)
		c.Report(stat("hello", "p", 3))
		stop()
		diff(t, "received", []string{"0s hello/p 3"}, in.got())
	})
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{began: time.Now()}
		srv := listen(t, HandlerConfig{Sink: in, Authorize: StaticToken("secret")})
		defer srv.close()
		var token atomic.Value
		token.Store("wrong")
		c, stop := connect(t, ClientConfig{Producer: "p", Token: func() (string, error) { return token.Load().(string), nil }}, srv.net.dial)
		defer stop()
		if c.Connected() {
			t.Error("connected with a wrong token")
		}
		token.Store("secret") // rotated: asked anew for each connection
		time.Sleep(time.Second)
		c.Report(stat("hello", "p", 1))
		if got := in.got(); len(got) != 1 {
			t.Errorf("received %q with the right token", got)
		}
	})
}

func TestKnativesProducersNeedNoExtension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{began: time.Now()}
		srv := listen(t, HandlerConfig{Sink: in})
		defer srv.close()
		c, stop := connect(t, ClientConfig{}, srv.net.dial)
		defer stop()
		for range 3 {
			c.Report(stat("hello", "activator-x", 1))
			synctest.Wait()
		}
		diff(t, "received", []string{"0s hello/activator-x 1", "0s hello/activator-x 1", "0s hello/activator-x 1"}, in.got())
	})
}

func TestSilentStreamIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := listen(t, HandlerConfig{Sink: &inbox{}, Idle: 5 * time.Second})
		defer srv.close()
		tr := &http.Transport{DialContext: srv.net.dial}
		defer tr.CloseIdleConnections()
		conn, _, err := websocket.Dial(t.Context(), "ws://control", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow() // cut by the other side
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := srv.handler.Counts().Streams; n != 0 {
			t.Errorf("%d streams after 6 s of silence", n)
		}
	})
}

func TestGarbageIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inbox{began: time.Now()}
		srv := listen(t, HandlerConfig{Sink: in, MaxMessage: 1024})
		defer srv.close()
		tr := &http.Transport{DialContext: srv.net.dial}
		defer tr.CloseIdleConnections()
		negative := stat("hello", "p", -1)
		tests := []struct {
			name string
			body []byte
			code websocket.StatusCode
		}{
			{"not protobuf", []byte("hello"), websocket.StatusInvalidFramePayloadData},
			{"too large", make([]byte, 2000), websocket.StatusMessageTooBig},
			{"negative", metrics.AppendMessages(nil, []metrics.Message{negative}), -1},
		}
		for _, tt := range tests {
			conn, _, err := websocket.Dial(t.Context(), "ws://control", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.Write(t.Context(), websocket.MessageBinary, tt.body); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, _, err = conn.Read(ctx)
			cancel()
			if got := websocket.CloseStatus(err); got != tt.code {
				t.Errorf("%s: closed with %v (%v), want %v", tt.name, got, err, tt.code)
			}
			_ = conn.CloseNow() // closed by the other side
		}
		diff(t, "received", []string(nil), in.got())
		if n := srv.handler.Counts().Malformed; n != 2 {
			t.Errorf("%d malformed, want 2: the too large one is never read", n)
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := listen(t, HandlerConfig{Sink: &inbox{}, MaxStreams: 1})
		defer srv.close()
		a, stopA := connect(t, ClientConfig{}, srv.net.dial)
		defer stopA()
		b, stopB := connect(t, ClientConfig{}, srv.net.dial)
		defer stopB()
		if !a.Connected() || b.Connected() {
			t.Errorf("connected: %v and %v, want the first only", a.Connected(), b.Connected())
		}
	})
}

func TestProbesAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := listen(t, HandlerConfig{Sink: &inbox{}, Authorize: StaticToken("x")})
		defer srv.close()
		tr := &http.Transport{DialContext: srv.net.dial}
		defer tr.CloseIdleConnections()
		for agent, want := range map[string]int{"kube-probe/1.33": 200, "curl": 401} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://control/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("User-Agent", agent)
			resp, err := (&http.Client{Transport: tr}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is free
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s: status %d, want %d", agent, resp.StatusCode, want)
			}
		}
	})
}

func TestConfigsNameTheirFaults(t *testing.T) {
	_, err := NewClient(ClientConfig{URL: "http://x", Buffer: -1, Ping: -1, MaxBackoff: 1})
	for _, field := range []string{"URL", "Buffer", "Ping", "MaxBackoff"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("client: error %v does not name %s", err, field)
		}
	}
	_, err = NewHandler(HandlerConfig{MaxStreams: -1, MaxMessage: -1, Idle: -1})
	for _, field := range []string{"Sink", "MaxStreams", "MaxMessage", "Idle"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("handler: error %v does not name %s", err, field)
		}
	}
}

// sinkFunc is a Sink.
type sinkFunc func(metrics.Message)

func (f sinkFunc) Report(m metrics.Message) { f(m) }

// TestRelayedReportsCountOnce: a producer sends to two receivers, which pass on to each other what they get. Each takes
// every report once, whichever way it came first.
func TestRelayedReportsCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var relays [2]*Client
		var in [2]*inbox
		var srv [2]*control
		for i := range srv {
			in[i] = &inbox{began: time.Now()}
			srv[i] = listen(t, HandlerConfig{Sink: Tee{in[i], sinkFunc(func(m metrics.Message) { relays[i].Report(m) })}})
			defer srv[i].close()
		}
		for i := range relays {
			c, stop := connect(t, ClientConfig{Relay: true}, srv[1-i].net.dial)
			defer stop()
			relays[i] = c
		}
		both, stop := connect(t, ClientConfig{Producer: "activator/1"}, srv[0].net.dial)
		defer stop()
		other, stop := connect(t, ClientConfig{Producer: "activator/1"}, srv[1].net.dial)
		defer stop()
		sidecar, stop := connect(t, ClientConfig{Producer: "pod/1"}, srv[0].net.dial)
		defer stop()
		for range 3 {
			both.Report(stat("hello", "activator", 7))
			other.Report(stat("hello", "activator", 7))
			sidecar.Report(stat("hello", "pod", 2))
			synctest.Wait()
		}
		for i := range in {
			got := map[string]int{}
			for _, line := range in[i].got() {
				got[line]++
			}
			diff(t, "received", map[string]int{"0s hello/activator 7": 3, "0s hello/pod 2": 3}, got)
		}
	})
	if _, err := NewClient(ClientConfig{URL: "ws://x", Relay: true, Producer: "p"}); err == nil {
		t.Error("a relay with a producer of its own was accepted")
	}
}

// TestBacklogOfAStandstill: what piled up while this process stood still is no load of now.
func TestBacklogOfAStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var resumed time.Time
		in := &counted{}
		h, err := NewHandler(HandlerConfig{Sink: in, Resumed: func() time.Time { return resumed }})
		if err != nil {
			t.Fatal(err)
		}
		report := make([]metrics.Message, 3)
		for _, step := range []struct {
			after   time.Duration
			resumes bool
			reports int
			late    uint64
		}{
			{0, false, 3, 0},
			{time.Minute, true, 3, 3},
			{catchUp - time.Millisecond, false, 3, 6},
			{time.Millisecond, false, 6, 6},
		} {
			<-time.After(step.after)
			if step.resumes {
				resumed = time.Now()
			}
			h.deliver(report)
			if got := h.Counts().Late; in.reports != step.reports || got != step.late {
				t.Errorf("%v later: %d reports went on, %d were late; want %d and %d", step.after, in.reports, got, step.reports, step.late)
			}
		}
	})
}

// counted is a Sink that counts.
type counted struct{ reports int }

func (c *counted) Report(metrics.Message) { c.reports++ }

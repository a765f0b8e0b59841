package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// pipes dials in-memory connections and keeps the pods' ends.
type pipes struct{ ends []net.Conn }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	p.ends = append(p.ends, b)
	return a, nil
}

func (p *pipes) close() {
	for _, c := range p.ends {
		c.Close()
	}
}

func testPool(cfg PoolConfig) (*Pool, *pipes) {
	ends := &pipes{}
	cfg.Addr, cfg.Dial = netip.MustParseAddrPort("10.0.0.1:80"), ends.dial
	return NewPool(cfg), ends
}

func dialN(t *testing.T, p *Pool, n int) (all []*upConn) {
	t.Helper()
	for range n {
		u, err := p.dial(t.Context(), &buffers{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

func TestPoolOrderAndBound(t *testing.T) {
	p, ends := testPool(PoolConfig{MaxIdle: 2})
	defer ends.close()
	all := dialN(t, p, 3)
	for _, u := range all {
		p.put(u, time.Now())
	}
	if _, err := ends.ends[2].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection beyond MaxIdle is open: %v", err)
	}
	for i, want := range []*upConn{all[1], all[0], nil} {
		if got := p.get(); got != want {
			t.Errorf("get %d = %p, want %p: newest first", i, got, want)
		}
	}
	p.put(all[0], time.Now())
	p.Close()
	if _, err := ends.ends[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("an unused connection outlives Close: %v", err)
	}
	p.put(all[1], time.Now())
	if _, err := ends.ends[1].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a connection that came back after Close is open: %v", err)
	}
}

func TestPoolSkipsStale(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := NewPool(PoolConfig{Addr: netip.MustParseAddrPort(ln.Addr().String())})
	defer p.Close()
	for name, spoil := range map[string]func(pod net.Conn) error{
		"closed": func(pod net.Conn) error { return pod.Close() },
		"talks without being asked": func(pod net.Conn) error {
			_, err := io.WriteString(pod, "HTTP/1.1 408 Request Timeout\r\n\r\n")
			return err
		},
	} {
		p.put(dialN(t, p, 1)[0], time.Now())
		pod, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		u := p.get()
		if u == nil {
			t.Fatalf("%s: the fresh connection counts as stale", name)
		}
		if err := spoil(pod); err != nil {
			t.Fatal(err)
		}
		for limit := time.Now().Add(patience); u != nil && time.Now().Before(limit); u = p.get() {
			p.put(u, time.Now()) // until it has arrived
		}
		if u != nil {
			t.Errorf("%s: get returns it", name)
		}
		pod.Close()
	}
}

func TestPoolExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ends := testPool(PoolConfig{IdleTimeout: time.Minute})
		defer ends.close()
		all := dialN(t, p, 2)
		p.put(all[0], time.Now())
		time.Sleep(30 * time.Second)
		p.put(all[1], time.Now())
		open := func() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.idle) }
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{29 * time.Second, 2}, {2 * time.Second, 1}, {28 * time.Second, 1}, {2 * time.Second, 0}} {
			time.Sleep(step.after)
			synctest.Wait()
			if got := open(); got != step.want {
				t.Errorf("after %v more: %d unused connections, want %d", step.after, got, step.want)
			}
		}
		p.put(dialN(t, p, 1)[0], time.Now())
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := open(); got != 0 {
			t.Errorf("the second sweep left %d", got)
		}
		p.Close()
	})
}

func TestConnectTimeoutAdapts(t *testing.T) {
	var r rtt
	const most = time.Second
	if got := r.bound(most); got != most {
		t.Errorf("before any connect: %v, want %v", got, most)
	}
	for range 20 {
		r.observe(200 * time.Microsecond)
	}
	if got := r.bound(most); got != minConnectTimeout {
		t.Errorf("on a fast network: %v, want %v", got, minConnectTimeout)
	}
	r.exceeded()
	r.exceeded()
	if got := r.bound(most); got != 4*minConnectTimeout {
		t.Errorf("after two timeouts: %v, want %v", got, 4*minConnectTimeout)
	}
	for range 100 {
		r.exceeded()
	}
	if got := r.bound(most); got != most {
		t.Errorf("after many timeouts: %v, want %v", got, most)
	}
	for range 50 {
		r.observe(90 * time.Millisecond)
	}
	if got := r.bound(most); got < 120*time.Millisecond || got > 400*time.Millisecond {
		t.Errorf("at 90 ms round trip: %v, want a few of them", got)
	}
}

// TestDialTimeout has a pod that does not answer: the bound, not the request's timeout, gives it up.
func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(PoolConfig{
			Addr: netip.MustParseAddrPort("10.0.0.1:80"), ConnectTimeout: 300 * time.Millisecond,
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
		})
		began := time.Now()
		_, err := p.dial(t.Context(), nil)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 300*time.Millisecond {
			t.Errorf("dial = %v after %v, want the deadline after 300ms", err, time.Since(began))
		}
		p.Close()
	})
}

// TestRetryOfWhatWasNotSeen has a pod that closes an idle connection in the instant in which the next request is on
// its way: the peek sees nothing yet, the write succeeds, and the FIN then shows that none of it had arrived.
func TestRetryOfWhatWasNotSeen(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := NewPool(PoolConfig{Addr: netip.MustParseAddrPort(ln.Addr().String())})
	defer p.Close()
	u, err := p.dial(t.Context(), &buffers{})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	pod, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	exchange := func(text string) {
		if err := u.write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(pod, make([]byte, len(text))); err != nil {
			t.Fatal(err)
		}
		if _, err := pod.Write([]byte("ok")); err != nil { // carries the acknowledgement
			t.Fatal(err)
		}
		if _, err := io.ReadFull(u.Conn, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
	}
	exchange("first request")
	u.total, u.wrote = u.total+u.wrote, 0
	if !u.unseen() {
		t.Error("nothing of a second request was written, and it counts as seen")
	}
	exchange("second request")
	if u.unseen() {
		t.Error("the pod has read the second request, and it counts as unseen")
	}
}

// TestRetryOfWhatWasNotSeenByHTTP is the same for connections that net/http reads: they note at the pod's end what it had
// received.
func TestRetryOfWhatWasNotSeenByHTTP(t *testing.T) {
	for _, read := range []bool{false, true} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		p := NewPool(PoolConfig{Addr: netip.MustParseAddrPort(ln.Addr().String())})
		defer p.Close()
		u, err := p.dial(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &countingConn{Conn: u.Conn, raw: u.raw, closed: func() {}}
		defer c.Close()
		pod, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer pod.Close()
		send := func() {
			if _, err := io.WriteString(c, "a request"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(pod, make([]byte, len("a request"))); err != nil {
				t.Fatal(err)
			}
		}
		send()
		before := c.written.Load()
		if read {
			send()
		}
		pod.Close()
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Fatalf("Read = %d, %v; want the end", n, err)
		}
		if !read {
			_, _ = io.WriteString(c, "too late")
		}
		if got := c.unseen(before); got == read {
			t.Errorf("the pod has read the second request: %v; unseen: %v", read, got)
		}
	}
}

func TestForwardToClosedPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	pool := NewPool(PoolConfig{Addr: netip.MustParseAddrPort(ln.Addr().String())})
	t.Cleanup(pool.Close)
	results := make(chan Result, 1)
	e := serveEngine(t, Config{}, pool, HandlerFunc(func(x Exchange) {
		r := x.Forward(pool)
		results <- r
		if r.Retryable {
			x.Fail(r.Cause, "", 1500*time.Millisecond)
		}
	}))
	got := talk(t, e.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, "\r\nRetry-After: 2\r\n") {
		t.Errorf("client saw %q", got)
	}
	if r := <-results; r.Cause != fault.ConnectFailed || !r.Retryable || r.Status != 0 || r.Err == nil {
		t.Errorf("result = %+v, want a retryable connect_failed", r)
	}
}

// talk sends text and returns everything until the server closes.
func talk(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

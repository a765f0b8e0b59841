package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// patience bounds every wait of these tests. It is far above what any of them takes: reaching it is a failure.
const patience = 20 * time.Second

// peer is one end of a raw TCP connection whose bytes the test writes and reads itself.
type peer struct {
	t  testing.TB
	c  net.Conn
	br *bufio.Reader
}

func newPeer(t testing.TB, c net.Conn) *peer {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &peer{t: t, c: c, br: bufio.NewReader(c)}
}

func dialPeer(t testing.TB, addr string) *peer {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, c)
}

func (p *peer) send(raw string) {
	p.t.Helper()
	if _, err := io.WriteString(p.c, raw); err != nil {
		p.t.Fatalf("send %.60q: %v", raw, err)
	}
}

// want reads exactly the given bytes.
func (p *peer) want(raw string) {
	p.t.Helper()
	got := make([]byte, len(raw))
	n, err := io.ReadFull(p.br, got)
	if string(got[:n]) != raw {
		p.t.Fatalf("got  %q (%v)\nwant %q", got[:n], err, raw)
	}
}

// head reads up to the empty line, which is part of the result.
func (p *peer) head() string {
	p.t.Helper()
	var b strings.Builder
	for {
		line, err := p.br.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			p.t.Fatalf("head ends early: %q: %v", b.String(), err)
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

func (p *peer) wantHead(prefix string) string {
	p.t.Helper()
	h := p.head()
	if !strings.HasPrefix(h, prefix) {
		p.t.Fatalf("head = %q, want it to begin with %q", h, prefix)
	}
	return h
}

// wantEnd reads until the other side has closed, and returns what came before.
func (p *peer) wantEnd() string {
	p.t.Helper()
	b, err := io.ReadAll(p.br)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		p.t.Fatalf("connection did not end: %v after %.60q", err, b)
	}
	return string(b)
}

func (p *peer) fin() {
	p.t.Helper()
	if err := p.c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) reset() {
	p.t.Helper()
	if err := p.c.(*net.TCPConn).SetLinger(0); err != nil {
		p.t.Fatal(err)
	}
	p.c.Close()
}

func (p *peer) close() { p.c.Close() }

// app is a raw TCP server that a test plays itself.
type app struct {
	t     testing.TB
	ln    net.Listener
	mem   *memListener // nil on real sockets
	conns chan net.Conn
}

func newApp(t testing.TB) *app { return startApp(t, listen(t, false)) }

// newMemApp is for tests that run in virtual time: it, and the proxies in front of it, have no sockets.
func newMemApp(t testing.TB) *app { return startApp(t, listen(t, true)) }

func startApp(t testing.TB, ln net.Listener) *app {
	a := &app{t: t, ln: ln, conns: make(chan net.Conn, 1024)}
	a.mem, _ = ln.(*memListener)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			a.conns <- c
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		close(a.conns)
		for c := range a.conns {
			c.Close()
		}
	})
	return a
}

func (a *app) addr() netip.AddrPort { return a.ln.Addr().(*net.TCPAddr).AddrPort() }

// accept returns the next connection of the proxy's.
func (a *app) accept() *peer {
	a.t.Helper()
	select {
	case c := <-a.conns:
		return newPeer(a.t, c)
	case <-time.After(patience):
		a.t.Fatal("the proxy did not connect")
		return nil
	}
}

// listen opens a listener on the loopback or in memory.
func listen(t testing.TB, memory bool) net.Listener {
	t.Helper()
	if memory {
		return newMemListener()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// proxy is a server of this package in front of one pool.
type proxy struct {
	t       testing.TB
	srv     *Server
	pool    *Pool
	addr    string
	mem     *memListener // nil on real sockets
	results chan Result
}

type proxyOptions struct {
	server  Config
	pool    PoolConfig
	before  func(x Exchange) // called before Forward
	handler func(p *proxy, x Exchange)
}

func newProxy(t testing.TB, a *app, o proxyOptions) *proxy {
	t.Helper()
	o.pool.Addr = a.addr()
	ln := listen(t, a.mem != nil)
	if a.mem != nil {
		o.pool.Dial = a.mem.dial
	}
	p := &proxy{t: t, pool: NewPool(o.pool), results: make(chan Result, 4096)}
	if o.handler == nil {
		o.handler = func(p *proxy, x Exchange) {
			if o.before != nil {
				o.before(x)
			}
			p.forward(x)
		}
	}
	srv, err := NewServer(o.server, HandlerFunc(func(x Exchange) { o.handler(p, x) }))
	if err != nil {
		t.Fatal(err)
	}
	p.srv, p.addr = srv, ln.Addr().String()
	p.mem, _ = ln.(*memListener)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		over, stop := context.WithCancel(context.Background())
		stop()
		_ = srv.Shutdown(over)
		p.pool.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return p
}

// forward is what a handler does with its only pod.
func (p *proxy) forward(x Exchange) {
	r := x.Forward(p.pool)
	if r.Retryable {
		x.Fail(r.Cause, "", 0)
	}
	p.results <- r
}

func (p *proxy) dial() *peer {
	p.t.Helper()
	if p.mem == nil {
		return dialPeer(p.t, p.addr)
	}
	c, err := p.mem.dial(context.Background(), "", "")
	if err != nil {
		p.t.Fatal(err)
	}
	return newPeer(p.t, c)
}

func (p *proxy) result() Result {
	p.t.Helper()
	select {
	case r := <-p.results:
		return r
	case <-time.After(patience):
		p.t.Fatal("the exchange did not end")
		return Result{}
	}
}

func (p *proxy) wantCause(want fault.Cause) Result {
	p.t.Helper()
	r := p.result()
	if r.Cause != want {
		p.t.Fatalf("result = %+v, want cause %q", r, want)
	}
	return r
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		<-tick.C
	}
}

// crlf turns a script's line ends into HTTP's.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func response(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

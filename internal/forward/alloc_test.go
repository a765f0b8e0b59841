//go:build linux && !race

package forward

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rousehq/rouse/breaker"
	"golang.org/x/sys/unix"
)

// These tests hold the engine's allocation contract on real connections. The race detector makes sync.Pool forget on
// purpose, so they are built without it.

// cannedBackend answers every request, after its body, with the same bytes. It allocates nothing per request.
func cannedBackend(t testing.TB, response string) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go answerAll(c, []byte(response))
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

func answerAll(c net.Conn, response []byte) {
	defer c.Close()
	buf := make([]byte, 256<<10)
	n := 0
	for {
		end := requestEnd(buf[:n])
		if end == 0 {
			m, err := c.Read(buf[n:])
			if err != nil {
				return
			}
			n += m
			continue
		}
		n = copy(buf, buf[end:n])
		if _, err := c.Write(response); err != nil {
			return
		}
	}
}

// requestEnd returns the length of the first request in b, 0 when it is not complete.
func requestEnd(b []byte) int {
	head := bytes.Index(b, []byte("\r\n\r\n")) + 4
	if head < 4 {
		return 0
	}
	if i := bytes.Index(b[:head], []byte("Content-Length: ")); i >= 0 {
		n := 0
		for _, c := range b[i+len("Content-Length: "):] {
			if c < '0' || c > '9' {
				break
			}
			n = n*10 + int(c-'0')
		}
		if len(b) < head+n {
			return 0
		}
		return head + n
	}
	if bytes.Contains(b[:head], []byte("chunked")) {
		end := bytes.Index(b[head:], []byte("0\r\n\r\n"))
		if end < 0 {
			return 0
		}
		return head + end + 5
	}
	return head
}

// everyFeature is a handler with all that the proxies use per request.
func everyFeature(to *Pool) Handler {
	limiter := breaker.New(64, 640)
	return HandlerFunc(func(x Exchange) {
		if x.Header("User-Agent") == nil {
			panic("no user agent")
		}
		x.Set("K-Proxy-Request", "activator")
		x.Remove("Knative-Serving-Revision")
		x.SetHost("app.example")
		x.SetResponse("X-Pod", "a")
		x.SetTimeouts(Timeouts{Total: time.Minute, FirstByte: time.Minute, Idle: time.Minute})
		x.SetWaitDeadline(x.Received().Add(time.Minute))
		if err := limiter.Acquire(x.Waiter()); err != nil {
			panic(err)
		}
		x.SetWaitDeadline(time.Time{})
		x.Forward(to)
		limiter.Release()
	})
}

func TestAllocationsPerRequest(t *testing.T) {
	const fields = "Host: a.example\r\nUser-Agent: test\r\nAccept: */*\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: keep-alive, x-private\r\nX-Private: 1\r\n"
	ok := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nKeep-Alive: timeout=5\r\n\r\nhello"
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"
	large := strings.Repeat("x", 100<<10)
	for _, tc := range []struct {
		name, request, response string
		most                    float64
	}{
		{"GET", "GET / HTTP/1.1\r\n" + fields + "\r\n", ok, 0},
		{"chunked response", "GET / HTTP/1.1\r\n" + fields + "\r\n", chunked, 0},
		{"POST 1 KiB", "POST / HTTP/1.1\r\n" + fields + "Content-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024), ok, 0},
		{"GET 100 KiB", "GET / HTTP/1.1\r\n" + fields + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(large)) + "\r\n\r\n" + large, 0},
		{"POST 100 KiB", "POST / HTTP/1.1\r\n" + fields + "Content-Length: " + strconv.Itoa(len(large)) + "\r\n\r\n" + large, ok, 1},
		{"chunked POST 100 KiB", "POST / HTTP/1.1\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n19000\r\n" + large + "\r\n0\r\n\r\n", ok, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pool := NewPool(PoolConfig{Addr: cannedBackend(t, tc.response)})
			t.Cleanup(pool.Close)
			e := serveEngine(t, Config{Forwarding: Forwarding{XForwarded: true, Forwarded: true}}, pool, everyFeature(pool))
			c, err := net.Dial("tcp", e.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := allocations(t, c, []byte(tc.request), len(responseLength(tc.response)), 4000); got > tc.most+0.02 {
				t.Errorf("%.3f allocations per request, want at most %v", got, tc.most)
			}
		})
	}
}

// responseLength is the response as the client is sent it, for its length: hop-by-hop fields go, X-Pod comes.
func responseLength(r string) string {
	return strings.Replace(r, "Keep-Alive: timeout=5\r\n", "", 1) + "X-Pod: a\r\n"
}

// allocations sends n requests over c and returns how many allocations the whole process made per request.
func allocations(t *testing.T, c net.Conn, request []byte, length, n int) float64 {
	t.Helper()
	buf := make([]byte, length)
	one := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		one()
	}
	var before, after runtime.MemStats
	runtime.GC()
	one()
	runtime.ReadMemStats(&before)
	for range n {
		one()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

// TestMemoryPerConnection measures heap and stacks per connection, idle and parked.
func TestMemoryPerConnection(t *testing.T) {
	const n = 1000
	pool := NewPool(PoolConfig{Addr: cannedBackend(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")})
	t.Cleanup(pool.Close)
	limiter := breaker.New(n, n)
	e := serveEngine(t, Config{}, pool, HandlerFunc(func(x Exchange) {
		x.SetTimeouts(Timeouts{Total: time.Minute})
		x.SetWaitDeadline(x.Received().Add(time.Hour))
		if limiter.Acquire(x.Waiter()) != nil {
			return
		}
		x.Forward(pool)
		limiter.Release()
	}))
	request := []byte("GET / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")
	none := memory()
	conns := make([]int, n) // bare descriptors: only the server's memory is to be seen
	answer := make([]byte, 64)
	for i := range conns {
		conns[i] = dialBare(t, e.addr)
		ask(t, conns[i], request)
		if _, err := unix.Read(conns[i], answer); err != nil {
			t.Fatal(err)
		}
	}
	idle := memory()
	limiter.SetCapacity(0)
	for _, c := range conns {
		ask(t, c, request)
	}
	waitFor(t, "all requests are parked", func() bool { return limiter.Counts().Pending == n })
	parked := memory()
	t.Logf("idle: %d bytes, parked: %d bytes per connection", (idle-none)/n, (parked-none)/n)
	if got := (idle - none) / n; got > 11<<10 {
		t.Errorf("idle connection: %d bytes, want at most 11 KiB", got)
	}
	if got := (parked - none) / n; got > 9<<10 {
		t.Errorf("parked request: %d bytes, want at most 9 KiB", got)
	}
	limiter.SetCapacity(n)
	for _, c := range conns {
		if _, err := unix.Read(c, answer); err != nil {
			t.Fatal(err)
		}
	}
}

func dialBare(t *testing.T, addr string) int {
	t.Helper()
	ap := netip.MustParseAddrPort(addr)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		t.Cleanup(func() { _ = unix.Close(fd) })
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func ask(t *testing.T, fd int, request []byte) {
	t.Helper()
	if _, err := unix.Write(fd, request); err != nil {
		t.Fatal(err)
	}
}

// memory is what heap and stacks hold after a collection.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// waitFor waits for a condition that must come true.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

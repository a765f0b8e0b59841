package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

const uploadThatUpgrades = "POST /ws HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: Upgrade\r\n"
const switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"

// TestFidelityUpgradeBeforeTheBody: a pod that switches protocols before it has the request's body gets the whole of it first,
// and then, in order, what the client sent behind it.
func TestFidelityUpgradeBeforeTheBody(t *testing.T) {
	rest := strings.Repeat("0123456789", 100_000)
	for name, c := range map[string]struct{ field, first, rest, body string }{
		"of a length": {"Content-Length: 1000005\r\n", "first", rest + "early", "first" + rest},
		"chunked":     {"Transfer-Encoding: chunked\r\n", "5\r\nfirst\r\n", "f4240\r\n" + rest + "\r\n0\r\n\r\nearly", "5\r\nfirst\r\nf4240\r\n" + rest + "\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			client := p.dial()
			client.send(uploadThatUpgrades + c.field + "\r\n" + c.first)
			pod := a.accept()
			pod.wantHead("POST /ws HTTP/1.1\r\n")
			pod.send(switched + "hello")
			pod.want(c.first)
			client.send(c.rest)
			pod.want(c.body[len(c.first):])
			pod.want("early")
			client.wantHead("HTTP/1.1 101 Switching Protocols\r\n")
			client.want("hello")
			client.send("ping")
			pod.want("ping")
			client.close()
			pod.wantEnd()
			pod.close()
			if r := p.result(); !r.Upgraded || r.Status != 101 {
				t.Errorf("result = %+v", r)
			}
		})
	}
	t.Run("a pod that takes no body", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(uploadThatUpgrades + "Content-Length: 100000000\r\n\r\nfirst")
		pod := a.accept()
		pod.head()
		pod.send(switched)
		pod.reset()
		go func() { _, _ = io.Copy(client.c, endless{}) }() // until the answer has come
		client.wantHead("HTTP/1.1 502 Bad Gateway\r\n")
		p.wantCause(fault.UpstreamReset)
		client.close()
	})
	t.Run("a client that leaves", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(uploadThatUpgrades + "Content-Length: 100\r\n\r\nfirst")
		pod := a.accept()
		pod.head()
		pod.send(switched)
		pod.want("first")
		client.close()
		pod.wantEnd()
		p.wantCause(fault.ClientGone)
	})
}

// endless is a client that never stops.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// patient is how a proxy connects that reads its first bytes only when as many are there as it takes at once.
func patient(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &patientConn{Conn: c}, nil
}

type patientConn struct {
	net.Conn
	began bool
}

func (c *patientConn) Read(p []byte) (int, error) {
	if c.began || len(p) < bigSize {
		return c.Conn.Read(p)
	}
	c.began = true
	n, err := io.ReadFull(c.Conn, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}

// TestFidelityShortestHead: everything behind a head of 16 bytes, of a body that ends with the connection, reaches the client,
// however much of it came with the head.
func TestFidelityShortestHead(t *testing.T) {
	const head = "HTTP/1.1 200\r\n\r\n"
	for _, size := range []int{bigSize - len(head) - 1, bigSize - len(head), bigSize, 3 * bigSize} {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{pool: PoolConfig{Dial: patient}})
		body := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
		client := p.dial()
		client.send("GET / HTTP/1.0\r\n\r\n")
		pod := a.accept()
		pod.send(head + string(body))
		pod.fin()
		client.wantHead("HTTP/1.1 200")
		if got := client.wantEnd(); got != string(body) {
			t.Errorf("%d bytes arrived, want %d", len(got), size)
		}
		client = p.dial()
		client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		pod = a.accept()
		pod.send(head + string(body))
		pod.fin()
		client.wantHead("HTTP/1.1 200")
		var d dechunker
		d.reset(true)
		var got []byte
		buf := make([]byte, 1<<20)
		for done := false; !done; {
			n, err := client.br.Read(buf)
			if err != nil {
				t.Fatalf("%d bytes of %d: %v", len(got), size, err)
			}
			kept, _, end, err := d.feed(buf[:n])
			if err != nil {
				t.Fatal(err)
			}
			got, done = append(got, buf[:kept]...), end
		}
		if !bytes.Equal(got, body) {
			t.Errorf("in chunks %d bytes arrived, want %d, and the same", len(got), size)
		}
	}
}

// TestFidelityReplyHasNoBodyWhereNoneMayBe: nor fields of the handler's that say where a message ends.
func TestFidelityReplyHasNoBodyWhereNoneMayBe(t *testing.T) {
	for _, c := range []struct {
		name, method, field, value string
		status                     int
		want                       string
	}{
		{"204", "GET", "", "", 204, "HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n\r\n"},
		{"304", "GET", "", "", 304, "HTTP/1.1 304 Status 304\r\nContent-Type: text/plain\r\n\r\n"},
		{"HEAD", "HEAD", "", "", 200, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n"},
		{"a length", "GET", "content-length", "3", 200, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"},
		{"a coding", "GET", "Transfer-Encoding", "chunked", 200, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"},
		{"the connection", "GET", "Connection", "close", 200, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProxy(t, newApp(t), proxyOptions{handler: func(_ *proxy, x Exchange) {
				if c.field != "" {
					x.SetResponse(c.field, c.value)
				}
				x.Reply(c.status, "text/plain", "body")
			}})
			client := p.dial()
			for range 2 { // what follows shows where the first one ended
				client.send(c.method + " / HTTP/1.1\r\nHost: a\r\n\r\n")
				client.want(c.want)
			}
		})
	}
}

// TestFidelityPaddedChunkSizes: old servers pad them. Clients get the size alone; what they pad themselves is refused.
func TestFidelityPaddedChunkSizes(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	client := p.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	pod := a.accept()
	pod.head()
	pod.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5   \r\nhello\r\n0 \t\r\n\r\n")
	client.wantHead("HTTP/1.1 200 OK\r\n")
	client.want("5\r\nhello\r\n0\r\n\r\n")
	p.wantCause(fault.None)
	client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n")
	client.wantHead("HTTP/1.1 400 Bad Request\r\n")
}

// TestFidelityReceivedWhenTheHeadIsThere: how long a client takes to say what it wants is its own time.
func TestFidelityReceivedWhenTheHeadIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newMemApp(t)
		began := time.Now()
		received := make(chan time.Duration, 1)
		p := newProxy(t, a, proxyOptions{handler: func(_ *proxy, x Exchange) {
			received <- x.Received().Sub(began)
			x.Reply(204, "", "")
		}})
		client := p.dial()
		client.send("GET /")
		time.Sleep(7 * time.Second)
		client.send(" HTTP/1.1\r\nHost: a\r\n\r\n")
		if got := <-received; got != 7*time.Second {
			t.Errorf("received after %v, want 7s", got)
		}
		client.head()
		client.close()
	})
}

// TestFidelityAPanicEndsItsOwnRequest: whatever state that is in. It is logged, and other requests go on.
func TestFidelityAPanicEndsItsOwnRequest(t *testing.T) {
	var said syncBuffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&said, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{handler: func(p *proxy, x Exchange) {
		if string(x.Path()) == "/before" {
			panic("a bug before")
		}
		p.forward(x)
		if string(x.Path()) == "/behind" {
			panic("a bug behind")
		}
	}})
	other := p.dial()
	other.send("GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
	pod := a.accept()
	pod.head()
	for _, c := range []struct{ name, request string }{
		{"before", "POST /before HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello"},
		{"behind", "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n"},
	} {
		client := p.dial()
		client.send(c.request)
		if c.name == "behind" {
			its := a.accept()
			its.head()
			its.send(response("hello"))
			client.wantHead("HTTP/1.1 200 OK\r\n")
			client.want("hello")
		}
		if rest := client.wantEnd(); rest != "" {
			t.Errorf("%s: the client was sent %q", c.name, rest)
		}
		eventually(t, "the panic is logged", func() bool {
			return strings.Contains(said.String(), `panic="a bug `+c.name+`"`) && strings.Contains(said.String(), "hostile_fidelity_test.go")
		})
	}
	pod.send(response("ok"))
	other.wantHead("HTTP/1.1 200 OK\r\n")
	other.want("ok")
	h2 := p.h2Client()
	if res, err := h2.Get(p.url("/before")); err == nil {
		res.Body.Close()
		t.Errorf("over HTTP/2 a panic was answered %d", res.StatusCode)
	}
	eventually(t, "the panic over HTTP/2 is logged", func() bool { return strings.Count(said.String(), `panic="a bug before"`) == 2 })
	other.close()
	eventually(t, "nothing is in flight", func() bool { s := p.srv.Stats(); return s.Active == 0 })
}

// syncBuffer is a buffer that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

//go:build linux

package backend

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T) string {
	t.Helper()
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String()
}

func TestAnswers(t *testing.T) {
	addr := serve(t)
	const echoed = "POST /echo HTTP/1.1\r\nhOst: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	cases := map[string]struct {
		send string
		want string // the body, or its length when it is long
	}{
		"small":          {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", strings.Repeat("0123456789", 10)},
		"large":          {"GET /64k HTTP/1.1\r\nHost: a\r\n\r\n", strings.Repeat("0123456789abcdef", 4096)},
		"sleep":          {"GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n", strings.Repeat("0123456789", 10)},
		"body is read":   {"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd", strings.Repeat("0123456789", 10)},
		"echo of length": {"POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd", "POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd"},
		"echo of chunks": {echoed + "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n", echoed + "abcde"},
		"echo, no body":  {"GET /echo HTTP/1.1\r\n\r\n", "GET /echo HTTP/1.1\r\n\r\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for range 2 { // the connection stays open and framed
				if _, err := io.WriteString(conn, c.send); err != nil {
					t.Fatal(err)
				}
				if got := readBody(t, in); got != c.want {
					t.Errorf("answer to %q = %.200q, want %.200q", c.send, got, c.want)
				}
			}
		})
	}
}

func readBody(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestContinueComesBeforeTheBody(t *testing.T) {
	conn, err := net.Dial("tcp", serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /continue HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("first line = %q, %v", line, err)
	}
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "ab")
	if got := readBody(t, in); len(got) != 100 {
		t.Errorf("answer has %d bytes, want 100", len(got))
	}
}

func TestSilentNeverAnswers(t *testing.T) {
	conn, err := net.Dial("tcp", serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /silent HTTP/1.1\r\n\r\n")
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("Read = %d bytes, want none", n)
	}
}

func TestRequestSurvivesAnyCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := strings.Repeat("x", rapid.IntRange(0, 40).Draw(t, "size"))
		head := fmt.Sprintf("POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n", len(body))
		wire := head + body
		if rapid.Bool().Draw(t, "chunked") {
			head = "POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
			wire = head + "0\r\n\r\n"
			if body != "" {
				wire = fmt.Sprintf("%s%x\r\n%s\r\n0\r\n\r\n", head, len(body), body)
			}
		}
		var r request
		whole := false
		for len(wire) > 0 {
			n := rapid.IntRange(1, len(wire)).Draw(t, "cut")
			r.buf = append(r.buf, wire[:n]...)
			wire = wire[n:]
			var err error
			if whole, err = step(&r); err != nil {
				t.Fatal(err)
			}
		}
		if !whole || string(r.head) != head || string(r.kept) != body {
			t.Fatalf("whole = %t, head %q, body %q, want %q, %q", whole, r.head, r.kept, head, body)
		}
	})
}

func step(r *request) (bool, error) {
	if !r.inBody {
		if ok, err := r.parseHead(); !ok || err != nil {
			return false, err
		}
	}
	return r.takeBody()
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		r := request{buf: p}
		_, _ = step(&r) // must not panic, and must not grow the body beyond what came
		if len(r.kept) > len(p) {
			t.Errorf("body of %d bytes out of %d", len(r.kept), len(p))
		}
	})
}

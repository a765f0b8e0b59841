package harness

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// server counts connections and requests by ID.
type server struct {
	mu    sync.Mutex // guards what follows
	conns map[string]bool
	ids   map[string]int
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[r.RemoteAddr] = true
	s.ids[r.Header.Get(IDHeader)]++
	fmt.Fprint(w, r.Method)
}

func TestLoadSendsOnce(t *testing.T) {
	for name, keepAlive := range map[string]bool{"fresh": false, "keep-alive": true} {
		t.Run(name, func(t *testing.T) {
			s := &server{conns: make(map[string]bool), ids: make(map[string]int)}
			front := httptest.NewServer(s)
			defer front.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			r := Load{URL: front.URL, Method: "POST", Body: []byte("x"), Rate: 200, KeepAlive: keepAlive}.Run(ctx)
			if r.Sent == 0 || len(r.Failures) > 0 || len(r.Latency) != r.Sent || len(s.ids) != r.Sent {
				t.Errorf("%d sent, %d answered, %d seen, failures %v", r.Sent, len(r.Latency), len(s.ids), r.Failures)
			}
			for id, n := range s.ids {
				if n != 1 || id == "" {
					t.Errorf("request %q was seen %d times", id, n)
				}
			}
			if fresh := len(s.conns) == r.Sent; fresh == keepAlive {
				t.Errorf("%d connections for %d requests", len(s.conns), r.Sent)
			}
		})
	}
}

// TestConnDoesNotRetry: a server that hangs up on the second request sees it once, and the client says so.
func TestConnDoesNotRetry(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan int, 1)
	go func() {
		n := 0
		defer func() { accepted <- n }()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n++
			buf := make([]byte, 4096)
			for i := range 2 {
				if _, err := conn.Read(buf); err != nil {
					break
				}
				if i == 0 {
					fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}
			conn.Close()
		}
	}()
	c := &Conn{}
	defer c.Close()
	url := "http://" + l.Addr().String()
	if r, err := c.Send(t.Context(), "GET", url, nil, nil); err != nil || r.Status != 200 {
		t.Fatalf("first: %v, %v", r, err)
	}
	if _, err := c.Send(t.Context(), "GET", url, nil, nil); err == nil || !strings.Contains(err.Error(), "read:") {
		t.Errorf("second: %v, want the server's end", err)
	}
	l.Close()
	if n := <-accepted; n != 1 {
		t.Errorf("%d connections: the client tried again", n)
	}
}

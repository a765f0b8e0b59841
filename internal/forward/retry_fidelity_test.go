package forward

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
)

// TestFidelityRefusedGoesToAnotherPod sends a request whose first pod refuses the connection, and one whose first pod
// is a queue-proxy that does not admit it.
func TestFidelityRefusedGoesToAnotherPod(t *testing.T) {
	second := newApp(t)
	first := newApp(t)
	pools := map[string]*Pool{
		"/refused":     NewPool(PoolConfig{Addr: closedApp(t).addr()}),
		"/notadmitted": NewPool(PoolConfig{Addr: first.addr(), NotAdmitted: true}),
	}
	for _, p := range pools {
		defer p.Close()
	}
	p := newProxy(t, second, proxyOptions{handler: func(p *proxy, x Exchange) {
		r := x.Forward(pools[string(x.Path())])
		if !r.Retryable || r.Status != 0 {
			t.Errorf("first try = %+v, want retryable", r)
		}
		p.results <- r
		p.forward(x)
	}})
	client := p.dial()
	body := strings.Repeat("x", 10_000)
	for _, tc := range []struct {
		path  string
		cause fault.Cause
	}{{"/refused", fault.ConnectFailed}, {"/notadmitted", fault.NotAdmitted}} {
		request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", tc.path, len(body), body)
		client.send(request)
		if tc.cause == fault.NotAdmitted {
			pod := first.accept()
			pod.want(request)
			pod.send("HTTP/1.1 503 Service Unavailable\r\nRouse-Not-Admitted: full\r\nContent-Length: 0\r\n\r\n")
		}
		p.wantCause(tc.cause)
		pod := second.accept()
		pod.want(request)
		pod.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
		client.want("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		p.wantCause(fault.None)
	}
}

// TestFidelityNothingSeenIsSentTwice has pods that vanish once they have, or may have, seen the request.
func TestFidelityNothingSeenIsSentTwice(t *testing.T) {
	vanish := map[string]func(pod *peer){
		"FIN after the head": func(pod *peer) { pod.head(); pod.close() },
		"RST after the head": func(pod *peer) { pod.head(); pod.reset() },
		"FIN inside its answer's head": func(pod *peer) {
			pod.head()
			pod.send("HTTP/1.1 200 OK\r\nConte")
			pod.close()
		},
	}
	for name, f := range vanish {
		for _, inbound2 := range []bool{false, true} {
			for _, warm := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, h2 %v, reused %v", name, inbound2, warm), func(t *testing.T) {
					a := newApp(t)
					p := newProxy(t, a, proxyOptions{})
					c := p.client(inbound2)
					answers := make(chan int, 2)
					get := func() {
						res, err := c.Get(p.url("/"))
						if err != nil {
							t.Error(err)
							answers <- 0
							return
						}
						res.Body.Close()
						answers <- res.StatusCode
					}
					go get()
					pod := a.accept()
					if warm {
						pod.head()
						pod.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
						if got := <-answers; got != 200 {
							t.Fatalf("first answer = %d", got)
						}
						p.result()
						go get()
					}
					f(pod)
					if got := <-answers; got != 502 {
						t.Errorf("answer = %d, want 502", got)
					}
					// net/http calls a head that ends early malformed.
					if r := p.result(); r.Retryable || r.Cause != fault.UpstreamReset && r.Cause != fault.UpstreamProtocol {
						t.Errorf("result = %+v", r)
					}
					select {
					case c := <-a.conns:
						t.Error("the request was sent again")
						c.Close()
					default:
					}
				})
			}
		}
	}
}

// TestFidelityStalePooledConnection lets a pod close an idle connection: the next request, of whatever method, must
// not notice.
func TestFidelityStalePooledConnection(t *testing.T) {
	for _, inbound2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", inbound2), func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			c := p.client(inbound2)
			for range 5 {
				done := make(chan int, 1)
				go func() {
					res, err := c.Post(p.url("/"), "", strings.NewReader("body"))
					if err != nil {
						t.Error(err)
						done <- 0
						return
					}
					res.Body.Close()
					done <- res.StatusCode
				}()
				pod := a.accept()
				if _, body := readRequest(pod); body != "body" {
					t.Fatalf("body = %q", body)
				}
				pod.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				if got := <-done; got != 200 {
					t.Fatalf("answer = %d", got)
				}
				p.wantCause(fault.None)
				pod.close() // an announced end: the pool sees it before, or while, the next request takes it
			}
		})
	}
}

// scriptedPod serves raw connections by the plan that each request carries: one letter per pod.
type scriptedPod struct {
	t     *testing.T
	index int
	seen  *sync.Map     // request id to *atomic.Int64
	ended chan struct{} // sent to after a connection was closed behind a complete answer
	open  sync.Map      // connections
	conns sync.WaitGroup
}

// answer serves one request and reports whether the connection goes on.
func (s *scriptedPod) answer(c net.Conn, br *bufio.Reader, ends *bool) bool {
	r, err := http.ReadRequest(br)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	if want := r.Header.Get("X-Size"); want != fmt.Sprint(len(body)) {
		s.t.Errorf("pod %d got a body of %d bytes, want %s", s.index, len(body), want)
	}
	action := r.Header.Get("X-Plan")[s.index]
	if action == 'n' {
		_, err = io.WriteString(c, "HTTP/1.1 503 Busy\r\nRouse-Not-Admitted: full\r\nContent-Length: 0\r\n\r\n")
		return err == nil
	}
	n, _ := s.seen.LoadOrStore(r.Header.Get("X-Id"), new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	switch action {
	case 'o', 'k':
		_, err = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		*ends = action == 'k'
		return err == nil && action == 'o'
	case 'h':
		_, _ = io.WriteString(c, "HTTP/1.1 2")
	case 'r':
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	return false
}

func (s *scriptedPod) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		s.conns.Go(func() {
			s.open.Store(c, nil)
			br := bufio.NewReader(c)
			ends := false
			for s.answer(c, br, &ends) {
			}
			c.Close()
			s.open.Delete(c)
			if ends {
				s.ended <- struct{}{}
			}
		})
	}
}

// outcome is the oracle: what a client sees of a plan, and how often applications see the request.
func outcome(plan string) (status, seen int) {
	for _, action := range plan {
		switch action {
		case '-', 'n':
			continue
		case 'o', 'k':
			return 200, 1
		default:
			return 502, 1
		}
	}
	if plan[len(plan)-1] == 'n' {
		return 503, 0
	}
	return 502, 0
}

// TestFidelityRetryRules checks generated sequences of requests against pods that refuse, vanish and answer: no
// application sees a request twice, and every client gets the answer that the rules promise.
func TestFidelityRetryRules(t *testing.T) {
	const pods = 3
	var seen sync.Map
	ended := make(chan struct{}, 1)
	pools := make([]*Pool, pods)
	dead := NewPool(PoolConfig{Addr: closedApp(t).addr()})
	defer dead.Close()
	for i := range pools {
		a := &app{t: t, ln: listen(t, false)}
		pools[i] = NewPool(PoolConfig{Addr: a.addr(), NotAdmitted: true})
		pod := &scriptedPod{t: t, index: i, seen: &seen, ended: ended}
		pod.conns.Go(func() { pod.serve(a.ln) })
		t.Cleanup(func() {
			a.ln.Close()
			pools[i].Close()
			pod.open.Range(func(c, _ any) bool {
				c.(net.Conn).Close()
				return true
			})
			pod.conns.Wait()
		})
	}
	p := newProxy(t, closedApp(t), proxyOptions{handler: func(p *proxy, x Exchange) {
		var r Result
		for i, action := range x.Header("X-Plan") {
			to := pools[i]
			if action == '-' {
				to = dead
			}
			if r = x.Forward(to); !r.Retryable {
				return
			}
		}
		x.Fail(r.Cause, "", 0)
	}})
	clients := []*http.Client{p.client(false), p.client(true)}
	next := 0
	rapid.Check(t, func(rt *rapid.T) {
		plans := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("--nnookcrh")), 1, pods, -1), 1, 8).Draw(rt, "plans")
		size := rapid.SampledFrom([]int{0, 1, 100, 5000, 16000}).Draw(rt, "size")
		method := rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(rt, "method")
		c := clients[rapid.IntRange(0, 1).Draw(rt, "client")]
		for _, plan := range plans {
			next++
			id := fmt.Sprint(next)
			req, _ := http.NewRequest(method, p.url("/"), strings.NewReader(strings.Repeat("b", size)))
			if size == 0 {
				req.Body = http.NoBody
			}
			req.Header = http.Header{"X-Plan": {plan}, "X-Id": {id}, "X-Size": {fmt.Sprint(size)}}
			res, err := c.Do(req)
			if err != nil {
				rt.Fatalf("plan %s: %v", plan, err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			status, times := outcome(plan)
			if res.StatusCode != status || err != nil || status == 200 && string(b) != "ok" {
				rt.Fatalf("plan %s: answer %d %q (%v), want %d", plan, res.StatusCode, b, err, status)
			}
			if res.Header.Get(NotAdmittedHeader) != "" {
				rt.Fatalf("plan %s: the private header reached the client", plan)
			}
			if i := strings.Trim(plan, "-n"); i != "" && i[0] == 'k' {
				<-ended // an end that nobody announced, and that the next request must not notice
			}
			got := int64(0)
			if n, ok := seen.Load(id); ok {
				got = n.(*atomic.Int64).Load()
			}
			if got != int64(times) {
				rt.Fatalf("plan %s: applications saw the request %d times, want %d", plan, got, times)
			}
		}
	})
}

// TestFidelityReplayIsBounded sends a body larger than what is kept to a pod that does not admit it: the request
// cannot go to another pod any more.
func TestFidelityReplayIsBounded(t *testing.T) {
	for _, x := range crossings {
		t.Run(x.name, func(t *testing.T) {
			app := func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set(NotAdmittedHeader, "full")
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			p := newProxy(t, goApp(t, app), proxyOptions{pool: PoolConfig{Protocol: x.upstream, NotAdmitted: true}})
			for _, size := range []int{1000, 16 << 10, 16<<10 + 1, 100_000} {
				res, err := p.client(x.inbound2).Post(p.url("/"), "", strings.NewReader(strings.Repeat("x", size)))
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				r := p.wantCause(fault.NotAdmitted)
				if res.StatusCode != 503 || r.Retryable != (size <= 16<<10) {
					t.Errorf("body of %d bytes: answer %d, result %+v", size, res.StatusCode, r)
				}
			}
		})
	}
}

// TestFidelityH2GoAway has a pod that restarts its HTTP/2 connection with GOAWAY between requests, and one that
// refuses a stream: the request goes out again, since it certainly was not processed.
func TestFidelityH2GoAway(t *testing.T) {
	var requests atomic.Int64
	app := func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Connection", "close") // GOAWAY
		_, _ = io.Copy(w, r.Body)
	}
	p := newProxy(t, goApp(t, app), proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}})
	c := p.h2Client()
	const n = 20
	for range n {
		res, err := c.Post(p.url("/"), "", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || string(b) != "body" || err != nil {
			t.Fatalf("answer = %d %q, %v", res.StatusCode, b, err)
		}
	}
	if got := requests.Load(); got != n {
		t.Errorf("the application saw %d requests, want %d", got, n)
	}
}

// TestReplay checks the kept body against a plain byte slice.
func TestReplay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(rt, "body")
		limit := rapid.IntRange(0, 40).Draw(rt, "limit")
		src := &slowReader{data: body, sizes: rapid.SliceOfN(rapid.IntRange(1, 20), 1, 10).Draw(rt, "reads")}
		r := newReplay(src, limit, nil)
		for try := range 3 {
			a, err := r.attempt()
			if r.consumed() > int64(limit) {
				if err == nil {
					rt.Fatalf("attempt %d was given after %d bytes, limit %d", try, r.consumed(), limit)
				}
				return
			}
			if err != nil {
				rt.Fatalf("attempt %d: %v after %d bytes, limit %d", try, err, r.consumed(), limit)
			}
			stop := rapid.IntRange(0, len(body)+1).Draw(rt, "stop")
			got := make([]byte, 0, len(body))
			for len(got) < stop {
				b := make([]byte, rapid.IntRange(1, 30).Draw(rt, "size"))
				n, err := a.Read(b)
				got = append(got, b[:n]...)
				if errors.Is(err, io.EOF) {
					if len(got) != len(body) {
						rt.Fatalf("attempt %d ended after %d of %d bytes", try, len(got), len(body))
					}
					break
				}
			}
			if string(got) != string(body[:len(got)]) {
				rt.Fatalf("attempt %d read %q of %q", try, got, body)
			}
			a.Close()
			if _, err := a.Read(make([]byte, 1)); !errors.Is(err, errReplayLost) {
				rt.Fatalf("a closed attempt reads on: %v", err)
			}
		}
	})
}

// slowReader gives a few bytes at a time.
type slowReader struct {
	data  []byte
	sizes []int
	i     int
}

func (s *slowReader) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.sizes[s.i%len(s.sizes)])], s.data)
	s.i++
	s.data = s.data[n:]
	return n, nil
}

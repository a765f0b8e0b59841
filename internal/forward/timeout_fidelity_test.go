package forward

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
)

// bubble runs a subtest in virtual time.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// TestFidelityTimeouts lets each limit strike before and inside a response.
func TestFidelityTimeouts(t *testing.T) {
	const short, long = time.Second, time.Hour
	set := func(limits Timeouts) proxyOptions {
		return proxyOptions{before: func(x Exchange) { x.SetTimeouts(limits) }}
	}
	for _, tc := range []struct {
		name   string
		limits Timeouts
		cause  fault.Cause
	}{
		{"whole", Timeouts{Total: short, FirstByte: long, Idle: long}, fault.TimeoutTotal},
		{"response start", Timeouts{Total: long, FirstByte: short}, fault.TimeoutFirstByte},
		{"idle", Timeouts{Idle: short}, fault.TimeoutIdle},
	} {
		bubble(t, tc.name+" before the response", func(t *testing.T) {
			a := newMemApp(t)
			p := newProxy(t, a, set(tc.limits))
			client := p.dial()
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			pod := a.accept()
			pod.head()
			client.wantHead("HTTP/1.1 504 ")
			pod.wantEnd()
			if r := p.wantCause(tc.cause); r.Status != 504 {
				t.Errorf("result = %+v", r)
			}
		})
		if tc.cause == fault.TimeoutFirstByte {
			continue
		}
		for framing, head := range map[string]string{
			"length": "Content-Length: 1000\r\n\r\nabc", "chunked": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		} {
			bubble(t, tc.name+" inside a response by "+framing, func(t *testing.T) {
				a := newMemApp(t)
				p := newProxy(t, a, set(tc.limits))
				client := p.dial()
				client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				pod := a.accept()
				pod.head()
				pod.send("HTTP/1.1 200 OK\r\n" + head)
				want := "HTTP/1.1 200 OK\r\n" + head
				if got := client.wantEnd(); got != want {
					t.Errorf("client got  %q\nwant exactly %q", got, want)
				}
				pod.wantEnd()
				if r := p.wantCause(tc.cause); r.Status != 200 {
					t.Errorf("result = %+v", r)
				}
			})
		}
	}
	for _, inbound2 := range []bool{false, true} {
		for _, proto := range []endpoint.Protocol{endpoint.H1, endpoint.H2C} {
			bubble(t, fmt.Sprintf("a stream lasts longer: h2 %v, to a pod of %v", inbound2, proto), func(t *testing.T) {
				a := goAppOn(t, listen(t, true), func(w http.ResponseWriter, _ *http.Request) {
					_, _ = io.WriteString(w, "abc")
					w.(http.Flusher).Flush()
					time.Sleep(5 * short)
					_, _ = io.WriteString(w, "def")
				})
				o := set(Timeouts{Total: short, Streams: true})
				o.pool.Protocol = proto
				p := newProxy(t, a, o)
				res, err := p.client(inbound2).Get(p.url("/"))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if b, err := io.ReadAll(res.Body); err != nil || string(b) != "abcdef" {
					t.Errorf("body = %q, %v", b, err)
				}
				p.wantCause(fault.None)
			})
		}
	}
	bubble(t, "a request that streams nothing", func(t *testing.T) {
		a := newMemApp(t)
		p := newProxy(t, a, set(Timeouts{Total: short, Streams: true}))
		client := p.dial()
		client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		pod := a.accept()
		pod.head()
		client.wantHead("HTTP/1.1 504 ")
		pod.wantEnd()
		p.wantCause(fault.TimeoutTotal)
	})
	bubble(t, "response start says nothing about the rest", func(t *testing.T) {
		a := newMemApp(t)
		p := newProxy(t, a, set(Timeouts{FirstByte: short}))
		client := p.dial()
		client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		pod := a.accept()
		pod.head()
		pod.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
		client.head()
		client.want("abc")
		time.Sleep(2 * short)
		pod.send("def")
		client.want("def")
		p.wantCause(fault.None)
	})
	bubble(t, "a client that does not read is cut by the whole limit", func(t *testing.T) {
		a := newMemApp(t)
		p := newProxy(t, a, set(Timeouts{Total: 4 * short}))
		client := p.dial()
		client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		pod := a.accept()
		pod.head()
		pod.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		block := make([]byte, 1<<20)
		for {
			if _, err := pod.c.Write(block); err != nil {
				break
			}
		}
		p.wantCause(fault.TimeoutTotal)
	})
	bubble(t, "waiting in a queue does not count", func(t *testing.T) {
		queue := breaker.New(0, 10)
		a := newMemApp(t)
		p := newProxy(t, a, proxyOptions{handler: func(p *proxy, x Exchange) {
			x.SetTimeouts(Timeouts{Total: short, FirstByte: short, Idle: short})
			if err := queue.Acquire(x.Waiter()); err != nil {
				t.Errorf("Acquire = %v", err)
			}
			defer queue.Release()
			p.forward(x)
		}})
		client := p.dial()
		client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		time.Sleep(3 * short)
		if n := queue.Counts().Pending; n != 1 {
			t.Fatalf("pending = %d", n)
		}
		queue.SetCapacity(1)
		pod := a.accept()
		pod.head()
		pod.send(response("ok"))
		client.want(response("ok"))
		p.wantCause(fault.None)
	})
	bubble(t, "the queue's deadline", func(t *testing.T) {
		queue := breaker.New(0, 10)
		a := newMemApp(t)
		p := newProxy(t, a, proxyOptions{handler: func(p *proxy, x Exchange) {
			x.SetWaitDeadline(time.Now().Add(short))
			err := queue.Acquire(x.Waiter())
			x.SetWaitDeadline(time.Time{})
			if !errors.Is(err, fault.QueueDeadline) {
				t.Errorf("Acquire = %v, want %v", err, fault.QueueDeadline)
			}
			x.Fail(fault.QueueDeadline, "", 1500*time.Millisecond)
		}})
		client := p.dial()
		client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		res, _ := readResponse(client, "GET")
		if res.StatusCode != 503 || res.Header.Get("Retry-After") != "2" {
			t.Errorf("answer = %d %v, want 503 and Retry-After: 2", res.StatusCode, res.Header)
		}
	})
}

package forward

import (
	"errors"
	"io"
	"testing"

	"github.com/rousehq/rouse/breaker"
	"github.com/rousehq/rouse/internal/fault"
)

// TestFidelityClientGone has clients leave in every phase of a request, in both ways in which a client leaves.
func TestFidelityClientGone(t *testing.T) {
	leave := map[string]func(p *peer){
		"RST": func(p *peer) { p.reset() },
		"FIN": func(p *peer) { p.close() },
	}
	for how, left := range leave {
		t.Run(how+" while the pod is silent", func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			client := p.dial()
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			pod := a.accept()
			pod.head()
			left(client)
			pod.wantEnd()
			if r := p.wantCause(fault.ClientGone); r.Status != 0 || r.Retryable {
				t.Errorf("result = %+v", r)
			}
		})
		t.Run(how+" inside the response", func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			client := p.dial()
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			pod := a.accept()
			pod.head()
			pod.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
			client.head()
			client.want("abc")
			left(client)
			pod.wantEnd()
			if r := p.wantCause(fault.ClientGone); r.Status != 200 {
				t.Errorf("result = %+v", r)
			}
		})
		t.Run(how+" inside the request body", func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			client := p.dial()
			client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
			pod := a.accept()
			pod.head()
			pod.want("abc")
			left(client)
			if rest := pod.wantEnd(); rest != "" {
				t.Errorf("the pod was sent %q", rest)
			}
			p.wantCause(fault.ClientGone)
		})
		t.Run(how+" while parked", func(t *testing.T) {
			queue := breaker.New(0, 10)
			parked := make(chan error, 1)
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{handler: func(p *proxy, x Exchange) {
				err := queue.Acquire(x.Waiter())
				if !x.Gone() {
					t.Error("the client that left is not gone")
				}
				x.Fail(fault.ClientGone, "", 0)
				parked <- err
			}})
			client := p.dial()
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			eventually(t, "the request is parked", func() bool { return queue.Counts().Pending == 1 })
			left(client)
			if err := <-parked; !errors.Is(err, fault.ClientGone) {
				t.Errorf("Acquire = %v, want %v", err, fault.ClientGone)
			}
			if n := queue.Counts().Pending; n != 0 {
				t.Errorf("pending = %d after the client left", n)
			}
		})
	}
}

// TestFidelityFINIsLeaving half-closes a connection after a complete request. HTTP/1 has no half-closed requests
// worth serving: most clients that do this are gone.
func TestFidelityFINIsLeaving(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	client := p.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	pod := a.accept()
	pod.head()
	client.fin()
	pod.wantEnd()
	p.wantCause(fault.ClientGone)
}

// TestFidelityPipelinedClientIsNotGone checks that bytes behind a request, which make the socket readable, are not
// taken for a hang-up.
func TestFidelityPipelinedClientIsNotGone(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	client := p.dial()
	client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
	pod := a.accept()
	pod.wantHead("GET /1 ")
	client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
	pod.send(response("one"))
	client.want(response("one"))
	pod.wantHead("GET /2 ")
	pod.send(response("two"))
	client.want(response("two"))
	p.wantCause(fault.None)
	p.wantCause(fault.None)
}

// TestFidelityUpstreamAborted ends the pod's connection inside a response: the client must not take it for complete.
func TestFidelityUpstreamAborted(t *testing.T) {
	for name, tc := range map[string]struct {
		reply string
		end   func(p *peer)
	}{
		"length, FIN":  {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", func(p *peer) { p.close() }},
		"length, RST":  {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", func(p *peer) { p.reset() }},
		"chunked, FIN": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", func(p *peer) { p.close() }},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			client := p.dial()
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			pod := a.accept()
			pod.head()
			pod.send(tc.reply)
			client.want(tc.reply)
			tc.end(pod)
			if rest, _ := io.ReadAll(client.br); len(rest) > 0 {
				t.Errorf("client was sent %q", rest)
			}
			p.wantCause(fault.UpstreamAborted)
		})
	}
}

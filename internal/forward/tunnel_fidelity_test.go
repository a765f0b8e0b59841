package forward

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

const upgradeRequest = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nConnection: keep-alive, Upgrade\r\n\r\n"
const upgradeReply = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"

// upgraded opens a tunnel through p, with bytes that came early on both sides.
func upgraded(t testing.TB, a *app, p *proxy, early, earlyDown string) (client, pod *peer) {
	t.Helper()
	client = p.dial()
	client.send(upgradeRequest + early)
	pod = a.accept()
	r := pod.wantHead("GET /ws HTTP/1.1\r\n")
	for _, want := range []string{"\r\nUpgrade: websocket\r\n", "\r\nConnection: Upgrade\r\n", "\r\nSec-WebSocket-Key: k\r\n"} {
		if !strings.Contains(r, want) {
			t.Fatalf("head %q lacks %q", r, want)
		}
	}
	pod.send(upgradeReply + earlyDown)
	h := client.wantHead("HTTP/1.1 101 Switching Protocols\r\n")
	for _, want := range []string{"\r\nupgrade: websocket\r\n", "\r\nConnection: Upgrade\r\n", "\r\nSec-WebSocket-Accept: x\r\n"} {
		if !strings.Contains(h, want) {
			t.Fatalf("head %q lacks %q", h, want)
		}
	}
	pod.want(early)
	client.want(earlyDown)
	return client, pod
}

func TestFidelityTunnel(t *testing.T) {
	t.Run("early bytes, then both ways", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client, pod := upgraded(t, a, p, "early up", "early down")
		for range 3 {
			client.send("ping")
			pod.want("ping")
			pod.send("pong")
			client.want("pong")
		}
		client.close()
		pod.wantEnd()
		pod.close()
		r := p.result()
		if !r.Upgraded || r.Status != 101 || r.RequestBytes != 20 || r.ResponseBytes != 22 {
			t.Errorf("result = %+v", r)
		}
	})
	t.Run("the client's half-close leaves the pod's direction open", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client, pod := upgraded(t, a, p, "", "")
		client.send("last words")
		client.fin()
		if got := pod.wantEnd(); got != "last words" {
			t.Fatalf("pod got %q", got)
		}
		pod.send("an answer after that")
		client.want("an answer after that")
		pod.fin()
		if rest := client.wantEnd(); rest != "" {
			t.Fatalf("rest = %q", rest)
		}
		p.result()
	})
	t.Run("the pod's half-close leaves the client's direction open", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client, pod := upgraded(t, a, p, "", "")
		pod.fin()
		client.wantEnd()
		client.send("still here")
		pod.want("still here")
		client.fin()
		pod.wantEnd()
		p.result()
	})
	t.Run("a reset of one side ends the other", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client, pod := upgraded(t, a, p, "", "")
		client.reset()
		pod.wantEnd()
		p.result()
	})
	bubble(t, "request limits do not cut it", func(t *testing.T) {
		const short = 50 * time.Millisecond
		a := newMemApp(t)
		p := newProxy(t, a, proxyOptions{before: func(x Exchange) {
			x.SetTimeouts(Timeouts{Total: short, FirstByte: short, Idle: short})
		}})
		client, pod := upgraded(t, a, p, "", "")
		time.Sleep(4 * short)
		client.send("ping")
		pod.want("ping")
		pod.send("pong")
		client.want("pong")
	})
	bubble(t, "its own idle limit counts both directions", func(t *testing.T) {
		const idle = 200 * time.Millisecond
		a := newMemApp(t)
		p := newProxy(t, a, proxyOptions{before: func(x Exchange) { x.SetTimeouts(Timeouts{Tunnel: idle}) }})
		client, pod := upgraded(t, a, p, "", "")
		for range 6 { // only one direction moves, for longer than the limit
			time.Sleep(idle / 4)
			pod.send("tick")
			client.want("tick")
		}
		client.wantEnd()
		pod.wantEnd()
		if r := p.result(); !r.Upgraded {
			t.Errorf("result = %+v", r)
		}
	})
	t.Run("a refused upgrade is an ordinary response", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(upgradeRequest)
		pod := a.accept()
		pod.head()
		pod.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		client.wantHead("HTTP/1.1 403 ")
		client.want("no")
		client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
		pod.wantHead("GET /next ")
		pod.send(response("ok"))
		client.want(response("ok"))
	})
	t.Run("shutdown waits for it and cuts it when its context ends", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client, pod := upgraded(t, a, p, "", "")
		eventually(t, "the tunnel is counted", func() bool { return p.srv.Stats().Tunnels == 1 })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- p.srv.Shutdown(ctx) }()
		client.send("ping")
		pod.want("ping")
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown = %v", err)
		}
		client.wantEnd()
		pod.wantEnd()
		p.result()
	})
}

func TestFidelityH2CUpgradeIsNotPassedOn(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	client := p.dial()
	client.send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n")
	pod := a.accept()
	pod.want("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	pod.send(response("ok"))
	client.want(response("ok"))
	p.wantCause(fault.None)
}

package main

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestDrainGoesOnWhileRequestsCome: a router that hears late sends requests on connections that it has kept, and kubelet
// goes on asking. The drain ends when 2 s have passed since the last request.
func TestDrainGoesOnWhileRequestsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &settings{Pod: "activator-1", MaxIdlePerHost: 10, DrainMinimum: 10 * time.Second, DrainQuiet: 2 * time.Second, DrainMaximum: time.Hour}
		p := &plane{log: slog.New(slog.DiscardHandler), queueLimit: 100, synced: make(chan struct{})}
		if err := p.build(s, unheard{}, prometheus.NewRegistry()); err != nil {
			t.Fatal(err)
		}
		close(p.synced)
		ln := make(pipes)
		served := make(chan error, 1)
		go func() { served <- p.server.Serve(t.Context(), ln) }()
		dial := func() net.Conn {
			here, there := net.Pipe()
			ln <- there
			return here
		}
		ask := func(c net.Conn, agent string) {
			t.Helper()
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: cart\r\nUser-Agent: "+agent+"\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || !resp.Close {
				t.Fatalf("asked = %v, %v; want an answer that closes the connection", resp, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			c.Close()
		}
		var kept []net.Conn
		for range 20 {
			kept = append(kept, dial())
		}
		time.Sleep(time.Minute)
		drained := make(chan time.Time, 1)
		go func() {
			if err := p.drain(s, nil); err != nil {
				t.Errorf("drain = %v", err)
			}
			drained <- time.Now()
		}()
		var last time.Time
		for _, c := range kept {
			time.Sleep(time.Second)
			if len(drained) > 0 {
				t.Fatalf("the drain ended %s after a request", time.Since(last))
			}
			last = time.Now()
			ask(c, "curl") // nobody has the host: any answer will do
		}
		time.Sleep(time.Second + drainPoll/2) // not while the drain looks: a connection is a client's until it asks
		ask(dial(), "kube-probe/1")
		if quiet := (<-drained).Sub(last); quiet < 2*time.Second || quiet > 2*time.Second+2*drainPoll {
			t.Errorf("the drain ended %s after the last request, want 2s", quiet)
		}
		close(ln)
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve = %v", err)
		}
	})
}

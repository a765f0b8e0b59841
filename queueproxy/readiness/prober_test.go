package readiness

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// app is an application that takes connections from a moment on.
type app struct {
	from  time.Time
	err   error // before that
	tries atomic.Int64
}

func (a *app) dial(context.Context, string, string) (net.Conn, error) {
	a.tries.Add(1)
	if time.Now().Before(a.from) {
		return nil, a.err
	}
	ours, theirs := net.Pipe()
	theirs.Close()
	return ours, nil
}

func patient(threshold int) []Probe {
	return []Probe{{Kind: TCP, Address: "127.0.0.1:8080", Patient: true, SuccessThreshold: threshold}}
}

// TestPatientProbe measures, in virtual time, how soon after the start a probe that waits for it answers, and how many
// tries that takes.
func TestPatientProbe(t *testing.T) {
	for _, c := range []struct {
		name      string
		up        time.Duration
		before    error
		threshold int
		ready     bool
		least     time.Duration
		most      time.Duration
		tries     int64
	}{
		{"up already", 0, nil, 1, true, 0, 0, 1},
		{"refused for 200 ms", 200 * time.Millisecond, syscall.ECONNREFUSED, 1, true, 200 * time.Millisecond, 207 * time.Millisecond, 120},
		{"refused for 5 s", 5 * time.Second, syscall.ECONNREFUSED, 1, true, 5 * time.Second, 5050 * time.Millisecond, 250},
		{"reached, but failing, for 1 s", time.Second, syscall.ECONNRESET, 1, true, time.Second, 1050 * time.Millisecond, 21},
		{"three in a row", 0, nil, 3, true, 100 * time.Millisecond, 100 * time.Millisecond, 3},
		{"never", time.Hour, syscall.ECONNRESET, 1, false, 10 * time.Second, 10 * time.Second, 201},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				a := &app{from: began.Add(c.up), err: c.before}
				p := New(Config{Probes: patient(c.threshold), Dial: a.dial})
				got := p.Ready(t.Context())
				took := time.Since(began)
				if got != c.ready || took < c.least || took > c.most || a.tries.Load() > c.tries {
					t.Errorf("Ready = %t after %s and %d tries, want %t after %s to %s and at most %d tries", got, took, a.tries.Load(), c.ready, c.least, c.most, c.tries)
				}
			})
		})
	}
}

// TestImpatientProbe: an answer of the application is final, for kubelet has its own period. A connection that is refused is
// no answer: kubelet's first question comes before many an application listens, and the next one a whole period later.
func TestImpatientProbe(t *testing.T) {
	for _, c := range []struct {
		name   string
		up     time.Duration
		before error
		ready  bool
		least  time.Duration
		most   time.Duration
		tries  int64
	}{
		{"up already", 0, nil, true, 0, 0, 1},
		{"an answer that says no", time.Hour, syscall.ECONNRESET, false, 0, 0, 1},
		{"listens within the timeout", 400 * time.Millisecond, syscall.ECONNREFUSED, true, 400 * time.Millisecond, 413 * time.Millisecond, 150},
		{"does not listen within the timeout", time.Hour, syscall.ECONNREFUSED, false, time.Second, time.Second, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				a := &app{from: began.Add(c.up), err: c.before}
				p := New(Config{Probes: []Probe{{Kind: TCP, Timeout: time.Second, SuccessThreshold: 3}}, Dial: a.dial})
				got := p.Ready(t.Context())
				took := time.Since(began)
				if got != c.ready || took < c.least || took > c.most || a.tries.Load() > c.tries {
					t.Errorf("Ready = %t after %s and %d tries, want %t after %s to %s and at most %d tries", got, took, a.tries.Load(), c.ready, c.least, c.most, c.tries)
				}
			})
		})
	}
}

func TestImpatientProbeEndsAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		p := New(Config{Probes: []Probe{{Kind: TCP, Timeout: 3 * time.Second}}, Dial: silent})
		began := time.Now()
		if got, took := p.Ready(t.Context()), time.Since(began); got || took != 3*time.Second {
			t.Errorf("Ready = %t after %s, want false after 3s", got, took)
		}
	})
}

// TestCallersShareOneRun has 50 callers ask while the application starts: they get one answer from one series of tries.
func TestCallersShareOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &app{from: time.Now().Add(time.Second), err: syscall.ECONNRESET}
		p := New(Config{Probes: patient(1), Dial: a.dial})
		var ready atomic.Int64
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if p.Ready(t.Context()) {
					ready.Add(1)
				}
			})
		}
		all.Wait()
		if ready.Load() != 50 || a.tries.Load() != 21 {
			t.Errorf("%d of 50 ready by %d tries, want all by 21", ready.Load(), a.tries.Load())
		}
	})
}

// TestDrainEndsARun: nobody waits 10 s for an application that will not be used.
func TestDrainEndsARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &app{from: time.Now().Add(time.Hour), err: syscall.ECONNRESET}
		p := New(Config{Probes: patient(1), Dial: a.dial})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if got, took := p.Ready(ctx), time.Since(began); got || took != 2*time.Second {
			t.Errorf("Ready = %t after %s, want false after 2s", got, took)
		}
	})
}

func TestEveryContainerMustBeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := "127.0.0.1:9000"
		p := New(Config{
			Probes: []Probe{{Kind: TCP, Address: "127.0.0.1:8080", Timeout: time.Second}, {Kind: TCP, Address: second, Timeout: time.Second}},
			Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
				if addr == second {
					return nil, syscall.ECONNREFUSED
				}
				ours, theirs := net.Pipe()
				theirs.Close()
				return ours, nil
			},
		})
		if p.Ready(t.Context()) {
			t.Error("ready with one container of two")
		}
	})
	if !New(Config{}).Ready(t.Context()) {
		t.Error("not ready without probes, want always ready")
	}
}

func httpProbe(addr, path string, headers ...Header) []Probe {
	return []Probe{{Kind: HTTP, Address: addr, Scheme: "http", Path: path, Headers: headers, Timeout: 10 * time.Second}}
}

func TestHTTPProbe(t *testing.T) {
	var seen http.Header
	var host string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen, host = r.Header.Clone(), r.Host
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/down", http.StatusFound)
		case "/away":
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		case "/down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/399":
			w.WriteHeader(399)
		case "/400":
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	for path, want := range map[string]bool{"/": true, "/399": true, "/400": false, "/down": false, "/moved": false, "/away": true} {
		if got := New(Config{Probes: httpProbe(addr, path)}).Ready(t.Context()); got != want {
			t.Errorf("Ready(%s) = %t, want %t", path, got, want)
		}
	}
	New(Config{Probes: httpProbe(addr, "/", Header{"Host", "example.com"}, Header{"X-Custom", "yes"})}).Ready(t.Context())
	if host != "example.com" || seen.Get("X-Custom") != "yes" || !strings.HasPrefix(seen.Get("User-Agent"), "kube-probe/") {
		t.Errorf("the application saw host %q and %v, want the probe's own host and header, and kubelet's agent", host, seen)
	}
}

// TestDetectHTTP2 probes applications that speak one protocol only.
func TestDetectHTTP2(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2c=%t", h2c), func(t *testing.T) {
			var major atomic.Int64
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { major.Store(int64(r.ProtoMajor)) }))
			srv.Config.Protocols = new(http.Protocols)
			srv.Config.Protocols.SetHTTP1(!h2c)
			srv.Config.Protocols.SetUnencryptedHTTP2(h2c)
			srv.Start()
			defer srv.Close()
			p := New(Config{Probes: httpProbe(srv.Listener.Addr().String(), "/"), DetectHTTP2: true})
			want := int64(1)
			if h2c {
				want = 2
			}
			for range 2 {
				if got := p.Ready(t.Context()); !got || major.Load() != want {
					t.Errorf("Ready = %t over HTTP/%d, want true over HTTP/%d", got, major.Load(), want)
				}
			}
		})
	}
}

// TestGRPCProbe asks a server that answers as gRPC does: framed message, status in the trailers.
func TestGRPCProbe(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer []byte
		status string
		want   bool
	}{
		{"serving", []byte{0, 0, 0, 0, 2, 8, 1}, "0", true},
		{"not serving", []byte{0, 0, 0, 0, 2, 8, 2}, "0", false},
		{"unknown", []byte{0, 0, 0, 0, 0}, "0", false},
		{"unimplemented", nil, "12", false},
		{"cut", []byte{0, 0, 0, 0, 2, 8}, "0", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/grpc.health.v1.Health/Check" || r.Header.Get("Content-Type") != "application/grpc" {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				w.Header().Set("Trailer", "Grpc-Status")
				_, _ = w.Write(c.answer)
				w.Header().Set("Grpc-Status", c.status)
			}))
			srv.Config.Protocols = new(http.Protocols)
			srv.Config.Protocols.SetUnencryptedHTTP2(true)
			srv.Start()
			defer srv.Close()
			p := New(Config{Probes: []Probe{{Kind: GRPC, Address: srv.Listener.Addr().String(), Service: "shop", Timeout: 10 * time.Second}}})
			if got := p.Ready(t.Context()); got != c.want {
				t.Errorf("Ready = %t, want %t", got, c.want)
			}
		})
	}
}

//go:build linux

package proxybench

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rousehq/rouse/bench/backend"
	"github.com/rousehq/rouse/bench/cpuclock"
	"github.com/rousehq/rouse/bench/internal/poll"
)

// inProcess is a target without a process: its CPU time is the test's.
type inProcess struct {
	name  string
	at    netip.AddrPort
	turns int
}

func (p *inProcess) row() Row                           { return Row{Contender: p.name} }
func (p *inProcess) addr() netip.AddrPort               { return p.at }
func (p *inProcess) dial(a netip.AddrPort) (int, error) { return poll.Dial(a) }
func (p *inProcess) begin(context.Context) error        { p.turns++; return nil }
func (p *inProcess) end()                               {}
func (p *inProcess) cpu() (d time.Duration, err error)  { return cpuclock.Of(os.Getpid()) }

// serveApp runs the benchmark's backend for the length of the test.
func serveApp(t *testing.T) netip.AddrPort {
	t.Helper()
	s, err := backend.Listen(loopback(0))
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
	return s.Addr()
}

// reverse runs the standard library's proxy in front of app.
func reverse(t *testing.T, app netip.AddrPort) netip.AddrPort {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: app.String()})
	proxy.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelError)
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return netip.MustParseAddrPort(server.Listener.Addr().String())
}

func TestRunInterleaves(t *testing.T) {
	app := serveApp(t)
	alone := &inProcess{"direct", app, 0}
	targets := []target{&inProcess{"backend", app, 0}, &inProcess{"reverse", reverse(t, app), 0}}
	wanted, err := chosenScenarios([]string{"c1", "post1k", "open6000"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range wanted {
		wanted[i].rate = min(wanted[i].rate, 500) // the test's machine is shared
	}
	rows, err := run(t.Context(), plan{rounds: 2, duration: time.Minute, requests: 30}, wanted, targets, alone, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, r := range rows {
		order = append(order, r.Scenario+" "+r.Contender)
		if r.Requests == 0 || r.Errors > 0 || r.CPUMicros <= 0 || r.RPS <= 0 || r.P50 <= 0 || r.P99 < r.P50 {
			t.Errorf("row %+v, want answers and figures", r)
		}
		if (r.DirectP50 > 0) != (r.Scenario == "open6000") {
			t.Errorf("%s has a latency without proxy of %g", r.Scenario, r.DirectP50)
		}
	}
	want := []string{
		"c1 backend", "c1 reverse", "post1k backend", "post1k reverse", "open6000 backend", "open6000 reverse",
		"c1 reverse", "c1 backend", "post1k reverse", "post1k backend", "open6000 reverse", "open6000 backend",
	}
	if !slices.Equal(order, want) {
		t.Errorf("order of turns = %q, want %q", order, want)
	}
	if alone.turns != 2 {
		t.Errorf("the backend alone had %d turns, want one per round", alone.turns)
	}
}

func TestRunSaysWhoFailed(t *testing.T) {
	fd, dead, err := poll.Listen(loopback(0))
	if err != nil {
		t.Fatal(err)
	}
	poll.CloseFD(fd)
	wanted, err := chosenScenarios([]string{"c1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = run(t.Context(), plan{rounds: 1, duration: 50 * time.Millisecond}, wanted, []target{&inProcess{"gone", dead, 0}}, nil, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "gone, c1, round 1") {
		t.Errorf("run = %v, want the contender, scenario and round", err)
	}
}

// TestContest drives real processes: the test binary serves as backend and, without a proxy between, as contender.
func TestContest(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	at, err := allowedCores()
	if err != nil {
		t.Fatal(err)
	}
	c, err := newContest(direct(self), self, t.TempDir(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	if !c.arena.isolated { // then the fixed ports may be another's
		c.at.proxy, c.at.backend = freePort(t), freePort(t)
		c.backend = backendAt(self, c.at.backend)
	}
	if err := c.weigh(t.Context(), 50); err != nil {
		t.Fatal(err)
	}
	if c.memory.rss < 1<<20 {
		t.Errorf("base RSS = %d, want a process's", c.memory.rss)
	}
	wanted, err := chosenScenarios([]string{"c1"})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := run(t.Context(), plan{rounds: 1, duration: time.Minute, requests: 30}, wanted, []target{proxied{c}}, nil, io.Discard)
	if err != nil || len(rows) != 1 || rows[0].CPUMicros <= 0 || rows[0].RSS != c.memory.rss {
		t.Errorf("run = %+v, %v", rows, err)
	}
	// The backend is no proxy: it passes what it echoes, and must fail what a proxy adds or refuses.
	c.ours = true
	if err := c.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.down()
	var out bytes.Buffer
	if err := c.qualify(t.Context(), &out); err == nil || !strings.Contains(err.Error(), "not faithful") {
		t.Errorf("qualify = %v, want a refusal", err)
	}
}

func TestProcessThatEndsEarlyIsExplained(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a, err := newArena()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	at, err := allowedCores()
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.start(command{path: self, args: []string{"-listen", "nonsense"}}, at.proxy, at.rest)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if err := p.ready(t.Context(), a, freePort(t)); err == nil || !strings.Contains(err.Error(), "not an ip:port") {
		t.Errorf("ready = %v, want the process's last words", err)
	}
	if _, err := a.start(command{path: "/nowhere"}, at.proxy, at.rest); err == nil {
		t.Error("start of nothing = nil, want an error")
	}
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, addr, err := poll.Listen(loopback(0))
	if err != nil {
		t.Fatal(err)
	}
	poll.CloseFD(fd)
	return addr
}

func TestFidelityTellsProxiesApart(t *testing.T) {
	at := reverse(t, serveApp(t))
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", at.String())
	}
	passed, err := checkFidelity(t.Context(), dial)
	if err == nil {
		t.Fatal("net/http reorders headers, but passed")
	}
	for _, want := range []string{"header case", "response header case"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("checkFidelity = %v, want a failure of %q", err, want)
		}
	}
	for _, fine := range []string{"chunked body", "refused: NUL", "refused: two Hosts"} {
		if strings.Contains(err.Error(), fine) {
			t.Errorf("checkFidelity = %v, but net/http does well in %q", err, fine)
		}
	}
	if passed == 0 {
		t.Error("nothing passed")
	}
}

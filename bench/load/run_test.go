//go:build linux

package load

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rousehq/rouse/bench/backend"
	"github.com/rousehq/rouse/bench/internal/poll"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a backend for the length of the test.
func serve(t *testing.T) netip.AddrPort {
	t.Helper()
	s, err := backend.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
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

func TestRun(t *testing.T) {
	addr := serve(t)
	cases := map[string]Config{
		"closed loop":         {Request: Get("/"), Conns: 1, MaxRequests: 200},
		"many connections":    {Request: Get("/"), Conns: 64, MaxRequests: 500},
		"post":                {Request: Post("/", 1024), Conns: 4, MaxRequests: 100},
		"64 KiB":              {Request: Get("/64k"), Conns: 4, MaxRequests: 100},
		"backend sleeps":      {Request: Get("/sleep"), Conns: 16, MaxRequests: 64},
		"open loop":           {Request: Get("/"), Conns: 8, Rate: 2000, MaxRequests: 200},
		"open loop with wait": {Request: Get("/"), Conns: 8, Rate: 2000, MaxRequests: 100, Warmup: 20 * time.Millisecond},
	}
	for name, cfg := range cases {
		t.Run(name, func(t *testing.T) {
			marks := 0
			cfg.Addr, cfg.Duration, cfg.Mark = addr, 10*time.Second, func() { marks++ }
			r, err := Run(t.Context(), cfg)
			if err != nil || r.Errors != 0 {
				t.Fatalf("Run = %d errors, first %q, err %v", r.Errors, r.FirstError, err)
			}
			if r.Requests < cfg.MaxRequests || r.RPS() <= 0 {
				t.Errorf("Run = %d requests at %.0f/s, want at least %d", r.Requests, r.RPS(), cfg.MaxRequests)
			}
			if got := r.Latency.TotalCount(); got < int64(r.Requests) {
				t.Errorf("%d latencies for %d requests", got, r.Requests)
			}
			if marks != 2 {
				t.Errorf("Mark ran %d times, want 2", marks)
			}
		})
	}
}

func TestRunCountsFromTheIntendedSend(t *testing.T) {
	addr := serve(t)
	// One connection takes 10 ms per request, and 1,000 a second are meant to leave: they fall ever further behind.
	r, err := Run(t.Context(), Config{Addr: addr, Request: Get("/sleep"), Conns: 1, Rate: 1000, Duration: 10 * time.Second, MaxRequests: 10})
	if err != nil {
		t.Fatal(err)
	}
	if p99 := r.Quantile(99); p99 < 5*backend.Sleep {
		t.Errorf("p99 = %s, want it to hold the wait before the send", p99)
	}
}

func TestRunReportsWhatBreaks(t *testing.T) {
	addr := serve(t)
	cases := map[string]struct {
		request []byte
		want    string
	}{
		"no answer":    {Get("/silent"), "no answer within 60ms"},
		"unreadable":   {[]byte("nonsense\r\n\r\n"), "server closed the connection"},
		"unasked-for":  {Get("/continue"), "status"},
		"empty target": {[]byte("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"), "server closed the connection"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dials := 0
			dial := func(a netip.AddrPort) (int, error) { // a few errors are enough
				if dials++; dials > 3 {
					cancel()
				}
				return poll.Dial(a)
			}
			r, _ := Run(ctx, Config{Addr: addr, Request: c.request, Conns: 1, Timeout: 60 * time.Millisecond, Duration: maxDuration, Dial: dial})
			if r.Errors == 0 || !strings.Contains(r.FirstError, c.want) {
				t.Errorf("Run = %d errors, first %q, want %q", r.Errors, r.FirstError, c.want)
			}
		})
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	addr := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := Config{Addr: addr, Request: Get("/"), Conns: 1, Duration: maxDuration, Mark: cancel}
	if _, err := Run(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want %v", err, context.Canceled)
	}
}

func TestValidateReportsEveryFault(t *testing.T) {
	err := Config{Addr: netip.MustParseAddrPort("192.0.2.1:80"), Rate: -1, Warmup: -1}.Validate()
	for _, want := range []string{"Addr", "Request", "Conns", "Rate", "Warmup", "Duration"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want a fault of %s", err, want)
		}
	}
}

func TestHold(t *testing.T) {
	addr := serve(t)
	parked, err := Park(addr, Get("/silent"), 20, nil)
	if err != nil || parked.Len() != 20 {
		t.Fatalf("Park = %v, %v", parked, err)
	}
	idle, err := Idle(addr, Get("/64k"), 20, nil)
	if err != nil || idle.Len() != 20 {
		t.Fatalf("Idle = %v, %v", idle, err)
	}
	parked.Close()
	idle.Close()
	if _, err := Idle(addr, []byte("nonsense\r\n\r\n"), 1, nil); err == nil {
		t.Error("Idle on a refused request = nil, want an error")
	}
	if _, err := Park(addr, nil, 0, nil); err == nil {
		t.Error("Park of nothing = nil, want an error")
	}
}

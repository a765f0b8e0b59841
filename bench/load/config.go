//go:build linux

package load

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/rousehq/rouse/bench/internal/poll"
)

// Config says what [Run] sends, where to, and when it ends.
type Config struct {
	// Addr is the server: IPv4 loopback only.
	Addr netip.AddrPort
	// Request is one whole request as it goes over the wire. See [Get] and [Post].
	Request []byte
	// Conns is how many connections are kept open, 1 to 4,096.
	Conns int
	// Rate is requests per second of an open loop; 0 means a closed loop.
	Rate int
	// Warmup passes before anything is counted, default 0.
	Warmup time.Duration
	// Duration is how long requests are counted, at most ten minutes.
	Duration time.Duration
	// MaxRequests ends the run early, default 0: no limit but time.
	MaxRequests int
	// Timeout is when a request without its answer counts as an error and its connection is replaced, default 5 s.
	Timeout time.Duration
	// Mark is called at the start and at the end of the counted window, on the loop: read the server's CPU time here.
	Mark func()
	// Dial opens a non-blocking connection, default [poll.Dial]. Give another where the server lives in a network
	// namespace of its own.
	Dial func(netip.AddrPort) (int, error)
}

const (
	maxConns    = 4096
	maxDuration = 10 * time.Minute
	maxLatency  = int64(time.Minute) // the histograms' upper bound
)

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Dial == nil {
		c.Dial = poll.Dial
	}
	if c.Mark == nil {
		c.Mark = func() {}
	}
	return c
}

// Validate reports every fault of the configuration at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, a ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, a...))
		}
	}
	fault(!c.Addr.Addr().IsLoopback() || !c.Addr.Addr().Is4(), "Addr %s: %w", c.Addr, poll.ErrNotLoopback)
	fault(len(c.Request) == 0, "Request is empty: build one with Get or Post")
	fault(c.Conns < 1 || c.Conns > maxConns, "Conns is %d: choose 1 to %d", c.Conns, maxConns)
	fault(c.Rate < 0 || c.Rate > 1_000_000, "Rate is %d: choose 0 for a closed loop, or up to 1,000,000 per second", c.Rate)
	fault(c.Warmup < 0 || c.Warmup > maxDuration, "Warmup is %s: choose 0 to %s", c.Warmup, maxDuration)
	fault(c.Duration <= 0 || c.Duration > maxDuration, "Duration is %s: choose more than 0 and up to %s", c.Duration, maxDuration)
	return errors.Join(faults...)
}

// Result is what one run saw inside its counted window.
type Result struct {
	Requests int           // answered with 200, whole
	Errors   int           // anything else
	Elapsed  time.Duration // length of the window
	// Latency holds nanoseconds: from the send of a closed loop, from the intended send of an open one.
	Latency *hdrhistogram.Histogram
	// FirstError is an example of what went wrong, "" when nothing did.
	FirstError string
}

// RPS is the rate of good answers per second.
func (r Result) RPS() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Requests) / r.Elapsed.Seconds()
}

// Quantile returns a latency; q is in percent.
func (r Result) Quantile(q float64) time.Duration {
	if r.Latency == nil {
		return 0
	}
	return time.Duration(r.Latency.ValueAtQuantile(q))
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), maxLatency, 3)
}

// Get is a GET request of about 100 bytes, the size of a bare client's head.
func Get(target string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: bench.example.com\r\nUser-Agent: rouse-bench/1\r\nAccept: */*\r\n\r\n", target)
}

// Post is a POST request with a body of size bytes.
func Post(target string, size int) []byte {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench.example.com\r\nUser-Agent: rouse-bench/1\r\nAccept: */*\r\n"+
		"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", target, size)
	for i := range size {
		b = append(b, 'a'+byte(i%26))
	}
	return b
}

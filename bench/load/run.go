//go:build linux

package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rousehq/rouse/bench/internal/poll"
	"golang.org/x/sys/unix"
)

// Fast on purpose: the generator shares a core with the backend, and a slow one starves the proxy it measures. Per
// request: one write, one read, a look at the clock per batch of events. A goroutine per connection cost 9 µs more.

const (
	sweepEvery = 50 * time.Millisecond
	drainLimit = time.Second
	timerKey   = -1
	readBuffer = 128 << 10
)

// conn is one client connection. At most one request is in flight on it.
type conn struct {
	fd    int
	reply reply
	busy  bool
	since time.Duration // when the request in flight left, or was meant to
	sent  time.Duration // when it left
}

// generator is one run. It belongs to the goroutine that called Run.
type generator struct {
	cfg     Config
	pacer   pacer
	poller  *poll.Poller
	conns   []conn
	free    []int // connections without a request, for the open loop
	buf     []byte
	began   time.Time
	now     time.Duration // since began, read once per batch
	from    time.Duration // start of the counted window
	count   bool          // inside the counted window
	ended   bool          // no new requests
	busy    int
	redials int
	swept   time.Duration
	result  Result
}

// Run loads the server until the window is over or ctx is done. It fails when the configuration is at fault, the
// server cannot be reached, or so many connections break that a result would mean nothing.
func Run(ctx context.Context, cfg Config) (Result, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	g := &generator{cfg: cfg, buf: make([]byte, readBuffer), result: Result{Latency: newHistogram()}}
	defer g.close()
	if err := g.open(); err != nil {
		return Result{}, err
	}
	if err := g.loop(ctx); err != nil {
		return g.result, err
	}
	return g.result, ctx.Err()
}

func (g *generator) open() (err error) {
	if g.poller, err = poll.New(); err != nil {
		return err
	}
	if g.pacer, err = newPacer(g.cfg, g.poller); err != nil {
		return err
	}
	g.conns = make([]conn, g.cfg.Conns)
	for i := range g.conns {
		g.conns[i].fd = -1
	}
	for i := range g.conns {
		if err := g.dial(i); err != nil {
			return err
		}
		g.free = append(g.free, i)
	}
	return nil
}

func (g *generator) dial(i int) error {
	fd, err := g.cfg.Dial(g.cfg.Addr)
	if err != nil {
		return err
	}
	g.conns[i].fd = fd
	return g.poller.Add(fd, int32(i))
}

func (g *generator) close() {
	for i := range g.conns {
		if g.conns[i].fd >= 0 {
			poll.CloseFD(g.conns[i].fd)
		}
	}
	if g.pacer != nil {
		g.pacer.close()
	}
	if g.poller != nil {
		g.poller.Close()
	}
}

// loop sends what is due, waits, takes what has come, until the run is over.
func (g *generator) loop(ctx context.Context) error {
	g.began = time.Now()
	for {
		g.now = time.Since(g.began)
		if g.phase(ctx) {
			return nil
		}
		if err := g.pacer.send(g); err != nil {
			return err
		}
		events, err := g.poller.Wait(sweepEvery)
		if err != nil {
			return err
		}
		g.now = time.Since(g.began)
		for _, e := range events {
			if e.Fd == timerKey {
				g.pacer.expired()
				continue
			}
			if err := g.take(int(e.Fd)); err != nil {
				return err
			}
		}
		if err := g.sweep(); err != nil {
			return err
		}
	}
}

// phase moves from warm-up to the counted window to the drain, and reports when the run is over.
func (g *generator) phase(ctx context.Context) bool {
	if g.ended {
		over := g.busy == 0 && g.pacer.pending() == 0
		if !over && g.now-g.from-g.result.Elapsed < drainLimit && ctx.Err() == nil {
			return false
		}
		if n := g.pacer.pending(); n > 0 {
			g.result.Errors += n
			g.blame(errors.New("due, but no connection was free"))
		}
		return true
	}
	if !g.count && g.now >= g.cfg.Warmup {
		g.cfg.Mark()
		g.now = time.Since(g.began)
		g.count, g.from = true, g.now
	}
	full := g.cfg.MaxRequests > 0 && g.result.Requests >= g.cfg.MaxRequests
	if g.count && (full || g.now-g.from >= g.cfg.Duration) || ctx.Err() != nil {
		g.cfg.Mark()
		g.result.Elapsed = g.now - g.from
		g.count, g.ended = false, true
	}
	return false
}

// start sends a request on connection i that was meant to leave at intended.
func (g *generator) start(i int, intended time.Duration) error {
	c := &g.conns[i]
	c.busy, c.since, c.sent = true, intended, g.now
	g.busy++
	n, err := unix.Write(c.fd, g.cfg.Request)
	if err == nil && n < len(g.cfg.Request) {
		err = errors.New("request did not fit the socket's buffer")
	}
	if err != nil {
		return g.broken(i, fmt.Errorf("write: %w", err))
	}
	return nil
}

// take reads what came on connection i.
func (g *generator) take(i int) error {
	c := &g.conns[i]
	n, err := unix.Read(c.fd, g.buf)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return g.broken(i, fmt.Errorf("read: %w", err))
	case n == 0:
		return g.broken(i, errors.New("server closed the connection"))
	case !c.busy:
		return g.broken(i, errors.New("response without a request"))
	}
	done, err := c.reply.feed(g.buf[:n])
	if err != nil {
		return g.broken(i, err)
	}
	if done {
		g.finish(i)
	}
	return nil
}

// finish counts a whole answer. Latency of a request that was meant to leave inside the window counts even when its
// answer came after it: leaving it out would flatter a server that falls behind.
func (g *generator) finish(i int) {
	c := &g.conns[i]
	c.busy = false
	g.busy--
	if g.count {
		g.result.Requests++
	}
	late := g.ended && g.cfg.Rate > 0 && c.since >= g.from
	if g.count || late {
		_ = g.result.Latency.RecordValue(int64(min(g.now-c.since, time.Duration(maxLatency))))
	}
	g.free = append(g.free, i)
}

// broken counts an error and replaces the connection.
func (g *generator) broken(i int, cause error) error {
	c := &g.conns[i]
	if c.busy {
		c.busy = false
		g.busy--
		g.free = append(g.free, i)
	}
	if g.count {
		g.result.Errors++
	}
	g.blame(cause)
	poll.CloseFD(c.fd)
	c.fd = -1
	c.reply.reset()
	if g.redials++; g.redials > 10*g.cfg.Conns+100 {
		return fmt.Errorf("gave up after %d broken connections: %w", g.redials, cause)
	}
	return g.dial(i)
}

func (g *generator) blame(cause error) {
	if g.result.FirstError == "" {
		g.result.FirstError = cause.Error()
	}
}

// sweep replaces connections whose answer is overdue.
func (g *generator) sweep() error {
	if g.now-g.swept < sweepEvery {
		return nil
	}
	g.swept = g.now
	for i := range g.conns {
		if c := &g.conns[i]; c.busy && g.now-c.sent > g.cfg.Timeout {
			if err := g.broken(i, fmt.Errorf("no answer within %s", g.cfg.Timeout)); err != nil {
				return err
			}
		}
	}
	return nil
}

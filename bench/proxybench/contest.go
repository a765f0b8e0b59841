//go:build linux

package proxybench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/rousehq/rouse/bench/load"
)

// contest is one contender with its arena, backend and, while it runs, its process.
type contest struct {
	contender
	arena   *arena
	cores   cores
	at      place
	backend command
	app     *process
	proxy   *process
	counted []int // of several processes, those whose CPU counts
	memory  figures
}

// figures are measured once per contender.
type figures struct {
	rss, perParked, perIdle int64
	allocs, streamed        float64 // -1: the contender does not tell
}

func newContest(c contender, backendPath, dir string, at cores) (*contest, error) {
	own := filepath.Join(dir, c.Name)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, err
	}
	a, err := newArena()
	if err != nil {
		return nil, err
	}
	where := place{own, loopback(proxyPort), loopback(backendPort)}
	return &contest{contender: c, arena: a, cores: at, at: where, backend: backendAt(backendPath, where.backend), memory: figures{allocs: -1, streamed: -1}}, nil
}

// up starts the backend and a fresh proxy; whatever ran before is ended first, and nothing runs after an error.
func (c *contest) up(ctx context.Context) error {
	c.down()
	err := c.bring(ctx)
	if err != nil {
		c.down()
	}
	return err
}

func (c *contest) bring(ctx context.Context) error {
	var err error
	if c.app, err = c.arena.start(c.backend, c.cores.rest, c.cores.rest); err != nil {
		return err
	}
	if err := c.app.ready(ctx, c.arena, c.at.backend); err != nil {
		return err
	}
	cmd, err := c.command(c.at)
	if err != nil {
		return err
	}
	core := c.cores.proxy
	if c.direct {
		core = c.cores.rest
	}
	if c.proxy, err = c.arena.start(cmd, core, c.cores.rest); err != nil {
		return err
	}
	if err := c.proxy.ready(ctx, c.arena, c.addr()); err != nil || c.proxies == nil {
		return err
	}
	return c.assemble(ctx)
}

func (c *contest) addr() netip.AddrPort { return c.at.proxy }

// down kills both; it is safe to call at any time.
func (c *contest) down() {
	for _, p := range []*process{c.proxy, c.app} {
		if p != nil {
			p.stop()
		}
	}
	c.proxy, c.app = nil, nil
}

// close ends everything.
func (c *contest) close() {
	c.down()
	c.arena.Close()
}

// weigh measures memory, each figure on a fresh process: a heap that has grown once hides what comes next.
func (c *contest) weigh(ctx context.Context, n int) error {
	parked := func() (*load.Held, error) { return load.Park(c.addr(), load.Get("/silent"), n, c.arena.dial) }
	idle := func() (*load.Held, error) { return load.Idle(c.addr(), load.Get("/"), n, c.arena.dial) }
	for _, m := range []struct {
		hold func() (*load.Held, error)
		into *int64
	}{{parked, &c.memory.perParked}, {idle, &c.memory.perIdle}} {
		if err := c.weighOne(ctx, m.hold, m.into, n); err != nil {
			return fmt.Errorf("memory of %s: %w", c.Name, err)
		}
	}
	return nil
}

func (c *contest) weighOne(ctx context.Context, hold func() (*load.Held, error), into *int64, n int) error {
	defer c.down()
	if err := c.up(ctx); err != nil {
		return err
	}
	few := load.Config{Addr: c.addr(), Request: load.Get("/"), Conns: 1, Duration: maxWarm, MaxRequests: 50, Dial: c.arena.dial}
	if r, err := load.Run(ctx, few); err != nil || r.Errors > 0 {
		return fmt.Errorf("warm-up: %d errors (%s): %w", r.Errors, r.FirstError, err)
	}
	before, err := settle(c.proxy.pid())
	if err != nil {
		return err
	}
	held, err := hold()
	if err != nil {
		return err
	}
	defer held.Close()
	after, err := settle(c.proxy.pid())
	c.memory.rss = before.RSS
	*into = max(0, after.Anon-before.Anon) / int64(n)
	return err
}

// qualify lets ours run only when it is faithful and complete.
func (c *contest) qualify(ctx context.Context, out io.Writer) error {
	if !c.ours {
		return nil
	}
	defer c.down()
	if err := c.up(ctx); err != nil {
		return err
	}
	passed, err := checkFidelity(ctx, func(ctx context.Context) (net.Conn, error) { return c.arena.connect(ctx, c.addr()) })
	if err != nil {
		return fmt.Errorf("%s is not faithful, and is not measured:\n%w", c.Name, err)
	}
	page, err := c.arena.get(ctx, loopback(adminPort), "/config")
	if err != nil {
		return fmt.Errorf("effective configuration of %s: %w", c.Name, err)
	}
	fmt.Fprintf(out, "%s passed %d fidelity checks and runs with %s\n", c.Name, passed, page)
	return checkEffective(page)
}

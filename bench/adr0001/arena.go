//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rousehq/rouse/bench/backend"
	"github.com/rousehq/rouse/bench/cpuclock"
	"github.com/rousehq/rouse/bench/load"
	"golang.org/x/sys/unix"
)

// arena is the backend and the contenders' processes.
type arena struct {
	dir     string // of HAProxy's configuration; empty without
	backend netip.AddrPort
	procs   map[string]*exec.Cmd
	addrs   map[string]netip.AddrPort
}

func newArena(ctx context.Context) (*arena, error) {
	pin(0, 1)
	b, err := backend.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	go func() { _ = b.Run(ctx) }()
	return newArenaFor(b.Addr()), nil
}

// newArenaFor returns an arena whose contenders lead to a backend that somebody else runs.
func newArenaFor(backend netip.AddrPort) *arena {
	return &arena{backend: backend, procs: map[string]*exec.Cmd{}, addrs: map[string]netip.AddrPort{}}
}

// pin keeps a process on one core, where there are several.
func pin(pid, core int) {
	var set unix.CPUSet
	set.Set(core)
	_ = unix.SchedSetaffinity(pid, &set)
}

func (a *arena) close() {
	for _, p := range a.procs {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
	if a.dir != "" {
		_ = os.RemoveAll(a.dir)
	}
}

// start runs a contender and waits until it accepts.
func (a *arena) start(name string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	cmd, err := a.command(name, addr)
	if err != nil {
		return err
	}
	cmd.Env = append(os.Environ(), "LISTEN="+addr.String(), "UP="+a.backend.String(), "GOMAXPROCS=1", "ADR0001_SERVE="+name)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	a.procs[name], a.addrs[name] = cmd, addr
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr.String()); err == nil {
			c.Close()
			return nil
		}
	}
	return fmt.Errorf("does not listen on %s", addr)
}

func (a *arena) command(name string, addr netip.AddrPort) (*exec.Cmd, error) {
	if _, program, ok := strings.Cut(name, "="); ok {
		return exec.Command("taskset", "-c", "0", program), nil
	}
	if name != "haproxy" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		return exec.Command("taskset", "-c", "0", self), nil
	}
	dir, err := os.MkdirTemp("", "adr0001")
	if err != nil {
		return nil, err
	}
	a.dir = dir
	file := filepath.Join(dir, "haproxy.cfg")
	text := fmt.Sprintf(haproxy, addr, a.backend)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return exec.Command("taskset", "-c", "0", "haproxy", "-q", "-db", "-f", file), nil
}

const haproxy = `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option forwardfor
  timeout client 300s
  timeout server 300s
  timeout connect 1s
  timeout queue 300s
frontend f
  bind %s
  default_backend b
backend b
  http-reuse always
  server s %s maxconn 2048
`

func freePort() (uint16, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// measure returns CPU microseconds per request.
func (a *arena) measure(ctx context.Context, name, scenario string, length time.Duration) (float64, error) {
	cfg := load.Config{Addr: a.addrs[name], Conns: 64, Request: load.Get("/"), Warmup: 300 * time.Millisecond, Duration: length}
	switch scenario {
	case "c1":
		cfg.Conns = 1
	case "c512":
		cfg.Conns = 512
	case "post1k":
		cfg.Request = load.Post("/", 1024)
	case "get64k":
		cfg.Request = load.Get("/64k")
	}
	var marks []time.Duration
	cfg.Mark = func() {
		used, _ := cpuclock.Of(a.procs[name].Process.Pid)
		marks = append(marks, used)
	}
	r, err := load.Run(ctx, cfg)
	if err != nil {
		return 0, err
	}
	if r.Errors > 0 || r.Requests == 0 {
		return 0, fmt.Errorf("%d requests, %d errors", r.Requests, r.Errors)
	}
	return float64(marks[1]-marks[0]) / float64(time.Microsecond) / float64(r.Requests), nil
}

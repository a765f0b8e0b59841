//go:build linux

package proxybench

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"context"
	"net"

	"github.com/rousehq/rouse/bench/internal/poll"
	"golang.org/x/sys/unix"
)

// arena is where one contender, its backend and their connections live: a network namespace with a loopback of its
// own, held by one thread. Where the kernel does not allow that, it is the machine's own network, and contenders
// must take turns on their fixed ports.
type arena struct {
	work     chan func()
	isolated bool
}

// newArena starts the arena's thread. Close ends it.
func newArena() (*arena, error) {
	a := &arena{work: make(chan func())}
	ready := make(chan error)
	go a.run(ready)
	return a, <-ready
}

// run never unlocks its thread: a thread that changed its namespace must not be reused, and ends with its goroutine.
func (a *arena) run(ready chan<- error) {
	runtime.LockOSThread()
	var err error
	if a.isolated = unix.Unshare(unix.CLONE_NEWNET) == nil; a.isolated {
		err = loopbackUp()
	}
	ready <- err
	for f := range a.work {
		f()
	}
}

// do runs f on the arena's thread: sockets it opens and processes it starts belong to the arena.
func (a *arena) do(f func() error) error {
	done := make(chan error)
	a.work <- func() { done <- f() }
	return <-done
}

// Close ends the thread; the kernel kills processes started on it.
func (a *arena) Close() { close(a.work) }

// dial is a [load.Config] Dial.
func (a *arena) dial(addr netip.AddrPort) (fd int, err error) {
	err = a.do(func() error {
		fd, err = poll.Dial(addr)
		return err
	})
	return fd, err
}

// connect opens an ordinary connection in the arena.
func (a *arena) connect(ctx context.Context, addr netip.AddrPort) (conn net.Conn, err error) {
	err = a.do(func() error {
		d := net.Dialer{Timeout: 2 * time.Second}
		conn, err = d.DialContext(ctx, "tcp4", addr.String())
		return err
	})
	return conn, err
}

// get fetches a small page from a server in the arena.
func (a *arena) get(ctx context.Context, addr netip.AddrPort, path string) ([]byte, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return a.connect(ctx, addr) },
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s%s: status %s", addr, path, response.Status)
	}
	return body, err
}

// loopbackUp brings up the loopback device of the thread's namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer poll.CloseFD(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback up: %w", err)
	}
	return nil
}

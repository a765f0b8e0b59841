//go:build linux

// Package poll is the small layer over epoll that the load generator and the benchmark's backend stand on.
//
// A benchmark's own processes share one core, so each must cost a few microseconds per request: one thread, one epoll
// instance, a read and a write per request, and no goroutine hand-offs. The package promises nothing beyond thin
// wrappers with IPv4 loopback addresses. Nothing here is safe for concurrent use.
package poll

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotLoopback reports an address that a benchmark must not load.
var ErrNotLoopback = errors.New("address is not on loopback: benchmarks load this machine only")

// Poller waits for many descriptors. Close it after use.
type Poller struct {
	fd     int
	events [512]unix.EpollEvent
}

// New returns a poller that watches nothing yet.
func New() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &Poller{fd: fd}, nil
}

// Add watches fd for input, level-triggered. Key comes back from [Poller.Wait].
func (p *Poller) Add(fd int, key int32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: key}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &e)
}

// AddOutput watches fd for input and for room to write.
func (p *Poller) AddOutput(fd int, key int32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: key}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &e)
}

// Input goes back to watching fd for input only.
func (p *Poller) Input(fd int, key int32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: key}
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &e)
}

// Wait blocks until a watched descriptor is ready or limit passes, and returns the events. A negative limit waits
// without end. An interrupted wait returns no event. The slice is valid until the next call.
func (p *Poller) Wait(limit time.Duration) ([]unix.EpollEvent, error) {
	ms := -1
	if limit >= 0 {
		ms = int((limit + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.EpollWait(p.fd, p.events[:], ms)
	if errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return p.events[:n], nil
}

// Close gives the descriptor back.
func (p *Poller) Close() { CloseFD(p.fd) }

// Timer is a descriptor that becomes readable at a chosen moment, to a few microseconds: timer slack, which delays
// epoll's own limit, does not touch it.
type Timer struct {
	FD  int
	buf [8]byte
}

// NewTimer returns a timer that is not set.
func NewTimer() (*Timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	return &Timer{FD: fd}, nil
}

// Set makes the timer readable after d, and clears an earlier expiry. A d that is not positive means at once.
func (t *Timer) Set(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))}
	return unix.TimerfdSettime(t.FD, 0, &spec, nil)
}

// Clear reads the expiry so that the timer is not readable any more.
func (t *Timer) Clear() {
	_, _ = unix.Read(t.FD, t.buf[:]) // not expired is the only failure, and means the same
}

// Close gives the descriptor back.
func (t *Timer) Close() { CloseFD(t.FD) }

// Dial opens a non-blocking TCP connection to a loopback address with Nagle's algorithm off.
func Dial(addr netip.AddrPort) (int, error) {
	sa, err := sockaddr(addr)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if err := connect(fd, sa); err != nil {
		CloseFD(fd)
		return 0, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return fd, nil
}

// connect blocks, which on loopback takes no longer than the listener's backlog allows.
func connect(fd int, sa unix.Sockaddr) error {
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	return unix.SetNonblock(fd, true)
}

// Listen opens a non-blocking listener on a loopback address; port 0 lets the kernel choose. It returns the address
// in use.
func Listen(addr netip.AddrPort) (int, netip.AddrPort, error) {
	sa, err := sockaddr(addr)
	if err != nil {
		return 0, addr, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, addr, fmt.Errorf("socket: %w", err)
	}
	bound, err := bind(fd, sa)
	if err != nil {
		CloseFD(fd)
		return 0, addr, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return fd, netip.AddrPortFrom(addr.Addr(), bound), nil
}

func bind(fd int, sa unix.Sockaddr) (uint16, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return 0, err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return 0, err
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return uint16(got.(*unix.SockaddrInet4).Port), nil
}

// CloseFD closes a descriptor whose end is all that matters: nothing is lost when that fails.
func CloseFD(fd int) {
	_ = unix.Close(fd)
}

// Accept takes one connection; unix.EAGAIN says that none waits.
func Accept(fd int) (int, error) {
	c, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return 0, err
	}
	return c, unix.SetsockoptInt(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

func sockaddr(addr netip.AddrPort) (unix.Sockaddr, error) {
	if !addr.Addr().Is4() || !addr.Addr().IsLoopback() {
		return nil, fmt.Errorf("%s: %w", addr, ErrNotLoopback)
	}
	return &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}, nil
}

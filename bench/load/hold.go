//go:build linux

package load

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/rousehq/rouse/bench/internal/poll"
	"golang.org/x/sys/unix"
)

// Held is a set of connections that do nothing, for measuring what a server spends on them. Close it after use.
type Held struct {
	fds []int
}

// Len is how many connections are held.
func (h *Held) Len() int { return len(h.fds) }

// Close closes every connection.
func (h *Held) Close() {
	for _, fd := range h.fds {
		poll.CloseFD(fd)
	}
	h.fds = nil
}

// Park opens n connections and sends one request on each, whose answers nobody waits for: the target must be one that
// the backend never answers. Dial is [poll.Dial] when nil.
func Park(addr netip.AddrPort, request []byte, n int, dial func(netip.AddrPort) (int, error)) (*Held, error) {
	return hold(addr, n, dial, func(fd int) error {
		sent, err := unix.Write(fd, request)
		if err == nil && sent < len(request) {
			err = errors.New("request did not fit the socket's buffer")
		}
		return err
	})
}

// Idle opens n connections, uses each for one request, waiting for its answer, and leaves it open.
func Idle(addr netip.AddrPort, request []byte, n int, dial func(netip.AddrPort) (int, error)) (*Held, error) {
	buf := make([]byte, readBuffer)
	return hold(addr, n, dial, func(fd int) error { return once(fd, request, buf) })
}

// maxHeld bounds the connections of one call; those to one address are fewer, since ephemeral ports end.
const maxHeld = 100_000

// Collect reads the answers of requests that were parked, and returns how many were whole with status 200 by the
// deadline.
func (h *Held) Collect(deadline time.Time) (good int) {
	buf := make([]byte, readBuffer)
	for _, fd := range h.fds {
		if awaitReply(fd, buf, deadline) == nil {
			good++
		}
	}
	return good
}

func hold(addr netip.AddrPort, n int, dial func(netip.AddrPort) (int, error), use func(fd int) error) (*Held, error) {
	if dial == nil {
		dial = poll.Dial
	}
	if n < 1 || n > maxHeld {
		return nil, fmt.Errorf("%d connections: choose 1 to %d", n, maxHeld)
	}
	h := &Held{}
	for i := range n {
		fd, err := dial(addr)
		if err == nil {
			h.fds = append(h.fds, fd)
			err = use(fd)
		}
		if err != nil {
			h.Close()
			return nil, fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
	}
	return h, nil
}

// once sends a request and waits at most five seconds for the whole answer.
func once(fd int, request, buf []byte) error {
	if _, err := unix.Write(fd, request); err != nil {
		return err
	}
	return awaitReply(fd, buf, time.Now().Add(5*time.Second))
}

func awaitReply(fd int, buf []byte, limit time.Time) error {
	var r reply
	for time.Now().Before(limit) {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, 100); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("server closed the connection")
		}
		if done, err := r.feed(buf[:n]); done || err != nil {
			return err
		}
	}
	return errors.New("no answer in time")
}

//go:build linux

package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/rousehq/rouse/bench/internal/poll"
	"golang.org/x/sys/unix"
)

// Sleep is how long /sleep takes.
const Sleep = 10 * time.Millisecond

const (
	listenerKey = -1
	stopCheck   = 100 * time.Millisecond
)

// Server is a backend on one address.
type Server struct {
	fd     int
	addr   netip.AddrPort
	poller *poll.Poller
	conns  map[int32]*conn
	asleep []sleeper // in the order of waking: all sleep equally long
	buf    []byte
	small  []byte
	large  []byte
}

type conn struct {
	fd      int
	request request
	out     []byte // what did not fit the socket's buffer
}

type sleeper struct {
	fd   int32
	conn *conn
	wake time.Time
}

// Listen opens a backend on a loopback address; port 0 lets the kernel choose. Run serves it.
func Listen(addr netip.AddrPort) (*Server, error) {
	fd, bound, err := poll.Listen(addr)
	if err != nil {
		return nil, err
	}
	p, err := poll.New()
	if err == nil {
		err = p.Add(fd, listenerKey)
	}
	if err != nil {
		poll.CloseFD(fd)
		return nil, err
	}
	return &Server{
		fd: fd, addr: bound, poller: p, conns: map[int32]*conn{}, buf: make([]byte, 128<<10),
		small: answer(bytes.Repeat([]byte("0123456789"), 10)), large: answer(bytes.Repeat([]byte("0123456789abcdef"), 4<<10)),
	}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Run serves until ctx is done, closes everything, and returns nil; or the error of a broken poller.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	for ctx.Err() == nil {
		events, err := s.poller.Wait(s.wakeAsleep())
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Fd == listenerKey {
				s.accept()
			} else if c := s.conns[e.Fd]; c != nil {
				s.serve(c, e.Events)
			}
		}
	}
	return nil
}

func (s *Server) close() {
	for _, c := range s.conns {
		poll.CloseFD(c.fd)
	}
	poll.CloseFD(s.fd)
	s.poller.Close()
}

func (s *Server) accept() {
	for {
		fd, err := poll.Accept(s.fd)
		if err != nil {
			return // EAGAIN, or a client that is gone already
		}
		if err := s.poller.Add(fd, int32(fd)); err != nil {
			poll.CloseFD(fd)
			continue
		}
		s.conns[int32(fd)] = &conn{fd: fd}
	}
}

// serve reads what came and answers whole requests.
func (s *Server) serve(c *conn, events uint32) {
	if len(c.out) > 0 {
		if events&unix.EPOLLOUT != 0 {
			s.flush(c)
		}
		return
	}
	n, err := unix.Read(c.fd, s.buf)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if n <= 0 || err != nil {
		s.drop(c)
		return
	}
	c.request.buf = append(c.request.buf, s.buf[:n]...)
	if err := s.advance(c); err != nil {
		s.drop(c)
	}
}

func (s *Server) advance(c *conn) error {
	r := &c.request
	if !r.inBody {
		ok, err := r.parseHead()
		if !ok || err != nil {
			return err
		}
		if bytes.Equal(r.target, []byte("/continue")) {
			s.send(c, []byte("HTTP/1.1 100 Continue\r\n\r\n"))
		}
	}
	whole, err := r.takeBody()
	if !whole || err != nil {
		return err
	}
	s.answer(c)
	return nil
}

func (s *Server) answer(c *conn) {
	r := &c.request
	path, _, _ := bytes.Cut(r.target, []byte{'?'})
	switch string(path) {
	case "/64k":
		s.send(c, s.large)
	case "/sleep":
		s.asleep = append(s.asleep, sleeper{int32(c.fd), c, time.Now().Add(Sleep)})
	case "/silent":
	case "/echo":
		s.send(c, answer(append(bytes.Clone(r.head), r.kept...)))
	default:
		s.send(c, s.small)
	}
	r.reset()
}

// wakeAsleep answers those whose time has come, and returns how long to wait for the next.
func (s *Server) wakeAsleep() time.Duration {
	if len(s.asleep) == 0 {
		return stopCheck
	}
	now := time.Now()
	n := 0
	for n < len(s.asleep) && !s.asleep[n].wake.After(now) {
		if z := s.asleep[n]; s.conns[z.fd] == z.conn { // else gone, and the descriptor maybe another's
			s.send(z.conn, s.small)
		}
		n++
	}
	s.asleep = s.asleep[:copy(s.asleep, s.asleep[n:])]
	if len(s.asleep) == 0 {
		return stopCheck
	}
	return min(stopCheck, s.asleep[0].wake.Sub(now))
}

// send writes p, and keeps what does not fit until the socket has room.
func (s *Server) send(c *conn, p []byte) {
	n, err := unix.Write(c.fd, p)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		s.drop(c)
		return
	}
	if n = max(n, 0); n < len(p) {
		c.out = append(c.out, p[n:]...)
		if s.poller.AddOutput(c.fd, int32(c.fd)) != nil {
			s.drop(c)
		}
	}
}

func (s *Server) flush(c *conn) {
	n, err := unix.Write(c.fd, c.out)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		s.drop(c)
		return
	}
	c.out = c.out[:copy(c.out, c.out[max(n, 0):])]
	if len(c.out) == 0 && s.poller.Input(c.fd, int32(c.fd)) != nil {
		s.drop(c)
	}
}

func (s *Server) drop(c *conn) {
	if s.conns[int32(c.fd)] != c {
		return
	}
	delete(s.conns, int32(c.fd))
	poll.CloseFD(c.fd)
}

func answer(body []byte) []byte {
	// Lower case on purpose: a faithful proxy keeps it, one that rewrites names does not.
	return append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nset-cookie: a=1\r\nContent-Length: %d\r\n\r\n", len(body)), body...)
}

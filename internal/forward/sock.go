package forward

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// sock is a connection with two additions: where there is a file descriptor, its system calls go past the
// scheduler's bookkeeping, because they never block; and [sock.readFresh] holds no buffer while it waits. One
// goroutine may read while another writes.
type sock struct {
	net.Conn
	raw  syscall.RawConn // nil when there is no usable descriptor
	bufs *buffers

	// moved, when not nil, is set to clock() whenever bytes moved.
	moved *atomic.Int64
	clock func() int64

	// The operands of the calls below live here so that the callbacks need no closure per call.
	onRead, onWrite, onPeek func(fd uintptr) bool
	rbuf                    []byte
	lazy                    bool // rbuf comes from fresh
	fresh                   *buffer
	rskip, rlimit           int
	rn                      int
	rerr                    error
	wbuf, wbuf2             []byte
	werr                    error
	peeked                  bool

	stash   [1]byte // a byte that a watcher read
	stashed bool
	wrote   int64 // bytes written since reset by the owner of the write side
}

func (s *sock) init(c net.Conn, bufs *buffers) {
	s.Conn, s.bufs = c, bufs
	s.raw = rawConn(c)
	if s.raw != nil {
		s.onRead, s.onWrite, s.onPeek = s.tryRead, s.tryWrite, s.tryPeek
	}
}

// rawConn returns c's descriptor when system calls on it see exactly the bytes that c would.
func rawConn(c net.Conn) syscall.RawConn {
	if !rawIO {
		return nil
	}
	switch c := c.(type) {
	case *net.TCPConn:
		raw, err := c.SyscallConn()
		if err == nil {
			return raw
		}
	case *net.UnixConn:
		raw, err := c.SyscallConn()
		if err == nil {
			return raw
		}
	}
	return nil
}

func (s *sock) touch() {
	if s.moved != nil {
		s.moved.Store(s.clock())
	}
}

// read is net.Conn's Read.
func (s *sock) read(b []byte) (int, error) {
	if s.raw == nil {
		return s.readPlain(b)
	}
	s.rbuf, s.lazy = b, false
	if err := s.raw.Read(s.onRead); err != nil {
		s.rbuf = nil
		return 0, err
	}
	s.rbuf = nil
	if s.rn > 0 {
		s.touch()
	}
	return s.rn, s.rerr
}

func (s *sock) readPlain(b []byte) (int, error) {
	if s.stashed {
		s.stashed = false
		b[0] = s.stash[0]
		return 1, nil
	}
	n, err := s.Conn.Read(b)
	if n > 0 {
		s.touch()
		return n, nil
	}
	return n, err
}

// readFresh reads into a big buffer that it takes only once there is something to read: at skip bytes from its
// start, at most limit bytes. The caller owns the buffer that is returned, which is nil on errors.
func (s *sock) readFresh(skip, limit int) (*buffer, int, error) {
	if s.raw == nil {
		return s.readFreshPlain(skip, limit)
	}
	s.rbuf, s.lazy, s.rskip, s.rlimit = nil, true, skip, limit
	err := s.raw.Read(s.onRead)
	b := s.fresh
	s.fresh, s.rbuf = nil, nil
	if err == nil {
		err = s.rerr
	}
	if err != nil {
		if b != nil {
			s.bufs.putBig(b)
		}
		return nil, 0, err
	}
	s.touch()
	return b, s.rn, nil
}

// readFreshPlain holds its buffer while it waits: without a descriptor nothing says that there is something to read.
func (s *sock) readFreshPlain(skip, limit int) (*buffer, int, error) {
	b := s.bufs.getBig()
	n, err := s.readPlain(b.b[skip:min(len(b.b), skip+limit)])
	if n == 0 && err != nil {
		s.bufs.putBig(b)
		return nil, 0, err
	}
	return b, n, nil
}

// readFirst is readFresh for the wait between requests, which is long and of which there are many: without a
// descriptor it waits with a buffer of one byte.
func (s *sock) readFirst(limit int) (*buffer, int, error) {
	if s.raw == nil && !s.stashed {
		if n, err := s.Conn.Read(s.stash[:]); n == 0 {
			if err == nil {
				err = io.ErrNoProgress
			}
			return nil, 0, err
		}
		s.stashed = true
	}
	return s.readFresh(0, limit)
}

// write writes all of b.
func (s *sock) write(b []byte) error { return s.write2(b, nil) }

// write2 writes all of a and then b, with one system call where possible.
func (s *sock) write2(a, b []byte) error {
	if s.raw == nil {
		return s.writePlain(a, b)
	}
	s.wbuf, s.wbuf2, s.werr = a, b, nil
	err := s.raw.Write(s.onWrite)
	s.wbuf, s.wbuf2 = nil, nil
	if err != nil {
		return err
	}
	return s.werr
}

func (s *sock) writePlain(a, b []byte) error {
	for _, p := range [2][]byte{a, b} {
		for len(p) > 0 {
			n, err := s.Conn.Write(p[:min(len(p), bigSize/4)])
			s.wrote += int64(n)
			if err != nil {
				return err
			}
			s.touch()
			p = p[n:]
		}
	}
	return nil
}

// stale reports that an idle connection cannot be used: it was closed, or has bytes that nobody asked for.
func (s *sock) stale() bool {
	if s.raw == nil {
		return s.stalePlain()
	}
	s.peeked = true
	if err := s.raw.Read(s.onPeek); err != nil {
		return true
	}
	return s.peeked
}

// stalePlain reads with a deadline that is over; a connection without descriptor tells its end only so.
func (s *sock) stalePlain() bool {
	var one [1]byte
	_ = s.SetReadDeadline(past())
	n, err := s.Conn.Read(one[:])
	_ = s.SetReadDeadline(time.Time{})
	return n > 0 || !isTimeout(err)
}

// past is a deadline that is over in real and in virtual time.
func past() time.Time { return time.Unix(1, 0) }

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

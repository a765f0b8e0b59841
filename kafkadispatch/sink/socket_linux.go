package sink

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// socket reads and writes a TCP connection with system calls past the scheduler's bookkeeping: on a non-blocking
// descriptor they cannot block, so the scheduler need not know. Deadlines and Close hold as for the connection.
//
// Tried and lost: waiting for the answer without trying to read first, which would save a call that mostly finds
// nothing. The poller forgets an end of the connection that it saw before the wait began, and a sink that has shut its
// side but lingers would then cost a whole timeout.
type socket struct {
	raw syscall.RawConn
	buf []byte
	n   int
	err error
	// The callbacks are made once: a closure for each call would be an allocation.
	onRead, onWrite func(fd uintptr) bool
}

// newSocket returns nil when the connection is none that system calls see as the connection does: TLS, for one.
func newSocket(c net.Conn) *socket {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.onRead, s.onWrite = s.tryRead, s.tryWrite
	return s
}

// Read implements io.Reader.
func (s *socket) Read(b []byte) (int, error) {
	s.buf, s.n, s.err = b, 0, nil
	if err := s.raw.Read(s.onRead); err != nil {
		return 0, err
	}
	return s.n, s.err
}

func (s *socket) write(b []byte) error {
	s.buf, s.err = b, nil
	if err := s.raw.Write(s.onWrite); err != nil {
		return err
	}
	return s.err
}

func (s *socket) tryRead(fd uintptr) bool {
	n, errno := call(syscall.SYS_RECVFROM, fd, s.buf, 0)
	switch {
	case errno == syscall.EAGAIN:
		return false
	case errno != 0:
		s.err = errno
	case n == 0 && len(s.buf) > 0:
		s.err = io.EOF
	}
	s.n = max(0, n)
	return true
}

func (s *socket) tryWrite(fd uintptr) bool {
	for len(s.buf) > 0 {
		n, errno := call(syscall.SYS_SENDTO, fd, s.buf, syscall.MSG_NOSIGNAL)
		if errno == syscall.EAGAIN {
			return false
		}
		if errno != 0 {
			s.err = errno
			return true
		}
		s.buf = s.buf[n:]
	}
	return true
}

func call(nr, fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(nr, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

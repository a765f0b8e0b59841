package forward

import (
	"io"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const rawIO = true

// The calls below use RawSyscall: on a non-blocking socket they cannot block, so the scheduler need not know.

func sysRecv(fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

func sysSend(fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

func sysWritev(fd uintptr, a, b []byte) (int, syscall.Errno) {
	iov := [2]syscall.Iovec{{Base: unsafe.SliceData(a), Len: uint64(len(a))}, {Base: unsafe.SliceData(b), Len: uint64(len(b))}}
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&iov)), 2)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// tryRead is called when the descriptor may be readable; false waits for it.
func (s *sock) tryRead(fd uintptr) bool {
	if s.lazy && s.fresh == nil {
		s.fresh = s.bufs.getBig()
		s.rbuf = s.fresh.b[s.rskip:min(len(s.fresh.b), s.rskip+s.rlimit)]
	}
	n, e := sysRecv(fd, s.rbuf, 0)
	switch {
	case e == syscall.EAGAIN:
		if s.lazy {
			s.bufs.putBig(s.fresh)
			s.fresh, s.rbuf = nil, nil
		}
		return false
	case e != 0:
		s.rn, s.rerr = 0, e
	case n == 0:
		s.rn, s.rerr = 0, io.EOF
	default:
		s.rn, s.rerr = n, nil
	}
	return true
}

// tryWrite writes until all is out; false waits for room.
func (s *sock) tryWrite(fd uintptr) bool {
	for len(s.wbuf)+len(s.wbuf2) > 0 {
		n, e := s.sendSome(fd)
		if e == syscall.EAGAIN {
			return false
		}
		if e != 0 {
			s.werr = e
			return true
		}
		s.touch()
		s.wrote += int64(n)
		if n < len(s.wbuf) {
			s.wbuf = s.wbuf[n:]
			continue
		}
		s.wbuf, s.wbuf2 = s.wbuf2[n-len(s.wbuf):], nil
	}
	return true
}

func (s *sock) sendSome(fd uintptr) (int, syscall.Errno) {
	if len(s.wbuf2) == 0 {
		return sysSend(fd, s.wbuf)
	}
	return sysWritev(fd, s.wbuf, s.wbuf2)
}

// acked returns how many bytes the other side has acknowledged.
func (s *sock) acked() (n int64, ok bool) {
	if _, tcp := s.Conn.(*net.TCPConn); !tcp {
		return 0, false
	}
	_ = s.raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n, ok = int64(info.Bytes_acked)-1, true // the SYN counts as one
		}
	})
	return n, ok
}

// tryPeek never waits.
func (s *sock) tryPeek(fd uintptr) bool {
	var one [1]byte
	_, e := sysRecv(fd, one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	s.peeked = e != syscall.EAGAIN
	return true
}

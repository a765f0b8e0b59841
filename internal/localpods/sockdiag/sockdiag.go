// Package sockdiag asks the kernel which TCP socket listens where, over netlink (sock_diag(7)).
//
// One question costs a few microseconds, whatever the machine holds: the kernel looks the socket up as it would for
// an arriving connection. /proc/net/tcp would walk its whole hash table, which takes milliseconds. Nothing is sent
// to the listener itself, so a program never sees that it is watched.
//
// All functions are safe for concurrent use. Linux only; a kernel may be built or locked down without it, which
// Supported tells.
package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ErrNoListener reports that no socket listens where it was asked for.
var ErrNoListener = errors.New("sockdiag: nobody listens there")

// Sizes and offsets of struct nlmsghdr, inet_diag_req_v2 and inet_diag_msg (linux/netlink.h, linux/inet_diag.h).
const (
	headerLen   = 16
	requestLen  = headerLen + 8 + 48
	msgState    = headerLen + 1
	msgInode    = headerLen + 4 + 48 + 16
	msgLen      = msgInode + 4
	byFamily    = 20 // SOCK_DIAG_BY_FAMILY
	stateListen = 10 // TCP_LISTEN
)

// Listener returns the inode of the socket that would get a connection to the IPv4 address, sockets that listen on all
// addresses or on IPv6 as well included. It fails with ErrNoListener, or when the kernel does not answer the question.
func Listener(at netip.AddrPort) (inode uint64, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("sockdiag: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendto(fd, request(at), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("sockdiag: ask: %w", err)
	}
	// The kernel answers while it is asked, so this never waits.
	var buf [1024]byte
	n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
	if err != nil {
		return 0, fmt.Errorf("sockdiag: answer: %w", err)
	}
	return parse(buf[:n])
}

// Supported says whether the kernel finds a listener of our own. A kernel without the module gives the same answer as
// for a port where nobody listens.
func Supported() bool {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return false
	}
	defer ln.Close()
	_, err = Listener(ln.Addr().(*net.TCPAddr).AddrPort())
	return err == nil
}

// request encodes the question for the socket that a connection to at would reach. The asking end is port 0 of no
// address, so that no established connection fits.
func request(at netip.AddrPort) []byte {
	b := make([]byte, requestLen)
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], requestLen)
	ne.PutUint16(b[4:], byFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	body := b[headerLen:]
	body[0], body[1] = unix.AF_INET, unix.IPPROTO_TCP
	ne.PutUint32(body[4:], 1<<stateListen)
	id := body[8:]
	binary.BigEndian.PutUint16(id[0:], at.Port())
	ip := at.Addr().Unmap().As4()
	copy(id[4:], ip[:])
	ne.PutUint32(id[40:], ^uint32(0)) // INET_DIAG_NOCOOKIE, in two words
	ne.PutUint32(id[44:], ^uint32(0))
	return b
}

// parse decodes the answer.
func parse(b []byte) (uint64, error) {
	if len(b) < headerLen+4 {
		return 0, fmt.Errorf("sockdiag: answer of %d bytes is too short", len(b))
	}
	ne := binary.NativeEndian
	switch kind := ne.Uint16(b[4:]); {
	case kind == unix.NLMSG_ERROR:
		errno := unix.Errno(-int32(ne.Uint32(b[headerLen:])))
		if errno == unix.ENOENT {
			return 0, ErrNoListener
		}
		return 0, fmt.Errorf("sockdiag: %w", errno)
	case kind != byFamily || len(b) < msgLen:
		return 0, fmt.Errorf("sockdiag: answer of type %d with %d bytes, want type %d with %d", kind, len(b), byFamily, msgLen)
	case b[msgState] != stateListen:
		return 0, ErrNoListener
	}
	return uint64(ne.Uint32(b[msgInode:])), nil
}

package procfs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Listener is one listening TCP socket.
type Listener struct {
	Addr  netip.AddrPort
	Inode uint64
}

// stateListen is TCP_LISTEN as /proc/net/tcp writes it.
const stateListen = "0A"

// Listeners returns the listening TCP sockets of this network namespace, IPv4 first.
func Listeners() ([]Listener, error) {
	var all []Listener
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		ls, err := readListeners(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, ls...)
	}
	return all, nil
}

// readListeners decodes a table. The kernel lists all listening sockets before the others (proc_net_tcp.rst), so it
// stops at the first that is not: a machine with many connections costs no more than one with few.
func readListeners(r io.Reader) ([]Listener, error) {
	br := bufio.NewReader(r)
	if _, err := br.ReadSlice('\n'); err != nil { // the heading
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	var ls []Listener
	for {
		line, err := br.ReadSlice('\n')
		if len(line) == 0 && errors.Is(err, io.EOF) {
			return ls, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		l, listening, perr := parseSocket(line)
		if perr != nil {
			return nil, perr
		}
		if !listening {
			return ls, nil
		}
		ls = append(ls, l)
	}
}

// parseSocket decodes a line: slot, local address, remote address, state, ..., and the inode as the tenth field.
func parseSocket(line []byte) (Listener, bool, error) {
	f := bytes.Fields(line)
	if len(f) < 10 {
		return Listener{}, false, fmt.Errorf("procfs: socket line %q has %d fields, want at least 10", line, len(f))
	}
	if string(f[3]) != stateListen {
		return Listener{}, false, nil
	}
	addr, err := parseAddr(string(f[1]))
	if err != nil {
		return Listener{}, false, err
	}
	inode, err := strconv.ParseUint(string(f[9]), 10, 64)
	if err != nil {
		return Listener{}, false, fmt.Errorf("procfs: socket inode: %w", err)
	}
	return Listener{Addr: addr, Inode: inode}, true, nil
}

// parseAddr decodes "0100007F:1F90": the address as 32-bit words in the machine's order, which is little-endian
// wherever this runs, and the port as a number.
func parseAddr(s string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if !ok || err != nil || (len(b) != 4 && len(b) != 16) {
		return netip.AddrPort{}, fmt.Errorf("procfs: socket address %q is not hexadecimal ADDRESS:PORT", s)
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("procfs: socket port in %q: %w", s, err)
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word)
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), nil
}

// Sockets calls yield with the inode of every socket that the process holds, until it returns false. A process that is
// gone, or that this one may not look into, has none.
func Sockets(pid int, yield func(inode uint64) bool) {
	path := "/proc/" + strconv.Itoa(pid) + "/fd"
	dir, err := os.Open(path)
	if err != nil {
		return
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(64)
		for _, name := range names {
			target, err := os.Readlink(path + "/" + name)
			if err != nil {
				continue
			}
			inode, ok := socketInode(target)
			if ok && !yield(inode) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// socketInode decodes "socket:[12345]".
func socketInode(target string) (uint64, bool) {
	s, ok := strings.CutPrefix(target, "socket:[")
	if !ok {
		return 0, false
	}
	s, ok = strings.CutSuffix(s, "]")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(s, 10, 64)
	return inode, err == nil
}

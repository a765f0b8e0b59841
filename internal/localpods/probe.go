package localpods

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rousehq/rouse/internal/localpods/procfs"
	"github.com/rousehq/rouse/internal/localpods/sockdiag"
)

const (
	probeTimeout   = time.Second
	probeAgent     = "kube-probe/rouse"
	agePerPause    = 32                    // a pod that is starting for t is tried every t/32
	usualPerPause  = 256                   // one that usually takes t, every t/256 once it is due
	httpPause      = 10 * time.Millisecond // least pause between tries that reach the application
	httpPauseMax   = 50 * time.Millisecond // and the longest, which is what Knative begins with
	connectTimeout = 50                    // ms that a connection on loopback may take; it takes µs
)

// prober tries pods, and counts what that costs. It is fast on purpose: a pod is tried up to a thousand times per second
// while it starts, on the CPU that it needs to start. Budget: 20 µs per try that finds nobody, 100 µs for the one that
// finds the pod (BenchmarkListenToReady). Tried and lost: net.Dial, refused in 19 µs and seen by the program when it is
// not, then /proc/net/tcp for the owner, 7 ms on a machine with a hash table of 256 Ki. The kernel's sock_diag tells
// both in 10 µs; where it is missing, the lost way is still taken. It is safe for concurrent use.
type prober struct {
	diag     bool // sock_diag works; set before the first try
	tries    atomic.Uint64
	cpu      atomic.Int64 // ns
	starting atomic.Int64 // pods that are being tried
}

// listenerState says who listens on a port.
type listenerState uint8

const (
	listenerNone    listenerState = iota
	listenerOwn                   // a process of the pod's tree
	listenerForeign               // someone else
)

// pause returns how long to wait before the next try of a pod of the given age, when pods of its revision have usually
// needed so long to listen, 0 for the first one.
//
// The first is tried at pauses that grow with its age, so that the wait is never more than a small part of the start.
// The next, unless they start at once, are tried seldom until they are due, and then often. All pauses grow with the number of pods that start
// together, so that probing them does not take the CPU that they need to start.
func (pr *prober) pause(cfg *Config, age, usual time.Duration) time.Duration {
	pause := age / agePerPause
	if usual > agePerPause*cfg.ProbeMin && age < usual*5/4 {
		due := usual * 3 / 4
		pause = max(usual/usualPerPause, due-age)
	}
	floor := cfg.ProbeMin * time.Duration(max(1, pr.starting.Load()/4))
	return min(max(pause, floor), cfg.ProbeMax)
}

// listener finds out who would get a connection to the port on 127.0.0.1.
func (pr *prober) listener(p *process, port uint16) listenerState {
	defer pr.account(threadCPU())
	if pr.diag {
		inode, err := sockdiag.Listener(loopback(port))
		if err != nil {
			return listenerNone
		}
		return owner(p, map[uint64]bool{inode: true})
	}
	if !connects(port) {
		return listenerNone
	}
	all, err := procfs.Listeners()
	if err != nil {
		return listenerNone
	}
	sockets := make(map[uint64]bool)
	for _, l := range all {
		if l.Addr.Port() == port && reachable(l.Addr.Addr()) {
			sockets[l.Inode] = true
		}
	}
	return owner(p, sockets)
}

// account adds a try and the CPU time since start. It belongs to a deferred call whose argument pins the thread.
func (pr *prober) account(start time.Duration) {
	pr.cpu.Add(int64(threadTime() - start))
	runtime.UnlockOSThread()
	pr.tries.Add(1)
}

// threadCPU pins the goroutine to its thread and returns the CPU time that the thread has used.
func threadCPU() time.Duration {
	runtime.LockOSThread()
	return threadTime()
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// connects says whether something accepts connections on 127.0.0.1:port.
func connects(port uint16) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }() // nothing was sent
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}})
	if err == unix.EINPROGRESS { // a full backlog; on loopback everything else is settled at once
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, _ := unix.Poll(fds, connectTimeout); n == 0 {
			return false
		}
		errno, serr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		return serr == nil && errno == 0
	}
	return err == nil
}

// owner finds out whether all of the sockets belong to the tree of p. It empties the set.
func owner(p *process, sockets map[uint64]bool) listenerState {
	if len(sockets) == 0 {
		return listenerNone // it has gone again
	}
	strike := func(inode uint64) bool {
		delete(sockets, inode)
		return len(sockets) > 0
	}
	procfs.Sockets(p.pid, strike) // nearly always the program itself
	if len(sockets) == 0 {
		return listenerOwn
	}
	for _, m := range p.members() {
		procfs.Sockets(m.PID, strike)
		if len(sockets) == 0 {
			return listenerOwn
		}
	}
	return listenerForeign
}

// reachable says whether a listener on addr accepts connections to 127.0.0.1.
func reachable(addr netip.Addr) bool {
	return addr.IsUnspecified() || addr == netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// elsewhere returns where the tree of p listens, when nobody listens on the port.
func (pr *prober) elsewhere(p *process, port uint16) []netip.AddrPort {
	defer pr.account(threadCPU())
	all, err := procfs.Listeners()
	if err != nil {
		return nil
	}
	held := make(map[uint64]bool)
	for _, m := range p.members() {
		procfs.Sockets(m.PID, func(inode uint64) bool { held[inode] = true; return true })
	}
	var at []netip.AddrPort
	for _, l := range all {
		if l.Addr.Port() == port && reachable(l.Addr.Addr()) {
			return nil
		}
		if held[l.Inode] {
			at = append(at, l.Addr)
		}
	}
	return at
}

func (p *Probe) path() string {
	if p.Path == "" {
		return "/"
	}
	return p.Path
}

// get sends one HTTP probe. It fails with what is wrong in words for a person. ctx ends it early.
func (pr *prober) get(ctx context.Context, p *Probe, port uint16, h2c bool) error {
	defer pr.account(threadCPU())
	timeout := p.Timeout
	if timeout == 0 {
		timeout = probeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(port).String()+p.path(), nil)
	if err != nil {
		return fmt.Errorf("readiness probe: %w", err)
	}
	for name, values := range p.Headers {
		req.Header[name] = values
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", probeAgent)
	}
	req.Host, req.Close = p.Host, true
	roundTrip := overConn
	if h2c {
		roundTrip = overH2C
	}
	status, err := roundTrip(req)
	if err != nil {
		return fmt.Errorf("readiness probe GET %s: %w", p.path(), err)
	}
	if status < 200 || status > 399 {
		return fmt.Errorf("readiness probe GET %s answered %d, want 200 to 399", p.path(), status)
	}
	return nil
}

// overConn sends the request on a connection of its own, all on this goroutine, so that its CPU time can be counted.
func overConn(req *http.Request) (int, error) {
	var d net.Dialer
	conn, err := d.DialContext(req.Context(), "tcp4", req.URL.Host)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(req.Context(), func() { conn.Close() })
	defer stop()
	if err := req.Write(conn); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// overH2C sends the request as HTTP/2 with prior knowledge. The transport's own goroutines are not counted.
func overH2C(req *http.Request) (int, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{Protocols: &protocols, DisableCompression: true}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // the status is the answer
	resp.Body.Close()
	return resp.StatusCode, nil
}

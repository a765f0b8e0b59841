// Package ports hands out TCP ports that nobody listens on.
//
// A port that was free may be taken before its user binds it: whoever uses one must be ready to ask for another.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
)

// Ports are taken from below the kernel's ephemeral range. From inside it, any outgoing connection of the machine
// could take a port between our look and the application's bind, and a probe of a port where nobody listens yet could
// be given that very port as its own source and so connect to itself.
const (
	lowestPort  = 10240
	fewestPorts = 1000 // below this, the range is too crowded to be of use
	attempts    = 256
)

// errNone reports that no free port was found.
var errNone = errors.New("found no free TCP port; narrow net.ipv4.ip_local_port_range or stop what holds ports from 10240 up")

// Pool hands out ports that nobody listens on. It is safe for concurrent use.
type Pool struct {
	mu   sync.Mutex
	held map[uint16]struct{} // guarded by mu
	lo   int                 // lo == 0: the ephemeral range begins too low, let the kernel choose
	n    int
	next int // guarded by mu
	// Probe returns the port when nobody listens on it, and any free port when asked for port 0. Tests may set it before
	// the first Take.
	Probe func(port int) (uint16, error)
}

// New returns a pool of the ports below the kernel's ephemeral range, or of whatever the kernel chooses when that begins
// too low.
func New() *Pool {
	p := &Pool{held: make(map[uint16]struct{}), Probe: probe}
	low := 32768
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &low) // an unreadable file leaves the kernel's default
	}
	if low-lowestPort >= fewestPorts {
		p.lo, p.n = lowestPort, low-lowestPort
		p.next = rand.IntN(p.n) // two runners on one machine rarely meet
	}
	return p
}

// Take returns a port that was free a moment ago, and holds it until Release. It fails when the machine has no free port.
func (p *Pool) Take() (uint16, error) {
	for range attempts {
		got, err := p.Probe(p.candidate())
		if err == nil && p.hold(got) {
			return got, nil
		}
	}
	return 0, errNone
}

// probe listens on all addresses, as most programs do, and stops at once. Nothing was accepted, so nothing lingers.
func probe(port int) (uint16, error) {
	ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return uint16(ln.Addr().(*net.TCPAddr).Port), nil
}

// candidate goes round the range, so that a port rests as long as possible before it is used again.
func (p *Pool) candidate() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lo == 0 {
		return 0
	}
	for range p.n {
		c := p.lo + p.next
		p.next = (p.next + 1) % p.n
		if _, held := p.held[uint16(c)]; !held {
			return c
		}
	}
	return 0
}

func (p *Pool) hold(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, held := p.held[port]; held {
		return false
	}
	p.held[port] = struct{}{}
	return true
}

// Release gives ports back.
func (p *Pool) Release(ports ...uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, port := range ports {
		delete(p.held, port)
	}
}

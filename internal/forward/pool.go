package forward

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

// Defaults of a [PoolConfig].
const (
	defaultConnectTimeout = time.Second
	minConnectTimeout     = 50 * time.Millisecond
	defaultMaxIdle        = 1000
	defaultPoolIdle       = 90 * time.Second
)

// Pool holds the connections to one pod. It is safe for concurrent use. Whoever made it closes it; requests that
// are under way when it closes finish.
type Pool struct {
	cfg  PoolConfig
	addr string
	h2   h2Pool

	mu     sync.Mutex
	idle   []*upConn   // guarded by mu; newest last
	closed bool        // guarded by mu
	sweep  *time.Timer // guarded by mu; runs while something is idle
	rtt    rtt         // guarded by mu
	epoch  time.Time
}

// upConn is one HTTP/1 connection to a pod.
type upConn struct {
	sock
	pool      *Pool
	served    int           // complete responses
	total     int64         // bytes written before the present request
	idleSince time.Duration // on the pool's clock
}

// NewPool returns an empty pool. It opens no connection before the first request.
func NewPool(cfg PoolConfig) *Pool {
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = defaultConnectTimeout
	}
	if cfg.MaxIdle <= 0 {
		cfg.MaxIdle = defaultMaxIdle
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = defaultPoolIdle
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	return &Pool{cfg: cfg, addr: cfg.Addr.String(), epoch: time.Now()}
}

// Addr returns where the pool leads.
func (p *Pool) Addr() netip.AddrPort { return p.cfg.Addr }

// Close closes the unused connections; those in use close after their request.
func (p *Pool) Close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.mu.Unlock()
	for _, u := range idle {
		u.Close()
	}
	p.closeH2()
}

// get returns the most recently used connection that is still usable, nil when there is none.
func (p *Pool) get() *upConn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		u := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if !u.stale() {
			return u
		}
		u.Close()
	}
}

// put keeps u for the next request. The caller has received a complete response and nothing more.
func (p *Pool) put(u *upConn, now time.Time) {
	u.idleSince = now.Sub(p.epoch)
	p.mu.Lock()
	if p.closed || len(p.idle) >= p.cfg.MaxIdle {
		p.mu.Unlock()
		u.Close()
		return
	}
	p.idle = append(p.idle, u)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.cfg.IdleTimeout, p.expire)
	}
	p.mu.Unlock()
}

// expire closes what has been unused for too long. The timer is armed for the oldest connection and not touched by
// requests: a connection that was used meanwhile is looked at again when its own time is over.
func (p *Pool) expire() {
	limit := time.Since(p.epoch) - p.cfg.IdleTimeout
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && p.idle[n].idleSince <= limit {
		n++
	}
	old := append([]*upConn(nil), p.idle[:n]...)
	p.idle = p.idle[:copy(p.idle, p.idle[n:])]
	switch {
	case p.closed:
	case len(p.idle) == 0:
		p.sweep = nil
	default:
		p.sweep.Reset(p.idle[0].idleSince - limit)
	}
	p.mu.Unlock()
	for _, u := range old {
		u.Close()
	}
}

// dial opens a connection; ctx ends early when the request is given up.
func (p *Pool) dial(ctx context.Context, bufs *buffers) (*upConn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.connectLimit())
	defer cancel()
	began := time.Now()
	c, err := p.cfg.Dial(ctx, "tcp", p.addr)
	p.mu.Lock()
	if err == nil {
		p.rtt.observe(time.Since(began))
	} else if ctx.Err() == context.DeadlineExceeded {
		p.rtt.exceeded()
	}
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	u := &upConn{pool: p}
	u.init(c, bufs)
	return u, nil
}

// connectLimit is the bound in force. On loopback a slow connect tells that this process got no processor time, as in
// a throttled container, and not that the pod is away: a tight bound would fail requests for nothing.
func (p *Pool) connectLimit() time.Duration {
	if p.cfg.Addr.Addr().IsLoopback() {
		return p.cfg.ConnectTimeout
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rtt.bound(p.cfg.ConnectTimeout)
}

// unseen reports that the pod, which has closed this connection, did so before it had received anything of the
// present request: its FIN acknowledged all that had arrived by then, and none of the request was acknowledged. What
// came later met a closed socket.
func (u *upConn) unseen() bool {
	acked, ok := u.acked()
	return ok && acked <= u.total
}

// h1 reports that the pod speaks HTTP/1.1 in clear text.
func (p *Pool) h1() bool { return p.cfg.Protocol == endpoint.H1 }

// rtt bounds the time to connect by what connecting took before, as TCP bounds its retransmissions (RFC 6298).
type rtt struct {
	smooth, vary time.Duration
	backoff      uint
}

func (r *rtt) observe(d time.Duration) {
	r.backoff = 0
	if r.smooth == 0 {
		r.smooth, r.vary = d, d/2
		return
	}
	r.vary += ((r.smooth - d).Abs() - r.vary) / 4
	r.smooth += (d - r.smooth) / 8
}

// exceeded doubles the bound: the pod may have become slower for good.
func (r *rtt) exceeded() { r.backoff = min(r.backoff+1, 16) }

func (r *rtt) bound(most time.Duration) time.Duration {
	if r.smooth == 0 {
		return most
	}
	least := max(minConnectTimeout, r.smooth+max(4*r.vary, r.smooth))
	return min(most, least<<r.backoff)
}

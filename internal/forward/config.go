package forward

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

// Config of a [Server]. The zero value of a field means its default.
type Config struct {
	// MaxHeadBytes limits a request's head, default 64 KiB: 431 beyond.
	MaxHeadBytes int
	// MaxTargetBytes limits the request target, default 16 KiB: 414 beyond.
	MaxTargetBytes int
	// HeadTimeout limits reading a head once its first byte came, default 60 s: the connection closes beyond.
	HeadTimeout time.Duration
	// IdleTimeout limits the wait for a next request on a connection, default 0: no limit.
	IdleTimeout time.Duration
	// ReplayBytes is how much of a body is kept so that the request can go to another pod, default 16 KiB.
	ReplayBytes int
	// Forwarding says which forwarding headers are added to requests.
	Forwarding Forwarding
	// TLS serves encrypted connections when set; ALPN offers h2 and http/1.1.
	TLS *tls.Config
}

// Forwarding is a set of rules for Forwarded and X-Forwarded-* headers.
type Forwarding struct {
	// XForwardedFor appends the client's address to X-Forwarded-For.
	XForwardedFor bool
	// XForwarded does that, too, and sets X-Forwarded-Proto and X-Forwarded-Host when the request has none. It is for who
	// is the first to be asked: behind another proxy the host and the protocol are not what the client asked for.
	XForwarded bool
	// Forwarded builds a Forwarded header out of X-Forwarded-* when the request has none: the first node gets host
	// and proto, IPv6 addresses are bracketed and quoted. This is what Knative's queue-proxy does.
	Forwarded bool
}

func (f Forwarding) appendsClient() bool { return f.XForwarded || f.XForwardedFor }

// PoolConfig of a [Pool].
type PoolConfig struct {
	Addr     netip.AddrPort
	Protocol endpoint.Protocol
	// Dial opens a connection; default is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// ConnectTimeout bounds a dial, default 1 s. It is the upper bound: except on loopback, the bound in force follows
	// the measured connect times.
	ConnectTimeout time.Duration
	// MaxIdle is how many unused connections are kept, default 1,000.
	MaxIdle int
	// IdleTimeout closes connections that were unused for so long, default 90 s.
	IdleTimeout time.Duration
	// NotAdmitted makes [NotAdmittedHeader] in a response a retryable refusal: set it when a queue-proxy of ours
	// answers there.
	NotAdmitted bool
	// TLS is the client configuration for endpoint.TLS.
	TLS *tls.Config
}

// ServerStats are a server's connection figures at one moment.
type ServerStats struct {
	Open        int       // connections
	Active      int       // requests between head and end of response
	Tunnels     int       // upgraded connections
	LastAccept  time.Time // newest connection but those of probes: see Exchange.MarkProbe
	LastRequest time.Time // when the newest request came but those of probes and those that are Active; zero for none
}

// LastCame is when a client was last heard of, on a new connection or on one that it kept.
func (s ServerStats) LastCame() time.Time {
	if s.LastRequest.After(s.LastAccept) {
		return s.LastRequest
	}
	return s.LastAccept
}

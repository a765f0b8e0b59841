package assign

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

// Receiver is the activator's side: what control says is done here. The client calls it from one goroutine, one call at
// a time; a call must not block for long and must not call the client's Run.
type Receiver interface {
	// Put adds a revision or changes one that is there. A revision with a new UID replaces the one that had its name.
	Put(r Revision)
	// Remove ends a revision that was put. Routes and ports that led to it were replaced before.
	Remove(id identity.Revision)
	// Endpoints takes a change of the endpoints of a revision that was put. Versions may skip some.
	Endpoints(u endpoint.Update)
	// Fail says that a revision's pods cannot start, or with an empty reason that they can again.
	Fail(id identity.Revision, reason string)
	// Grant says how many requests may be in flight per pod; nil ends leasing. The map must not be changed.
	Grant(id identity.Revision, grants map[string]int)
	// Use returns what is parked, and in flight by pod, also in pods that were removed.
	Use(id identity.Revision) (parked int, use map[string]int)
	// Blocked returns, in order, the pods that get nothing now, whatever was granted: slots there serve nobody.
	Blocked(id identity.Revision) []string
	// Routes replaces all routes and answers.
	Routes(cfg route.Config) error
	// Ports replaces the listening ports that should be there, each with its revision. What becomes of each is told
	// with [Client.PortOpened], [Client.PortRefused] and [Client.PortClosed].
	Ports(ports map[uint16]identity.Revision)
}

// ClientConfig says how a [Client] connects. The zero value of a field means its default.
type ClientConfig struct {
	// URLs are the assignment listeners of all control instances, ws:// or wss://. At least one; no two may lead to the
	// same instance.
	URLs []string
	// Name, Addr and Zone are what control is told of this activator: a name that people know, where requests reach it as
	// HOST:PORT, its failure domain. Version is its build. Name is required.
	Name, Addr, Zone, Version string
	// Instance tells this process from a former one of the same name. Default a random text.
	Instance string
	// Token returns the bearer token; it is asked before each connection, since tokens expire. Nil sends none.
	Token func() (string, error)
	// HTTP makes the connections; nil for one without a proxy of its own. Lookup dials by itself.
	HTTP *http.Client
	// Lookup, when not nil, resolves the names of URLs: one with several addresses, such as that of a headless Service, is
	// as many control instances. It is asked again each LookupPeriod, default 1 s: an instance that was replaced has
	// another address.
	Lookup       func(ctx context.Context, host string) ([]string, error)
	LookupPeriod time.Duration
	// Log gets a line when a stream is lost or back, and for what could not be taken over; nil for none.
	Log *slog.Logger

	// Handshake bounds the making of a connection. Default 3 s.
	Handshake time.Duration
	// Ping is how often a connection is tested, and Pong how long the answer may take. Defaults 2 s and 5 s.
	Ping, Pong time.Duration
	// MinBackoff is the first pause before another try; each further one is 1.3 times longer up to MaxBackoff, and half
	// of it is random. Defaults 50 ms and 2 s: shorter than the time that control keeps leases for.
	MinBackoff, MaxBackoff time.Duration
	// Silence is how long nobody must have spoken for a revision's owner until an activator without a slot in any of its
	// pods sends one request at a time to each that has a queue-proxy, which keeps the pod's limit. Default 15 s: another
	// instance takes over before that, if there is one.
	Silence time.Duration
	// LoadPeriod is how often the load of one revision is told at most. Default 10 ms; longer with very many active ones.
	LoadPeriod time.Duration
	// MaxFrame bounds one frame from control, in bytes. Default 64 MiB.
	MaxFrame int64
}

// Default returns the configuration with every zero field replaced by its default.
func (c ClientConfig) Default() ClientConfig {
	if c.HTTP == nil {
		c.HTTP = &http.Client{}
	}
	c.Instance = cmp.Or(c.Instance, rand.Text())
	c.LookupPeriod = cmp.Or(c.LookupPeriod, time.Second)
	c.Handshake = cmp.Or(c.Handshake, 3*time.Second)
	c.Ping = cmp.Or(c.Ping, 2*time.Second)
	c.Pong = cmp.Or(c.Pong, 5*time.Second)
	c.MinBackoff = cmp.Or(c.MinBackoff, 50*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, 2*time.Second)
	c.Silence = cmp.Or(c.Silence, 15*time.Second)
	c.LoadPeriod = cmp.Or(c.LoadPeriod, 10*time.Millisecond)
	c.MaxFrame = cmp.Or(c.MaxFrame, 64<<20)
	return c
}

// Validate names every field that is out of range.
func (c ClientConfig) Validate() error {
	var errs []error
	if len(c.URLs) == 0 {
		errs = append(errs, errors.New("assign: URLs must name at least one control listener"))
	}
	for _, text := range c.URLs {
		if u, err := url.Parse(text); err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
			errs = append(errs, fmt.Errorf("assign: URLs = %q: must be ws://host:port or wss://host:port", text))
		}
	}
	if c.Name == "" {
		errs = append(errs, errors.New("assign: Name must be set"))
	}
	for _, f := range []struct {
		name string
		d    time.Duration
	}{{"LookupPeriod", c.LookupPeriod}, {"Handshake", c.Handshake}, {"Ping", c.Ping}, {"Pong", c.Pong}, {"MinBackoff", c.MinBackoff}, {"Silence", c.Silence}, {"LoadPeriod", c.LoadPeriod}} {
		if f.d <= 0 {
			errs = append(errs, fmt.Errorf("assign: %s must be positive", f.name))
		}
	}
	if c.MaxBackoff < c.MinBackoff {
		errs = append(errs, errors.New("assign: MaxBackoff must be at least MinBackoff"))
	}
	return errors.Join(errs...)
}

// Client is the activator's side of the streams. Make one with [NewClient] and start it with Run.
type Client struct {
	cfg    ClientConfig
	to     Receiver
	in     chan heard    // from the streams to Run
	poke   chan struct{} // capacity 1: something is in wants
	synced chan struct{} // closed once every shard has been heard of

	mu      sync.Mutex // guards all below
	wants   wants
	streams map[*link]struct{}
	up      int // streams that are connected
	lost    uint64
}

// wants is what other goroutines have asked of Run.
type wants struct {
	active map[identity.Revision]struct{} // may have load
	freed  map[identity.Revision]struct{} // fits a lowered grant
	ports  map[uint16]wirePortState
	state  string
	ended  chan struct{} // closed once goodbye was said to everybody
}

// heard is a frame, or the end of a stream.
type heard struct {
	from *link
	d    *down
}

// NewClient checks cfg and returns a client that is not connected.
func NewClient(cfg ClientConfig, to Receiver) (*Client, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Client{
		cfg: cfg, to: to, in: make(chan heard), poke: make(chan struct{}, 1), synced: make(chan struct{}),
		streams: map[*link]struct{}{},
		wants: wants{
			active: map[identity.Revision]struct{}{}, freed: map[identity.Revision]struct{}{}, ports: map[uint16]wirePortState{},
		},
	}, nil
}

// Synced is closed once a complete snapshot of every shard has been taken over. It stays closed when control goes away.
func (c *Client) Synced() <-chan struct{} { return c.synced }

// ClientCounts is what a client has done so far.
type ClientCounts struct {
	Connected int    // streams now
	Lost      uint64 // connections that broke or could not be made
}

// Counts returns what the client has done so far.
func (c *Client) Counts() ClientCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ClientCounts{Connected: c.up, Lost: c.lost}
}

// Active says that a revision may have load from now on. It returns at once; call it whenever load is reported.
func (c *Client) Active(id identity.Revision) {
	c.want(func(w *wants) { w.active[id] = struct{}{} })
}

// Freed says that what is in flight in a pod fits a lowered grant now. It returns at once; it fits the activator's hook
// of that name.
func (c *Client) Freed(id identity.Revision, _ string) {
	c.want(func(w *wants) { w.freed[id] = struct{}{} })
}

// PortOpened says that a listening port is open. What control knows of a port already is not told again.
func (c *Client) PortOpened(port uint16) {
	c.want(func(w *wants) { w.ports[port] = wirePortState{Port: port, Open: true} })
}

// PortRefused says why a listening port could not be opened.
func (c *Client) PortRefused(port uint16, reason string) {
	c.want(func(w *wants) { w.ports[port] = wirePortState{Port: port, Reason: reason} })
}

// PortClosed says that a listening port is no more.
func (c *Client) PortClosed(port uint16) {
	c.want(func(w *wants) { w.ports[port] = wirePortState{Port: port} })
}

// Ready tells control that this activator serves: new requests may be sent to it.
func (c *Client) Ready() {
	c.want(func(w *wants) {
		if w.state == "" {
			w.state = stateReady
		}
	})
}

// Drain tells control that this activator will end: slots that it does not need go to others, and new requests too.
func (c *Client) Drain() {
	c.want(func(w *wants) {
		if w.state != stateGoodbye {
			w.state = stateDraining
		}
	})
}

// Goodbye gives the leases back and ends the streams in good order; nothing may be in flight any more. It returns when
// control has been told, or with ctx's error; Run goes on until its own context ends. Run must be running.
func (c *Client) Goodbye(ctx context.Context) error {
	ended := make(chan struct{})
	c.want(func(w *wants) {
		if w.ended == nil {
			w.ended = ended
		}
		ended, w.state = w.ended, stateGoodbye
	})
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) want(f func(*wants)) {
	c.mu.Lock()
	f(&c.wants)
	c.mu.Unlock()
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// Run keeps the streams up until ctx ends, and returns nil.
func (c *Client) Run(ctx context.Context) error {
	var owned sync.WaitGroup
	defer owned.Wait()
	for _, u := range c.cfg.URLs {
		owned.Go(func() { c.spread(ctx, u) })
	}
	newMirror(c).run(ctx)
	return nil
}

package assign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/rousehq/rouse/internal/identity"
)

const (
	backoffGrowth = 1.3
	settledAfter  = 5 * time.Second // a connection that lasted so long resets the back-off

	// frameEntries bounds the revisions and pods that one frame to control names, to a few megabytes: control cuts who
	// sends more than it takes, and would do so again with the next connection.
	frameEntries = 16384
)

// link is one connection to one control instance.
type link struct {
	c    *Client
	conn *websocket.Conn
	more chan struct{} // capacity 1: something is in out
	busy atomic.Int64  // odd while a frame is being taken over, which nothing else is read beside
	got  atomic.Int64  // bytes of frames

	mu  sync.Mutex // guards out and bye
	out outbox
	bye bool // goodbye was written
}

// outbox is what is unsent: the newest of each kind, never more than there are revisions and ports.
type outbox struct {
	hello *wireHello
	state string
	acks  map[identity.Revision]wireAck
	loads map[identity.Revision]wireLoad
	ports map[uint16]wirePortState
	idle  map[identity.Revision][]string
}

// connect keeps one stream up until ctx ends, goodbye was said, or it broke and is not wanted any more.
func (c *Client) connect(ctx context.Context, to target, wanted func() bool) {
	pause := c.cfg.MinBackoff
	for ctx.Err() == nil && wanted() {
		began := time.Now()
		err := c.session(ctx, to)
		if ctx.Err() != nil || errors.Is(err, errGoodbye) {
			return
		}
		c.mu.Lock()
		c.lost++
		c.mu.Unlock()
		if time.Since(began) > settledAfter {
			pause = c.cfg.MinBackoff
		}
		wait := pause/2 + rand.N(pause/2+1)
		if c.cfg.Log != nil {
			c.cfg.Log.Warn("assignment stream is down; everything goes on as it was", "url", to.url, "address", to.addr, "retry", wait, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(time.Duration(float64(pause)*backoffGrowth), c.cfg.MaxBackoff)
	}
}

var errGoodbye = errors.New("goodbye was said")

// session makes one connection and serves it until it breaks.
func (c *Client) session(ctx context.Context, to target) error {
	l, err := c.dial(ctx, to)
	if err != nil {
		return err
	}
	defer func() { _ = l.conn.CloseNow() }() // it is broken or closed already
	c.enter(l)
	defer c.leave(ctx, l)
	if c.cfg.Log != nil {
		c.cfg.Log.Info("assignment stream is up", "url", to.url, "address", to.addr)
	}
	life, end := context.WithCancel(ctx)
	var owned sync.WaitGroup
	defer owned.Wait()
	defer end()
	failed := make(chan error, 2)
	owned.Go(func() { failed <- l.write(life); end() })
	owned.Go(func() { failed <- l.keepAlive(life); end() })
	err = l.read(life)
	if l.saidGoodbye() {
		return errGoodbye
	}
	select {
	case first := <-failed: // why reading ended
		err = errors.Join(first, err)
	default:
	}
	return err
}

func (c *Client) dial(ctx context.Context, to target) (*link, error) {
	url := to.url
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Handshake)
	defer cancel()
	opts := &websocket.DialOptions{HTTPClient: c.client(to), CompressionMode: websocket.CompressionDisabled}
	if c.cfg.Token != nil {
		token, err := c.cfg.Token()
		if err != nil {
			return nil, fmt.Errorf("assign: token: %w", err)
		}
		opts.HTTPHeader = http.Header{"Authorization": {"Bearer " + token}}
	}
	conn, resp, err := websocket.Dial(ctx, url, opts) //nolint:bodyclose // the library says that nobody needs to
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("assign: connect to %s: status %d: %w", url, resp.StatusCode, err)
		}
		return nil, fmt.Errorf("assign: connect to %s: %w", url, err)
	}
	conn.SetReadLimit(c.cfg.MaxFrame)
	l := &link{c: c, conn: conn, more: make(chan struct{}, 1)}
	l.out.hello = &wireHello{c.cfg.Name, c.cfg.Instance, c.cfg.Addr, c.cfg.Zone, c.cfg.Version}
	l.wake()
	return l, nil
}

// enter makes the link known; Run tells it what a new stream must hear.
func (c *Client) enter(l *link) {
	c.mu.Lock()
	c.streams[l] = struct{}{}
	c.up++
	c.mu.Unlock()
	c.want(func(*wants) {})
}

func (c *Client) leave(ctx context.Context, l *link) {
	c.mu.Lock()
	delete(c.streams, l)
	c.up--
	c.mu.Unlock()
	c.want(func(*wants) {})
	select {
	case c.in <- heard{from: l}:
	case <-ctx.Done():
	}
}

// read hands every frame to Run.
func (l *link) read(ctx context.Context) error {
	for {
		kind, body, err := l.frame(ctx)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		d := &down{}
		if kind != websocket.MessageText {
			return errors.New("binary frame")
		}
		if err := json.Unmarshal(body, d); err != nil {
			return fmt.Errorf("decode: %w", err)
		}
		l.busy.Add(1)
		select {
		case l.c.in <- heard{l, d}:
			l.busy.Add(1)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// frame reads one, and counts while it comes: nothing else is read beside a large one that comes slowly.
func (l *link) frame(ctx context.Context) (websocket.MessageType, []byte, error) {
	kind, r, err := l.conn.Reader(ctx)
	if err != nil {
		return kind, nil, err
	}
	body, err := io.ReadAll(counted{r, &l.got})
	return kind, body, err
}

type counted struct {
	io.Reader
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// write sends what is unsent until ctx ends or goodbye was said.
func (l *link) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.more:
		}
		f := l.take()
		if f == nil {
			continue
		}
		b, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		deadline, cancel := context.WithTimeout(ctx, l.c.cfg.Pong)
		err = l.conn.Write(deadline, websocket.MessageText, b)
		cancel()
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if f.State == stateGoodbye {
			l.mu.Lock()
			l.bye = true
			l.mu.Unlock()
			l.c.want(func(*wants) {})
			<-ctx.Done() // the other side closes
			return nil
		}
	}
}

func (l *link) saidGoodbye() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bye
}

// take empties the outbox into a frame, as far as it fits; the activator's own state comes with the last. Hello goes alone:
// an older control passes over what else its frame says, the ports that are open for instance.
func (l *link) take() *up {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hello := l.out.hello; hello != nil {
		l.out.hello = nil
		l.wake()
		return &up{Version: protocolVersion, Hello: hello}
	}
	o := &l.out
	if o.state == "" && o.empty() {
		return nil
	}
	f := &up{Version: protocolVersion}
	o.fill(f)
	if o.empty() {
		f.State, o.state = o.state, ""
	} else {
		l.wake()
	}
	return f
}

func (o *outbox) empty() bool {
	return len(o.acks) == 0 && len(o.loads) == 0 && len(o.ports) == 0 && len(o.idle) == 0
}

// fill moves into a frame what fits.
func (o *outbox) fill(f *up) {
	room := frameEntries
	for id, a := range o.acks {
		if room <= 0 {
			return
		}
		room -= 1 + len(a.Bounds)
		f.Acks = append(f.Acks, a)
		delete(o.acks, id)
	}
	for id, w := range o.loads {
		if room <= 0 {
			return
		}
		room -= 1 + len(w.Use) + len(w.Blocked)
		f.Loads = append(f.Loads, w)
		delete(o.loads, id)
	}
	for port, p := range o.ports {
		f.Ports = append(f.Ports, p) // at most as many as there are ports
		delete(o.ports, port)
	}
	for id, pods := range o.idle {
		if room <= 0 {
			return
		}
		room -= 1 + len(pods)
		f.Idle = append(f.Idle, wireIdle{idOf(id), pods})
		delete(o.idle, id)
	}
}

// put changes the outbox and has it sent.
func (l *link) put(f func(*outbox)) {
	l.mu.Lock()
	if l.out.acks == nil {
		l.out.acks = map[identity.Revision]wireAck{}
		l.out.loads = map[identity.Revision]wireLoad{}
		l.out.ports = map[uint16]wirePortState{}
		l.out.idle = map[identity.Revision][]string{}
	}
	f(&l.out)
	l.mu.Unlock()
	l.wake()
}

func (l *link) wake() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// keepAlive pings until ctx ends or an answer stays out. While frames come or are waiting to be taken over nobody reads
// answers: then the frames are the sign of life.
func (l *link) keepAlive(ctx context.Context) error {
	tick := time.NewTicker(l.c.cfg.Ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		before, got := l.busy.Load(), l.got.Load()
		pong, cancel := context.WithTimeout(ctx, l.c.cfg.Pong)
		err := l.conn.Ping(pong)
		cancel()
		if now := l.busy.Load(); err != nil && now == before && now%2 == 0 && l.got.Load() == got {
			return fmt.Errorf("ping: %w", err)
		}
	}
}

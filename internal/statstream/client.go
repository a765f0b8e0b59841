package statstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/rousehq/rouse/metrics"
)

// ClientConfig says where a [Client] sends to, and how. The zero value of a field means its default.
type ClientConfig struct {
	// URL is the control loop's stats listener, ws:// or wss://. Required.
	URL string
	// Producer identifies this process, unique over its life. Empty sends no extension, as Knative's producers do.
	Producer string
	// Relay passes reports on as they are, with the producer and the number that they came with: the receiver drops what
	// it has from the producer itself. Producer must be empty.
	Relay bool
	// Token returns the bearer token; it is asked before each connection, since tokens expire. Nil sends none.
	Token func() (string, error)
	// HTTP makes the connection; nil for one to any of the addresses behind the URL's name.
	HTTP *http.Client
	// Log gets a line when the connection is lost and when it is back; nil for none.
	Log *slog.Logger

	// Buffer is for how many pods and revisions a report is kept unsent; beyond it the oldest is dropped. Default 4096.
	Buffer int
	// MaxAge is how old an unsent report may be. Default 2 s.
	MaxAge time.Duration
	// Handshake bounds the making of a connection. Default 3 s.
	Handshake time.Duration
	// Ping is how often the connection is tested, and Pong how long the answer may take. Defaults 3.333 s and 5 s.
	Ping, Pong time.Duration
	// MinBackoff is the first pause before another try; each further one is 1.3 times longer up to MaxBackoff, and
	// half of it is random. Defaults 100 ms and 5 s.
	MinBackoff, MaxBackoff time.Duration
}

// Default returns the configuration with every zero field replaced by its default.
func (c ClientConfig) Default() ClientConfig {
	if c.HTTP == nil {
		c.HTTP = spreading()
	}
	if c.Buffer == 0 {
		c.Buffer = 4096
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.MaxAge, 2*time.Second)
	def(&c.Handshake, 3*time.Second)
	def(&c.Ping, 10*time.Second/3)
	def(&c.Pong, 5*time.Second)
	def(&c.MinBackoff, 100*time.Millisecond)
	def(&c.MaxBackoff, 5*time.Second)
	return c
}

// Validate names every field that is out of range.
func (c ClientConfig) Validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		errs = append(errs, fmt.Errorf("statstream: URL = %q: must be ws://host:port or wss://host:port", c.URL))
	}
	if c.Buffer < 1 {
		errs = append(errs, errors.New("statstream: Buffer must be at least 1"))
	}
	if c.Relay && c.Producer != "" {
		errs = append(errs, errors.New("statstream: Producer must be empty with Relay"))
	}
	for name, d := range map[string]time.Duration{"MaxAge": c.MaxAge, "Handshake": c.Handshake, "Ping": c.Ping, "Pong": c.Pong, "MinBackoff": c.MinBackoff} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("statstream: %s must be positive", name))
		}
	}
	if c.MaxBackoff < c.MinBackoff {
		errs = append(errs, errors.New("statstream: MaxBackoff must be at least MinBackoff"))
	}
	return errors.Join(errs...)
}

// The shape of the stream.
const (
	backoffGrowth = 1.3
	batchMost     = 512             // reports in one websocket message
	flushTime     = time.Second     // for what is unsent when the client ends
	maxRevisions  = 1 << 20         // sequence counters kept before the producer takes a new identity
	settled       = 5 * time.Second // a connection that lasted so long resets the back-off
)

// Client pushes reports to a control loop. Make one with [NewClient] and start it with Run; it is a [Sink].
type Client struct {
	cfg       ClientConfig
	buf       buffer
	connected atomic.Bool
	lost      atomic.Uint64 // connections
	sent      atomic.Uint64 // reports
}

// NewClient checks cfg and returns a client that is not connected.
func NewClient(cfg ClientConfig) (*Client, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg}
	c.buf.init(cfg.Producer, cfg.Buffer, cfg.Relay)
	return c, nil
}

// Report queues a report for sending and returns at once. With a Producer in the configuration it fills in the
// extension's producer and sequence.
func (c *Client) Report(m metrics.Message) { c.buf.put(m, time.Now()) }

// Connected says whether there is a connection now.
func (c *Client) Connected() bool { return c.connected.Load() }

// ClientCounts is what a client has done so far.
type ClientCounts struct {
	Sent     uint64 // reports
	Replaced uint64 // reports that a newer one of the same pod replaced before they were sent
	Dropped  uint64 // reports that were too old, or too many
	Lost     uint64 // connections that broke or could not be made
}

// Counts returns what the client has done so far.
func (c *Client) Counts() ClientCounts {
	replaced, dropped := c.buf.counts()
	return ClientCounts{Sent: c.sent.Load(), Replaced: replaced, Dropped: dropped, Lost: c.lost.Load()}
}

// Run keeps the stream up until ctx ends, sends what is left for at most a second, and returns nil.
func (c *Client) Run(ctx context.Context) error {
	pause := c.cfg.MinBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		c.lost.Add(1)
		if time.Since(began) > settled {
			pause = c.cfg.MinBackoff
		}
		wait := pause/2 + rand.N(pause/2+1)
		if c.cfg.Log != nil {
			c.cfg.Log.Warn("stats stream is down", "url", c.cfg.URL, "retry", wait, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(time.Duration(float64(pause)*backoffGrowth), c.cfg.MaxBackoff)
	}
	return nil
}

// session makes one connection and sends until it breaks.
func (c *Client) session(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.CloseNow() // it is broken or closed already: nobody to tell
	c.connected.Store(true)
	defer c.connected.Store(false)
	if c.cfg.Log != nil {
		c.cfg.Log.Info("stats stream is up", "url", c.cfg.URL)
	}
	// Nothing but control frames comes back; someone has to read them. The reader outlives ctx for the last flush.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	gone := conn.CloseRead(life)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	broken := make(chan error, 1)
	wg.Go(func() { broken <- c.keepAlive(life, conn) })
	var out []byte
	for {
		select {
		case <-ctx.Done():
			return c.flush(conn, out)
		case <-gone.Done():
			return errors.New("the receiver closed the stream")
		case err := <-broken:
			return err
		case <-c.buf.more:
		}
		if out, err = c.send(life, conn, out); err != nil {
			return err
		}
	}
}

func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Handshake)
	defer cancel()
	opts := &websocket.DialOptions{HTTPClient: c.cfg.HTTP, CompressionMode: websocket.CompressionDisabled}
	if c.cfg.Token != nil {
		token, err := c.cfg.Token()
		if err != nil {
			return nil, fmt.Errorf("statstream: token: %w", err)
		}
		opts.HTTPHeader = http.Header{"Authorization": {"Bearer " + token}}
	}
	conn, resp, err := websocket.Dial(ctx, c.cfg.URL, opts) //nolint:bodyclose // the library says that nobody needs to
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("statstream: connect to %s: status %d: %w", c.cfg.URL, resp.StatusCode, err)
		}
		return nil, fmt.Errorf("statstream: connect to %s: %w", c.cfg.URL, err)
	}
	return conn, nil
}

// keepAlive pings until ctx ends or an answer stays out.
func (c *Client) keepAlive(ctx context.Context, conn *websocket.Conn) error {
	tick := time.NewTicker(c.cfg.Ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		pong, cancel := context.WithTimeout(ctx, c.cfg.Pong)
		err := conn.Ping(pong)
		cancel()
		if err != nil {
			return fmt.Errorf("statstream: ping: %w", err)
		}
	}
}

// send writes everything that is unsent, in messages of bounded size. What could not be written is put back unless
// something newer came meanwhile.
func (c *Client) send(ctx context.Context, conn *websocket.Conn, out []byte) ([]byte, error) {
	for {
		batch := c.buf.take(batchMost, time.Now().Add(-c.cfg.MaxAge))
		if len(batch) == 0 {
			return out, nil
		}
		out = metrics.AppendMessages(out[:0], batch)
		write, cancel := context.WithTimeout(ctx, c.cfg.Pong)
		err := conn.Write(write, websocket.MessageBinary, out)
		cancel()
		if err != nil {
			c.buf.back(batch)
			return out, fmt.Errorf("statstream: write: %w", err)
		}
		c.sent.Add(uint64(len(batch)))
	}
}

// flush sends the last reports and says goodbye.
func (c *Client) flush(conn *websocket.Conn, out []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if _, err := c.send(ctx, conn, out); err != nil {
		return err
	}
	return conn.Close(websocket.StatusNormalClosure, "")
}

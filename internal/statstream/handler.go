package statstream

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/rousehq/rouse/metrics"
)

// HandlerConfig says what a [Handler] accepts. The zero value of a field means its default.
type HandlerConfig struct {
	// Sink gets every report that is news. Required.
	Sink Sink
	// Authorize judges a bearer token, which is empty when none was sent. Nil accepts everybody: Knative's activators
	// send none. It must be quick; see [StaticToken].
	Authorize func(ctx context.Context, token string) bool
	// Log gets a line per stream that breaks, and per name that two processes have; nil for none.
	Log *slog.Logger
	// MaxStreams bounds the streams at a time; more get 503. Default 20,000.
	MaxStreams int
	// MaxMessage bounds one websocket message, in bytes. Default 1 MiB.
	MaxMessage int64
	// Idle is how long a stream may be without a report and without a ping. Default 30 s.
	Idle time.Duration
	// Resumed tells when this process last went on after it had stood still, zero for never; nil is never. What has piled
	// up meanwhile is dropped: a window would take it for the load of one moment.
	Resumed func() time.Time
}

// Default returns the configuration with every zero field replaced by its default.
func (c HandlerConfig) Default() HandlerConfig {
	if c.MaxStreams == 0 {
		c.MaxStreams = 20_000
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 1 << 20
	}
	if c.Idle == 0 {
		c.Idle = 30 * time.Second
	}
	if c.Resumed == nil {
		c.Resumed = func() time.Time { return time.Time{} }
	}
	return c
}

// Validate names every field that is out of range.
func (c HandlerConfig) Validate() error {
	var errs []error
	if c.Sink == nil {
		errs = append(errs, errors.New("statstream: Sink must be set"))
	}
	if c.MaxStreams < 1 {
		errs = append(errs, errors.New("statstream: MaxStreams must be at least 1"))
	}
	if c.MaxMessage < 1 {
		errs = append(errs, errors.New("statstream: MaxMessage must be at least 1"))
	}
	if c.Idle <= 0 {
		errs = append(errs, errors.New("statstream: Idle must be positive"))
	}
	return errors.Join(errs...)
}

// StaticToken returns an Authorize that wants exactly this token.
func StaticToken(want string) func(context.Context, string) bool {
	return func(_ context.Context, got string) bool {
		return subtle.ConstantTimeCompare([]byte(want), []byte(got)) == 1
	}
}

// Handler accepts streams, on any path. Make one with [NewHandler].
type Handler struct {
	cfg    HandlerConfig
	ledger ledger

	reports   atomic.Uint64
	malformed atomic.Uint64
	late      atomic.Uint64

	mu      sync.Mutex
	streams map[*websocket.Conn]struct{} // guarded by mu
	closed  bool                         // guarded by mu
	wg      sync.WaitGroup               // streams; Add is called with mu held and closed false
}

// NewHandler checks cfg and returns a handler without streams.
func NewHandler(cfg HandlerConfig) (*Handler, error) {
	cfg = cfg.Default()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Handler{cfg: cfg, streams: make(map[*websocket.Conn]struct{})}, nil
}

// HandlerCounts is what a handler has seen so far.
type HandlerCounts struct {
	Streams    int    // now
	Reports    uint64 // handed to the sink
	Malformed  uint64 // messages that could not be decoded, and reports with impossible figures
	Missing    uint64 // reports that were numbered and never came
	Duplicates uint64
	Stale      uint64 // of a process that had a successor already
	Late       uint64 // piled up while this process stood still
}

// Counts returns what the handler has seen so far.
func (h *Handler) Counts() HandlerCounts {
	h.mu.Lock()
	n := len(h.streams)
	h.mu.Unlock()
	c := HandlerCounts{Streams: n, Reports: h.reports.Load(), Malformed: h.malformed.Load(), Late: h.late.Load()}
	c.Missing, c.Duplicates, c.Stale = h.ledger.counts()
	return c
}

// ServeHTTP accepts a stream and reads it until it ends. Kubelet probes are answered with 200.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.UserAgent(), "kube-probe/") || r.Header.Get("K-Kubelet-Probe") != "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	if h.cfg.Authorize != nil {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !h.cfg.Authorize(r.Context(), token) {
			http.Error(w, "the stats stream needs a valid bearer token", http.StatusUnauthorized)
			return
		}
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	idle := time.AfterFunc(h.cfg.Idle, func() { cancel(errIdle) })
	defer idle.Stop()
	alive := func() { idle.Reset(h.cfg.Idle) }
	conn, err := h.accept(w, r, alive)
	if err != nil {
		return // accept has answered
	}
	defer h.wg.Done()
	defer h.leave(conn)
	if err := h.read(ctx, conn, alive); err != nil && h.cfg.Log != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		h.cfg.Log.Info("stats stream ended", "remote", r.RemoteAddr, "error", err)
	}
}

var (
	errIdle = errors.New("neither a report nor a ping came for too long")
	errFull = errors.New("too many streams, or shutting down")
)

func (h *Handler) accept(w http.ResponseWriter, r *http.Request, alive func()) (*websocket.Conn, error) {
	h.mu.Lock()
	if h.closed || len(h.streams) >= h.cfg.MaxStreams {
		h.mu.Unlock()
		w.Header().Set("Retry-After", "1")
		http.Error(w, errFull.Error(), http.StatusServiceUnavailable)
		return nil, errFull
	}
	h.wg.Add(1)
	h.mu.Unlock()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		CompressionMode: websocket.CompressionDisabled,
		OnPingReceived:  func(context.Context, []byte) bool { alive(); return true },
	})
	if err != nil {
		h.wg.Done()
		return nil, err
	}
	conn.SetReadLimit(h.cfg.MaxMessage)
	h.mu.Lock()
	h.streams[conn] = struct{}{}
	closed := h.closed
	h.mu.Unlock()
	if closed { // between the two locks: Close has not seen it
		_ = conn.Close(websocket.StatusServiceRestart, "restarting") // it is told, or gone
	}
	return conn, nil
}

func (h *Handler) leave(conn *websocket.Conn) {
	h.mu.Lock()
	delete(h.streams, conn)
	h.mu.Unlock()
	_ = conn.CloseNow() // it is closed already, or broken
}

// read hands every report of a stream to the sink. It returns nil when the producer says goodbye.
func (h *Handler) read(ctx context.Context, conn *websocket.Conn, alive func()) error {
	var dec metrics.Decoder
	var buf bytes.Buffer
	var batch []metrics.Message
	for {
		kind, body, err := conn.Reader(ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return nil
		}
		if err != nil {
			return err
		}
		alive()
		buf.Reset()
		if _, err := buf.ReadFrom(body); err != nil {
			return err
		}
		if kind != websocket.MessageBinary {
			h.malformed.Add(1)
			continue
		}
		batch, err = dec.Messages(buf.Bytes(), batch[:0])
		h.deliver(batch)
		if err != nil {
			h.malformed.Add(1)
			_ = conn.Close(websocket.StatusInvalidFramePayloadData, "not WireStatMessages") // it is told, or gone
			return fmt.Errorf("decode: %w", err)
		}
	}
}

// catchUp is how long after a standstill reports are taken for old: until all that the kernel has kept is read, which
// takes a moment, and not longer than producers wait before their next one.
const catchUp = time.Second

func (h *Handler) deliver(batch []metrics.Message) {
	now := time.Now()
	if now.Sub(h.cfg.Resumed()) < catchUp {
		h.late.Add(uint64(len(batch)))
		return
	}
	for i := range batch {
		m := &batch[i]
		if !sane(&m.Stat) {
			h.malformed.Add(1)
			continue
		}
		if h.ledger.admit(m, now) {
			h.reports.Add(1)
			h.cfg.Sink.Report(*m)
			continue
		}
		if h.cfg.Log != nil && h.ledger.twin(m, now) {
			h.cfg.Log.Warn("two processes report load by one name, and that of one of them is dropped: give each its own, activators by --name (ROUSE_NAME)",
				"name", m.Stat.PodName, "revision", m.Key().String())
		}
	}
}

// sane refuses figures that would poison a window: they have no end there before the window has.
func sane(s *metrics.Stat) bool {
	e := &s.Extension
	for _, v := range [...]float64{
		s.AverageConcurrency, s.AverageProxiedConcurrency, s.RequestCount, s.ProxiedRequestCount,
		e.QueueLength, e.Lag, e.Parked, e.CPU, e.Memory, e.WorkSeconds,
	} {
		if !(v >= 0) || v > math.MaxFloat64 {
			return false
		}
	}
	return true
}

// Close tells every producer to connect elsewhere (close code 1012, as Knative's autoscaler does), refuses new ones and
// waits for the streams to end until ctx does; then it cuts them.
func (h *Handler) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	conns := make([]*websocket.Conn, 0, len(h.streams))
	for c := range h.streams {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	var closing sync.WaitGroup
	for _, c := range conns {
		closing.Go(func() { _ = c.Close(websocket.StatusServiceRestart, "restarting") }) // it is told, or gone
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.wg.Wait()
		closing.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		for _, c := range conns {
			_ = c.CloseNow() // that is the point
		}
		<-done
		return ctx.Err()
	}
}

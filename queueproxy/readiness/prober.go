package readiness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The times of patient probes.
const (
	patience     = 10 * time.Second
	patientTry   = 100 * time.Millisecond
	patientPause = 50 * time.Millisecond
	// A refused connection never reached the application and costs about 20 µs, so it is tried sooner: at pauses that
	// are a small part of the time already waited.
	refusedPause   = time.Millisecond
	refusedPerWait = 32
)

// Config of a [Prober].
type Config struct {
	Probes []Probe
	// DetectHTTP2 makes HTTP probes try HTTP/2 with prior knowledge before HTTP/1.1.
	DetectHTTP2 bool
	// Paced keeps to the periods of probes that have one, for a kubelet that asks each second: see the package comment.
	Paced bool
	// Dial opens a connection; default is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Log is told why a run failed; nil for nobody.
	Log *slog.Logger
}

// Prober asks an application whether it is ready: see the package comment. Make one with [New].
type Prober struct {
	cfg Config
	h1  http.RoundTripper
	h2c http.RoundTripper
	// speaksH1 remembers that the application did not understand HTTP/2, until it stops answering.
	speaksH1 []atomic.Bool
	paces    []pace // of the probes; the run that there is has them

	mu      sync.Mutex
	current *run // guarded by mu; nil when nobody is asking
}

// run is one round of all probes. ready may be read once done is closed.
type run struct {
	done  chan struct{}
	ready bool
}

// New returns a prober. Without probes it is always ready.
func New(cfg Config) *Prober {
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	p := &Prober{cfg: cfg, speaksH1: make([]atomic.Bool, len(cfg.Probes)), paces: make([]pace, len(cfg.Probes))}
	p.h1, p.h2c = transports(cfg.Dial)
	return p
}

// Ready reports whether every probe succeeds. It blocks for as long as the probes take, up to 10 s for patient ones and a
// period longer for paced ones, and ends when ctx does. A caller that comes while another is asking gets the other's answer.
func (p *Prober) Ready(ctx context.Context) bool {
	p.mu.Lock()
	r := p.current
	if r == nil {
		r = &run{done: make(chan struct{})}
		p.current = r
		p.mu.Unlock()
		p.round(ctx, r)
		return r.ready
	}
	p.mu.Unlock()
	select {
	case <-r.done:
		return r.ready
	case <-ctx.Done():
		return false
	}
}

// round runs all probes at once and tells whoever waits.
func (p *Prober) round(ctx context.Context, r *run) {
	errs := make([]error, len(p.cfg.Probes))
	var all sync.WaitGroup
	for i := range p.cfg.Probes {
		if i == len(errs)-1 {
			errs[i] = p.probe(ctx, i) // the usual one probe needs no goroutine
			continue
		}
		all.Go(func() { errs[i] = p.probe(ctx, i) })
	}
	all.Wait()
	err := errors.Join(errs...)
	if err != nil && p.cfg.Log != nil && ctx.Err() == nil {
		p.cfg.Log.Warn("the application is not ready", "error", err.Error())
	}
	p.mu.Lock()
	r.ready = err == nil
	p.current = nil
	p.mu.Unlock()
	close(r.done)
}

func (p *Prober) probe(ctx context.Context, i int) error {
	pr := &p.cfg.Probes[i]
	switch {
	case pr.Patient:
		return p.patiently(ctx, i)
	case p.cfg.Paced:
		return p.paced(ctx, i)
	}
	return p.answered(ctx, i, pr.Timeout)
}

// answered tries until something other than a refused connection comes of it, or the time is over. Nothing has asked the
// application before, so it is asked once. Kubelet asks a pod that starts once or twice out of turn, and after that only
// when its period is over: a question that waits makes use of that.
func (p *Prober) answered(ctx context.Context, i int, timeout time.Duration) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := p.once(ctx, i, timeout)
		if !errors.Is(err, syscall.ECONNREFUSED) || !pause(ctx, err, time.Since(began)) {
			return err
		}
	}
}

// patiently tries until the probe has succeeded often enough, or patience is over.
func (p *Prober) patiently(ctx context.Context, i int) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	tries := 0
	for successes := 0; ; {
		tries++
		err := p.once(ctx, i, patientTry)
		if err != nil {
			successes = 0
			last = err
		} else if successes++; successes >= p.cfg.Probes[i].SuccessThreshold {
			return nil
		}
		if !pause(ctx, err, time.Since(began)) {
			return fmt.Errorf("not ready after %d tries in %s: %w", tries, time.Since(began).Round(time.Millisecond), errors.Join(last, ctx.Err()))
		}
	}
}

// pause waits until the next try is due; it returns false when ctx ends first.
func pause(ctx context.Context, err error, waited time.Duration) bool {
	d := patientPause
	if errors.Is(err, syscall.ECONNREFUSED) {
		d = min(patientPause, max(refusedPause, waited/refusedPerWait))
	}
	return wait(ctx, d)
}

// once tries a probe one time.
func (p *Prober) once(ctx context.Context, i int, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pr := &p.cfg.Probes[i]
	switch pr.Kind {
	case HTTP:
		return p.http(ctx, i, timeout)
	case GRPC:
		return p.grpc(ctx, pr)
	default:
		return p.tcp(ctx, pr)
	}
}

func (p *Prober) tcp(ctx context.Context, pr *Probe) error {
	c, err := p.cfg.Dial(ctx, "tcp", pr.Address)
	if err != nil {
		return fmt.Errorf("tcpSocket %s: %w", pr.Address, err)
	}
	_ = c.Close() // that it opened is the answer
	return nil
}

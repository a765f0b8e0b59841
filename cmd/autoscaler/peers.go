package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/metrics"
)

// peers passes every report on to the other instances of control, so that each of them could decide at once in the
// place of one that dies. What comes back is dropped there by its number: what has no number is not passed on.
type peers struct {
	token func() (string, error)
	log   *slog.Logger

	mu      sync.Mutex
	ctx     context.Context  // of run; nil before. Guarded by mu
	clients map[string]*peer // by address; guarded by mu
	running sync.WaitGroup
}

type peer struct {
	client *statstream.Client
	stop   context.CancelFunc
}

func newPeers(token func() (string, error), log *slog.Logger) *peers {
	return &peers{token: token, log: log, clients: make(map[string]*peer)}
}

// run keeps the streams up until ctx ends.
func (p *peers) run(ctx context.Context) error {
	p.mu.Lock()
	p.ctx = ctx
	p.mu.Unlock()
	<-ctx.Done()
	p.set(nil)
	p.running.Wait()
	return nil
}

// set makes these the other instances.
func (p *peers) set(addrs []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone := p.clients
	p.clients = make(map[string]*peer, len(addrs))
	for _, a := range addrs {
		if old := gone[a]; old != nil {
			p.clients[a] = old
			delete(gone, a)
		} else if c := p.connect(a); c != nil {
			p.clients[a] = c
		}
	}
	for _, old := range gone {
		old.stop()
	}
}

// connect is called with the lock held.
func (p *peers) connect(addr string) *peer {
	if p.ctx == nil || p.ctx.Err() != nil {
		return nil
	}
	c, err := statstream.NewClient(statstream.ClientConfig{URL: "ws://" + addr, Relay: true, Token: p.token})
	if err != nil {
		p.log.Error("another instance of control is not reachable", "address", addr, "error", err)
		return nil
	}
	ctx, stop := context.WithCancel(p.ctx)
	p.running.Go(func() { _ = c.Run(ctx) }) // it ends with ctx only
	return &peer{c, stop}
}

// Report implements statstream.Sink.
func (p *peers) Report(m metrics.Message) {
	if m.Stat.Extension.Producer == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.clients {
		c.client.Report(m)
	}
}

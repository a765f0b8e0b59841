package front

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

// maxPorts bounds per-revision listeners; more are refused.
const maxPorts = 20_000

const (
	portPoll  = 100 * time.Millisecond // how often a port that is not wanted any more is looked at
	portRetry = 2 * time.Second        // how often one is tried that could not be opened, or failed
)

// ports are listeners that lead to one revision each. One that is to lead to another goes on as it is, and each request
// goes where it leads by then. One that is not wanted any more ends its connections with their next response, and listens
// until nothing is in flight and routers have had time to hear of it; if it is wanted again before that, it goes on. One
// that can't be opened, as something else listens there, is tried again until it can; so is one whose listener
// failed, while its connections go on.
type ports struct {
	host   string
	lead   func(identity.Revision) lead
	told   portStates
	log    *slog.Logger
	linger time.Duration
	retry  time.Duration

	changed chan struct{} // capacity 1
	leading sync.Mutex    // held while ports are made to lead to what is wanted; taken before mu

	mu       sync.Mutex // guards all below
	want     map[uint16]identity.Revision
	open     map[uint16]*port // written by run alone
	draining bool             // all of them, for good

	refused map[uint16]string // why, as it was told; used by run alone
}

// lead is the handler of a port, whose revision may change.
type lead interface {
	forward.Handler
	Lead(identity.Revision)
}

// portStates hears what became of ports.
type portStates interface {
	PortOpened(port uint16)
	PortRefused(port uint16, reason string)
	PortClosed(port uint16)
}

type port struct {
	rev     identity.Revision // guarded by mu; changed with leading held
	lead    lead
	server  *forward.Server
	serve   func(net.Listener) // starts to accept; ends with stop
	stop    context.CancelFunc
	closing time.Time // since when it is not wanted; zero while it is

	ln     net.Listener // guarded by mu; nil when it failed
	failed error        // guarded by mu; why, until it was told
}

func newPorts(host string, lead func(identity.Revision) lead, told portStates, log *slog.Logger, linger time.Duration) *ports {
	return &ports{host: host, lead: lead, told: told, log: log, linger: linger, retry: portRetry, changed: make(chan struct{}, 1),
		open: map[uint16]*port{}, refused: map[uint16]string{}}
}

// set replaces the ports that should be there. Those that are open lead to their revisions when it returns.
func (p *ports) set(want map[uint16]identity.Revision) {
	p.mu.Lock()
	p.want = want
	p.mu.Unlock()
	p.follow()
	p.poke()
}

// poke has run look again.
func (p *ports) poke() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// follow makes every open port lead to the revision that it is wanted for. One that is not wanted stays as it is.
func (p *ports) follow() {
	p.leading.Lock()
	defer p.leading.Unlock()
	var moved []*port
	p.mu.Lock()
	for n, o := range p.open {
		if rev, wanted := p.want[n]; wanted && rev != o.rev {
			o.rev = rev
			moved = append(moved, o)
		}
	}
	p.mu.Unlock()
	for _, o := range moved {
		o.lead.Lead(o.rev)
	}
}

// drain makes every response the last one of its connection, also those of ports that are opened later.
func (p *ports) drain() {
	p.mu.Lock()
	p.draining = true
	p.mu.Unlock()
	for _, s := range p.servers() {
		s.Drain()
	}
}

func (p *ports) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.open {
		if o.ln != nil {
			n++
		}
	}
	return n
}

// servers are those of all open ports.
func (p *ports) servers() (all []*forward.Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.open {
		all = append(all, o.server)
	}
	return all
}

// run opens and closes ports until ctx ends; then it closes the listeners, and returns when connections were given up by
// whoever shuts the servers down.
func (p *ports) run(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		closing := p.reconcile(ctx, &serving, time.Now())
		var again <-chan time.Time
		switch {
		case closing:
			again = time.After(portPoll)
		case len(p.refused) > 0:
			again = time.After(p.retry)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		case <-again:
		}
	}
}

// reconcile opens what is missing and lets go what is not wanted; closing says that some are on their way out.
func (p *ports) reconcile(ctx context.Context, serving *sync.WaitGroup, now time.Time) (closing bool) {
	p.mu.Lock()
	want := p.want
	p.mu.Unlock()
	failed := p.failures()
	for n, o := range p.open {
		_, wanted := want[n]
		switch {
		case wanted && !o.closing.IsZero():
			o.closing = time.Time{}
			p.resume(o)
		case !wanted && o.closing.IsZero():
			o.closing = now
			o.server.Drain()
		}
		if !wanted {
			closing = !p.release(n, o, now) || closing
		}
	}
	for n := range p.refused {
		if _, wanted := want[n]; !wanted && p.open[n] == nil {
			delete(p.refused, n)
			p.told.PortClosed(n) // the next one who gets the port is not refused by what was said of the last
		}
	}
	for n, rev := range want {
		switch o := p.open[n]; {
		case o == nil:
			p.settle(n, p.listen(ctx, serving, n, rev))
		case p.down(o) && !failed[n]: // one that failed just now waits for its time
			p.settle(n, p.reopen(n, o))
		}
	}
	p.follow() // what was opened just now may be wanted for another revision by now
	return closing
}

// resume lets the connections of a port go on that is wanted again.
func (p *ports) resume(o *port) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.draining {
		o.server.Resume()
	}
}

// release closes a port once nobody uses it and nobody can be about to.
func (p *ports) release(n uint16, o *port, now time.Time) bool {
	if st := o.server.Stats(); st.Active+st.Tunnels > 0 || now.Sub(o.closing) < p.linger {
		return false
	}
	o.stop()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = o.server.Shutdown(ctx) // only idle connections are left
	p.mu.Lock()
	delete(p.open, n)
	p.mu.Unlock()
	delete(p.refused, n)
	p.told.PortClosed(n)
	return true
}

// failures tells which listeners have failed since it was last asked for, and returns their ports.
func (p *ports) failures() map[uint16]bool {
	p.mu.Lock()
	why := map[uint16]error{}
	for n, o := range p.open {
		if o.failed != nil {
			why[n], o.failed = o.failed, nil
		}
	}
	p.mu.Unlock()
	failed := map[uint16]bool{}
	for n, err := range why {
		failed[n] = true
		p.settle(n, err)
	}
	return failed
}

// settle tells what became of a port that was to be open, a refusal once for each reason.
func (p *ports) settle(n uint16, err error) {
	if err == nil {
		delete(p.refused, n)
		p.told.PortOpened(n)
		return
	}
	if reason := err.Error(); p.refused[n] != reason {
		p.refused[n] = reason
		p.log.Warn("a port is refused; it is tried again", "port", n, "every", p.retry.String(), "error", err)
		p.told.PortRefused(n, reason)
	}
}

func (p *ports) listen(ctx context.Context, serving *sync.WaitGroup, n uint16, rev identity.Revision) error {
	if len(p.open) >= maxPorts {
		return fmt.Errorf("%d ports are open already", maxPorts)
	}
	ln, err := p.bind(n)
	if err != nil {
		return err
	}
	leads := p.lead(rev)
	server, err := forward.NewServer(serverConfig(), probed(leads))
	if err != nil {
		ln.Close()
		return err
	}
	life, stop := context.WithCancel(ctx)
	o := &port{rev: rev, lead: leads, server: server, stop: stop, ln: ln}
	o.serve = func(ln net.Listener) {
		serving.Go(func() {
			if err := server.Serve(life, ln); err != nil {
				p.fail(o, err)
			}
		})
	}
	p.mu.Lock()
	p.open[n] = o
	draining := p.draining
	p.mu.Unlock()
	o.serve(ln)
	if draining {
		server.Drain()
	}
	return nil
}

func (p *ports) bind(n uint16) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(p.host, strconv.Itoa(int(n))))
}

// fail notes that a port's listener failed for good. What is in flight there goes on.
func (p *ports) fail(o *port, err error) {
	p.mu.Lock()
	o.ln, o.failed = nil, err
	p.mu.Unlock()
	p.poke()
}

func (p *ports) down(o *port) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return o.ln == nil
}

// reopen gives a port whose listener failed another one.
func (p *ports) reopen(n uint16, o *port) error {
	ln, err := p.bind(n)
	if err != nil {
		return err
	}
	p.mu.Lock()
	o.ln = ln
	p.mu.Unlock()
	o.serve(ln)
	return nil
}

func serverConfig() forward.Config {
	return forward.Config{Forwarding: forward.Forwarding{XForwarded: true}}
}

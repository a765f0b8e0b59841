package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/internal/statstream"
	"github.com/rousehq/rouse/internal/telemetry"
)

// growth meets a burst while it arrives instead of at the next tick.
const growth = 2

// standstill is what this process takes for standing still rather than for being busy: more than the period of reports,
// less than the term of a lease.
const standstill = 2 * time.Second

// node is one instance of control.
type node struct {
	s        *settings
	log      *slog.Logger
	registry *prometheus.Registry
	book     *endpoint.Book
	loop     *control.Loop
	kube     *kube.Control
	assign   *assign.Server
	stats    *statstream.Handler
	scraper  *statstream.Scraper
	peers    *peers
	sink     *workloads
	pulse    *lifecycle.Pulse
	tokens   *kube.Tokens      // nil unless queue-proxies send tokens of their own
	shared   *kube.SharedToken // nil unless the token is in a Secret
	roster   roster
	servers  []*server
}

// newNode makes every part and opens the listeners; nothing runs yet.
func newNode(ctx context.Context, s *settings, client *kube.Client, log *slog.Logger) (*node, error) {
	n := &node{s: s, log: log, registry: telemetry.NewRegistry(), book: &endpoint.Book{}, pulse: lifecycle.NewPulse(standstill)}
	n.sink = newWorkloads(n)
	if s.TokenSecret != "" {
		n.shared = kube.NewSharedToken(client, s.Namespace, s.TokenSecret, log)
	}
	n.peers = newPeers(n.token, log)
	if s.Audience != "" {
		n.tokens = kube.NewTokens(client, s.Audience, log)
	}
	for _, build := range []func() error{n.buildAssign, n.buildLoop, func() error { return n.buildKube(client) }, n.buildStats} {
		if err := build(); err != nil {
			return nil, err
		}
	}
	if err := registerCounts(n); err != nil {
		return nil, err
	}
	return n, n.listen(ctx)
}

func (n *node) bucket(rev identity.Revision) int { return control.Buckets{Count: n.s.Buckets}.Of(rev) }

func (n *node) buildAssign() (err error) {
	n.assign, err = assign.NewServer(assign.ServerConfig{
		Shards: n.s.Buckets, Authorize: n.authorize(), Log: n.log, Changed: func() { n.roster.stale.Store(true); n.kube.ActivatorsChanged() },
	})
	return err
}

// token is what activators and the other instances show.
func (n *node) token() (string, error) {
	if n.shared != nil {
		return n.shared.Token()
	}
	return n.s.Token, nil
}

// authorize judges it; nil accepts everybody, which is what a NetworkPolicy is for.
func (n *node) authorize() func(context.Context, string) bool {
	switch {
	case n.shared != nil:
		return n.shared.Good
	case n.s.Token != "":
		return statstream.StaticToken(n.s.Token)
	}
	return nil
}

// ready says why this instance is no use yet.
func (n *node) ready() error {
	if n.shared != nil {
		if err := n.shared.Ready(); err != nil {
			return err
		}
	}
	return n.kube.Ready()
}

// authorizeReports also takes a pod's own token: the shared one is not for everybody's pods.
func (n *node) authorizeReports() func(context.Context, string) bool {
	shared := n.authorize()
	if n.tokens == nil {
		return shared
	}
	return func(ctx context.Context, token string) bool {
		return shared != nil && shared(ctx, token) || n.tokens.Good(ctx, token)
	}
}

func (n *node) buildLoop() (err error) {
	n.loop, err = control.New(control.Config{Growth: growth, Period: n.s.Period}, control.Deps{
		Pods: n.book, Activators: inHand{n}, Log: n.log, Registerer: n.registry, Ownership: control.Buckets{Count: n.s.Buckets, Holds: func(b int) bool { return n.kube.Holds(b) }},
	})
	return err
}

func (n *node) buildKube(client *kube.Client) (err error) {
	n.kube, err = kube.New(kube.Config{
		Namespace: n.s.Namespace, Settings: n.s.Settings, PortBook: n.s.PortBook, Ports: n.s.ports, PerSlice: n.s.PerSlice,
		Name: n.s.PodName, Address: n.s.peerAddress(), Buckets: n.s.Buckets, Bucket: n.bucket,
		Own: n.assign.Own, Disown: n.assign.Disown, Peers: n.peers.set, Resumed: n.pulse.Resumed,
		Sink: n.sink, Book: n.book, Scrape: n.scrape, Activators: n.activators, Log: n.log,
	}, client)
	return err
}

func (n *node) buildStats() (err error) {
	// What is fetched here is fetched by every instance: it is not passed on.
	if n.scraper, err = statstream.NewScraper(statstream.ScraperConfig{Sink: &renamed{n}, Log: n.log}); err != nil {
		return err
	}
	n.stats, err = statstream.NewHandler(statstream.HandlerConfig{
		Sink: statstream.Tee{&renamed{n}, n.peers}, Authorize: n.authorizeReports(), Log: n.log, Resumed: n.pulse.Resumed,
	})
	return err
}

func (n *node) scrape(rev identity.Revision, pods []identity.Pod) {
	n.scraper.Put(rev, pods, 0)
}

// roster is the activators as they were when it was made. Every Service asks for them, and each has thousands of ports.
type roster struct {
	stale atomic.Bool

	mu  sync.Mutex
	all []kube.Activator // guarded by mu; nil before the first question
}

// activators tells which activators there are, by their streams.
func (n *node) activators() []kube.Activator {
	r := &n.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stale.Swap(false) && r.all != nil {
		return r.all
	}
	states := n.assign.Activators()
	r.all = make([]kube.Activator, 0, len(states))
	for _, s := range states {
		addr, err := netip.ParseAddrPort(s.Addr)
		if err != nil {
			n.log.Warn("an activator names no address", "activator", s.Name, "address", s.Addr)
			continue
		}
		r.all = append(r.all, kube.Activator{Addr: addr.Addr().Unmap(), Zone: s.Zone, Connected: s.Connected && !s.Draining, Port: func(port uint16) (open bool, refused string) {
			refused, known := s.Ports[port]
			return known && refused == "", refused
		}})
	}
	return r.all
}

// listen opens the listeners, so that a port that is taken is said at start.
func (n *node) listen(ctx context.Context) error {
	admin := telemetry.NewAdminHandler(telemetry.AdminConfig{Gatherer: n.registry, Ready: n.ready, Profiles: n.s.Profiles})
	admin.Handle("/explain", n.loop.ExplainHandler())
	admin.HandleFunc("/activators", n.serveActivators)
	for _, l := range []struct {
		env, addr string
		handler   http.Handler
		drain     func(context.Context) error
	}{
		{"ROUSE_ADMIN_LISTEN", n.s.AdminListen, admin, nil},
		{"ROUSE_STATS_LISTEN", n.s.StatsListen, n.stats, n.stats.Close},
		{"ROUSE_ASSIGN_LISTEN", n.s.AssignListen, n.assign, n.assign.Close},
	} {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", l.addr)
		if err != nil {
			for _, s := range n.servers {
				err = errors.Join(err, s.ln.Close())
			}
			return fmt.Errorf("%s: %w", l.env, err)
		}
		n.servers = append(n.servers, &server{name: l.env, ln: ln, drain: l.drain,
			http: &http.Server{Handler: l.handler, ReadHeaderTimeout: 5 * time.Second}})
	}
	return nil
}

// stages start in this order and stop in reverse: what decides ends before what it tells, and the leases are given up
// first, so that another instance takes over while this one still says goodbye.
func (n *node) stages() []lifecycle.Stage {
	stages := []lifecycle.Stage{{Name: "pulse", Run: n.pulse.Run}}
	for _, s := range n.servers {
		stages = append(stages, s.stage())
	}
	if n.shared != nil {
		stages = append(stages, lifecycle.Stage{Name: "token", Run: n.shared.Run})
	}
	return append(stages,
		lifecycle.Stage{Name: "peers", Run: n.peers.run},
		lifecycle.Stage{Name: "scraper", Run: n.scraper.Run},
		lifecycle.Stage{Name: "leases of slots", Run: n.assign.Run},
		lifecycle.Stage{Name: "loop", Run: n.loop.Run},
		lifecycle.Stage{Name: "kubernetes", Run: n.kube.Run},
	)
}

// server is one listener.
type server struct {
	name  string
	ln    net.Listener
	http  *http.Server
	drain func(context.Context) error
}

func (s *server) stage() lifecycle.Stage {
	return lifecycle.Stage{
		Name: s.name,
		Run: func(context.Context) error {
			if err := s.http.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		Stop: func(ctx context.Context) error {
			var err error
			if s.drain != nil {
				err = s.drain(ctx)
			}
			return errors.Join(err, s.http.Shutdown(ctx))
		},
		Budget: 2 * time.Second,
	}
}

package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// Config of a [Control]. Fields without a default are required.
type Config struct {
	// Namespace is where control runs. Settings is its ConfigMap with the scaling settings of the cluster, PortBook the
	// one in which ports are recorded.
	Namespace, Settings, PortBook string
	// Ports are what Services get on activators. Default portalloc.DefaultRange.
	Ports portalloc.Range
	// PerSlice is how many endpoints go into one slice. Default 100, as Kubernetes' own controller does.
	PerSlice int
	// Name and Address tell this instance of control from others; see [MembershipConfig].
	Name, Address string
	// Buckets is how many buckets there are, and Bucket tells which one a revision is in.
	Buckets int
	Bucket  func(identity.Revision) int
	// Own, Disown and Peers are told about the share of this instance; see [MembershipConfig].
	Own    func(bucket int, epoch uint64)
	Disown func(bucket int)
	Peers  func([]string)
	// Resumed tells when this process last went on after it had stood still, zero for never.
	Resumed func() time.Time
	// Sink takes the workloads, Book their pods.
	Sink Sink
	Book *endpoint.Book
	// Scrape is told which pods of a workload push no reports, so that somebody has to fetch them: from the addresses given.
	Scrape func(identity.Revision, []identity.Pod)
	// Activators tells which activators there are; [Control.ActivatorsChanged] says that it would tell something else.
	Activators func() []Activator
	Log        *slog.Logger
}

// Validate names every field that is missing.
func (c Config) Validate() error {
	var errs []error
	for name, ok := range map[string]bool{
		"Namespace": c.Namespace != "", "Settings": c.Settings != "", "PortBook": c.PortBook != "", "Name": c.Name != "",
		"Buckets": c.Buckets > 0, "Bucket": c.Bucket != nil, "Own": c.Own != nil, "Disown": c.Disown != nil, "Sink": c.Sink != nil,
		"Book": c.Book != nil, "Resumed": c.Resumed != nil, "Activators": c.Activators != nil, "Scrape": c.Scrape != nil, "Log": c.Log != nil,
	} {
		if !ok {
			errs = append(errs, fmt.Errorf("kube: Config needs %s", name))
		}
	}
	if c.PerSlice > sliceplan.MaxEndpoints {
		errs = append(errs, fmt.Errorf("kube: PerSlice must be at most %d", sliceplan.MaxEndpoints))
	}
	return errors.Join(errs...)
}

// Control is everything that an instance of control does with the API server.
type Control struct {
	*Publisher
	*Scaler
	cfg        Config
	cluster    *Cluster
	mirror     *Mirror
	ports      *Ports
	membership *Membership
	reporter   *reporter
	read       atomic.Bool // everything was put once
	probe      http.Client
}

// New wires a Control; nothing is asked of the server yet.
func New(cfg Config, client *Client) (*Control, error) {
	if cfg.Ports == (portalloc.Range{}) {
		cfg.Ports = portalloc.DefaultRange
	}
	if cfg.PerSlice == 0 {
		cfg.PerSlice = 100
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Control{cfg: cfg, cluster: NewCluster(ClusterConfig{Namespace: cfg.Namespace, Log: cfg.Log}, client),
		reporter: newReporter(client, cfg.Log), ports: newPorts(client, cfg.Namespace, cfg.PortBook, cfg.Ports, cfg.Log)}
	c.membership = newMembership(MembershipConfig{
		Namespace: cfg.Namespace, Name: cfg.Name, Address: cfg.Address, Buckets: cfg.Buckets, Log: cfg.Log, Own: c.own, Disown: cfg.Disown, Peers: cfg.Peers,
		Resumed: cfg.Resumed,
	}, client, c.cluster)
	c.mirror = &Mirror{cluster: c.cluster, ports: c.ports, book: cfg.Book, sink: cfg.Sink, reporter: c.reporter, owns: c.Owns, scrape: cfg.Scrape, log: cfg.Log,
		queue: newQueue(), tracked: make(map[key]*tracked), since: make(map[key]map[workload.Reason]time.Time), former: make(map[key]key)}
	c.Publisher = &Publisher{client: client, cluster: c.cluster, mirror: c.mirror, owns: c.Owns, fence: c.membership.fence, activators: cfg.Activators, reporter: c.reporter,
		log: cfg.Log, perSlice: cfg.PerSlice, began: time.Now(), queue: newQueue(), modes: make(map[key]*mode), gone: make(map[key]time.Time)}
	c.Scaler = &Scaler{client: client, cluster: c.cluster, fence: c.membership.fence, reporter: c.reporter}
	c.probe = http.Client{Timeout: probeTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	c.cluster.addWatches()
	c.listen()
	return c, nil
}

// listen connects the parts: a change of an object puts its workload into the queue.
func (c *Control) listen() {
	c.cluster.onWorkload = func(k key) {
		if c.read.Load() {
			c.mirror.queue.Add(k)
		}
	}
	c.cluster.onService = func(k key) {
		if !c.read.Load() {
			return
		}
		if s := c.cluster.services.get(k); s != nil {
			c.mirror.queue.Add(key{k.namespace, s.target()})
		}
	}
	c.cluster.onHome = func(old, now *pod) {
		if c.read.Load() && c.Publisher.concerned(old, now) {
			c.Publisher.all()
		}
	}
	c.cluster.onConfig = c.configChanged
	c.cluster.onLease = c.membership.saw
	c.cluster.onWatch = c.watchHealth
	c.mirror.touched = c.Publisher.queue.Add
	c.ports.changed = func() {
		for _, k := range c.mirror.keys() {
			if t := c.mirror.get(k); t != nil && !c.ports.current(t) {
				c.mirror.queue.Add(k)
			}
		}
	}
}

func (c *Control) configChanged(name string) {
	k := key{c.cfg.Namespace, name}
	switch name {
	case c.cfg.PortBook:
		c.ports.read(c.cluster.configs.get(k))
	case c.cfg.Settings:
		data := map[string]string{}
		if m := c.cluster.configs.get(k); m != nil {
			data = m.data
		}
		c.mirror.configure(data, subject{"v1", "ConfigMap", k, ""})
	}
}

// watchHealth says once that a kind of object can't be watched.
func (c *Control) watchHealth(what string, err error) {
	about := subject{"v1", "Namespace", key{"", c.cfg.Namespace}, ""}
	if err == nil {
		c.reporter.say(about, source(what))
		c.cfg.Log.Info("watching again", "what", what)
		return
	}
	c.reporter.say(about, source(what), complaint{"CannotWatch" + what, fmt.Sprintf(
		"%s can't be watched: %v; if it is forbidden, see the ClusterRole of control", what, err)})
}

// Owns says whether this instance decides about a revision.
func (c *Control) Owns(rev identity.Revision) bool { return c.membership.Holds(c.cfg.Bucket(rev)) }

// own looks at every workload of a bucket that was taken.
func (c *Control) own(bucket int, epoch uint64) {
	c.cfg.Own(bucket, epoch)
	for _, t := range []*table[opted]{c.cluster.deployments, c.cluster.sets} {
		t.all(func(k key, o *opted) {
			if c.cfg.Bucket(o.Revision()) == bucket {
				c.mirror.queue.Add(k)
			}
		})
	}
	c.tidy()
}

// tidy looks at the Services of workloads that are not there any more.
func (c *Control) tidy() {
	for _, k := range c.cluster.strays() {
		c.mirror.queue.Add(k)
	}
}

// ActivatorsChanged says that activators came, went, or opened ports.
func (c *Control) ActivatorsChanged() {
	if c.read.Load() {
		c.Publisher.all()
	}
}

// Ready says whether everything was read once: before that nothing is decided.
func (c *Control) Ready() error {
	if !c.read.Load() {
		return ErrNotSynced
	}
	return nil
}

// Workloads returns how many workloads are in control.
func (c *Control) Workloads() int { return len(c.mirror.keys()) }

// portSweep is how often ports of Services that are gone are looked for, and how often those are asked for again that
// there was no room for.
const portSweep = 30 * time.Second

// Run watches, publishes and takes its share until ctx ends.
func (c *Control) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = c.cluster.Run(ctx) })
	wg.Go(func() { c.reporter.run(ctx) })
	began := time.Now()
	if !c.cluster.AwaitSync(ctx) {
		return nil
	}
	// Everything is put before a bucket is taken: activators drop what its new owner does not name.
	c.read.Store(true)
	for _, t := range []*table[opted]{c.cluster.deployments, c.cluster.sets} {
		var keys []key
		t.all(func(k key, _ *opted) { keys = append(keys, k) })
		for _, k := range keys {
			c.mirror.sync(k)
		}
	}
	c.mirror.resume(began)
	c.tidy()
	c.cfg.Log.Info("the cluster is read", "workloads", c.Workloads(), "pods", c.cluster.pods.len(), "took", time.Since(began).Round(time.Millisecond).String())
	wg.Go(func() { c.mirror.run(ctx) })
	wg.Go(func() { c.Publisher.run(ctx) })
	wg.Go(func() { c.ports.run(ctx) })
	wg.Go(func() { c.sweep(ctx) })
	wg.Go(func() { c.membership.run(ctx) })
	<-ctx.Done()
	return nil
}

// sweep releases the ports of Services that nobody scales any more, which one instance does for all, and asks for those
// that this one was refused.
func (c *Control) sweep(ctx context.Context) {
	var before map[portalloc.Holder]bool
	for {
		pause(ctx, portSweep)
		if ctx.Err() != nil {
			return
		}
		now := make(map[portalloc.Holder]bool)
		for _, k := range c.mirror.keys() {
			t := c.mirror.get(k)
			if t == nil {
				continue
			}
			for i := range t.service.Ports {
				now[t.holder(i)] = true
			}
			if c.ports.astray(t) {
				c.mirror.queue.Add(k) // there may be room by now for its move
			}
		}
		inUse := make(map[portalloc.Holder]bool, len(now))
		for h := range now {
			inUse[h] = true
		}
		for h := range before { // what was gone for a moment only keeps its port
			inUse[h] = true
		}
		if before != nil && c.membership.First() {
			c.ports.release(inUse)
		}
		c.ports.again(now)
		before = now
	}
}

// probeTimeout bounds one look for an activator behind a Service.
const probeTimeout = time.Second

// Answers asks a workload's Service, by each of its cluster addresses, whether an activator is behind it. An address behind which nothing is
// published has nobody to lose; with an activator behind one address and a pod behind the other the answer is no.
func (c *Control) Answers(ctx context.Context, rev identity.Revision) (bool, error) {
	t := c.mirror.get(key{rev.Namespace, rev.Name})
	if t == nil || t.rev != rev || t.leaving {
		return false, fmt.Errorf("%w: %s", ErrNotThere, rev)
	}
	asked := 0
	for _, a := range c.inUse(t.service) {
		if ok, err := c.ask(ctx, netip.AddrPortFrom(a, t.service.Ports[t.primary].Number)); !ok || err != nil {
			return false, err
		}
		asked++
	}
	if asked == 0 {
		return false, fmt.Errorf("service %s has no cluster address with anything behind it", t.service.Name)
	}
	return true, nil
}

// inUse returns the cluster addresses of a Service that our slices lead somewhere from.
func (c *Control) inUse(s *service) (addrs []netip.Addr) {
	ours, _ := c.cluster.slicesFor(key{s.Namespace, s.Name})
	for _, a := range s.clusterIPs {
		if slices.ContainsFunc(ours, func(o *slice) bool { return a.Is6() == o.contents.IPv6 && len(o.contents.Endpoints) > 0 }) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// ask sends the header that Knative's activators answer too.
func (c *Control) ask(ctx context.Context, addr netip.AddrPort) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+"/", http.NoBody)
	if err != nil {
		return false, err
	}
	req.Header.Set("K-Network-Probe", "activator")
	req.Header.Set("User-Agent", "Knative-Autoscaling-Probe")
	resp, err := c.probe.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64))
	return resp.StatusCode == http.StatusOK && string(body) == "activator", err
}

// PodUID returns the UID of a pod of a workload by its name: queue-proxies report under the name.
func (c *Control) PodUID(namespace, name string) (uid string, ok bool) {
	p := c.cluster.pods.get(key{namespace, name})
	if p == nil {
		return "", false
	}
	return p.uid, true
}

// Holds says whether this instance holds a bucket.
func (c *Control) Holds(bucket int) bool { return c.membership.Holds(bucket) }

// Held returns how many buckets this instance holds.
func (c *Control) Held() (n int) {
	for b := range c.cfg.Buckets {
		if c.membership.Holds(b) {
			n++
		}
	}
	return n
}

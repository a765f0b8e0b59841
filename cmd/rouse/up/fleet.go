package up

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/manifest"
	"github.com/rousehq/rouse/internal/route"
)

// keptRevisions is how many revisions of a service stay known, so that traffic can go back to them.
const keptRevisions = 20

// fleet is every service that runs, with its revisions and its traffic. It is safe for concurrent use; changes are
// made one at a time.
type fleet struct {
	stack   *stack
	planner *planner
	domains route.Domains

	mu       sync.Mutex
	services map[string]*deployment // by namespace/name; guarded by mu
	changed  chan struct{}          // capacity 1: a rollout may have a next step

	interceptors []manifest.InterceptorRoute // guarded by mu
}

// deployment is one service. Guarded by the fleet's lock.
type deployment struct {
	service   manifest.Service
	revisions []*planned // oldest first
	made      int64      // generations so far
	// fixed are the rows of traffic that name their revision, moving is the row of the latest one.
	fixed  []route.Share
	moving route.Rollout
	tag    string // of the row of the latest revision
}

// atOnce is how many processes can start at the same time without one delaying the other: a start waits about as long
// as it computes.
func atOnce() int { return 2 * runtime.GOMAXPROCS(0) }

// Change is what an apply did to one service.
type Change struct {
	Service  string `json:"service"`
	Revision string `json:"revision"`
	What     string `json:"what"` // created, configured, traffic or unchanged
}

func newFleet(s *stack, p *planner) *fleet {
	return &fleet{
		stack: s, planner: p, domains: route.Domains{Public: s.o.Domain},
		services: map[string]*deployment{}, changed: make(chan struct{}, 1),
	}
}

// apply makes the services what the manifests say. Services that the manifests do not name stay. With an error, the
// services before it are applied. first says that nothing runs yet: what is missing is warned of then, not refused.
func (f *fleet) apply(in intake, first bool) ([]Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var changes []Change
	var errs []error
	for i := range in.services {
		c, err := f.applyService(&in.services[i], in.base, first)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		changes = append(changes, c)
	}
	for _, ir := range in.interceptors {
		f.interceptors = slices.DeleteFunc(f.interceptors, func(old manifest.InterceptorRoute) bool {
			return old.Namespace == ir.Namespace && old.Name == ir.Name
		})
		f.interceptors = append(f.interceptors, ir)
	}
	errs = append(errs, f.reroute(time.Now()))
	return changes, errors.Join(errs...)
}

func (f *fleet) applyService(s *manifest.Service, base config.Autoscaler, first bool) (Change, error) {
	key := s.Namespace + "/" + s.Name
	d := f.services[key]
	if d == nil {
		d = &deployment{}
	}
	next := d.identical(s)
	c := Change{Service: key, What: "unchanged"}
	if next == nil {
		warm := len(d.revisions) > 0 && !first
		p, err := f.planner.plan(s, base, d.made+1, warm)
		if err != nil {
			return c, err
		}
		if d.named(p.config.ID.Name) != nil {
			return c, fmt.Errorf("%s: revision %s exists with another template: give the new one a name of its own, or none",
				s.Where("spec.template.metadata.name"), p.config.ID.Name)
		}
		next, c.What = p, "created"
	} else if changed, err := f.reconfigure(next, s, base); err != nil {
		return c, err
	} else if changed {
		c.What = "configured"
	}
	c.Revision = next.config.ID.Name
	shares, err := f.traffic(s, d, next, first)
	if err != nil {
		return c, err
	}
	if c.What == "created" {
		if err := f.stack.adopt(next); err != nil {
			return c, err
		}
		d.revisions = append(d.revisions, next)
		d.made++
	}
	d.service = *s
	f.services[key] = d
	if d.point(shares, next.config.ID, s.RolloutDuration, f.stack.ready(next.config.ID)) && c.What == "unchanged" {
		c.What = "traffic"
	}
	f.retire(d)
	return c, nil
}

// reconfigure gives a running revision the settings of a manifest that differs in live ones only, and reports whether
// there were any.
func (f *fleet) reconfigure(p *planned, s *manifest.Service, base config.Autoscaler) (bool, error) {
	next, err := f.planner.plan(s, base, p.config.ID.Generation, p.warm)
	if err != nil || len(config.Diff(p.config, next.config)) == 0 {
		return false, err
	}
	p.config, p.service = next.config, next.service
	f.stack.front.put(p.config)
	return true, f.stack.loop.Add(p.config, control.Target{Scale: scaleTarget{f.stack.runner}, AtOnce: atOnce()})
}

// identical returns the latest revision when the template has not changed.
func (d *deployment) identical(s *manifest.Service) *planned {
	if len(d.revisions) == 0 {
		return nil
	}
	latest := d.revisions[len(d.revisions)-1]
	if latest.hash != s.Template.Hash() || s.Template.Name != "" && s.Template.Name != latest.config.ID.Name {
		return nil
	}
	return latest
}

func (d *deployment) named(name string) *planned {
	for _, p := range d.revisions {
		if p.config.ID.Name == name {
			return p
		}
	}
	return nil
}

// row is a row of traffic with its revision found.
type row struct {
	route.Share
	latest bool
}

// traffic finds the revisions of spec.traffic.
func (f *fleet) traffic(s *manifest.Service, d *deployment, latest *planned, first bool) ([]row, error) {
	exists := func(name string) bool { return name == latest.config.ID.Name || d.named(name) != nil }
	targets, diags := s.ResolveTraffic(latest.config.ID.Name, exists)
	if err := diags.Err(); err != nil && !first {
		return nil, err
	}
	for _, missing := range diags {
		missing.Severity = manifest.Warning
		fmt.Fprintf(f.stack.o.Stderr, "%s; its share goes to the latest revision\n", missing.String())
	}
	rows := make([]row, 0, len(targets)+1)
	left := 100
	for _, t := range targets {
		id := latest.config.ID
		if p := d.named(t.RevisionName); p != nil {
			id = p.config.ID
		}
		left -= int(t.Percent)
		rows = append(rows, row{route.Share{Revision: id, Tag: t.Tag, Percent: int(t.Percent)}, t.LatestRevision})
	}
	if left > 0 {
		rows = append(rows, row{route.Share{Revision: latest.config.ID, Percent: left}, true})
	}
	return rows, nil
}

// point sets the traffic and reports whether it changed. The share of the latest revision moves to it when it is
// ready: at once when that is so or nobody has that share yet, in steps when the service has a rollout duration.
func (d *deployment) point(rows []row, latest identity.Revision, over time.Duration, ready bool) bool {
	before := slices.Concat(d.fixed, d.moving.Shares)
	d.fixed, d.tag = nil, ""
	percent := 0
	for _, r := range rows {
		if r.latest {
			percent += r.Percent
			d.tag = r.Tag
			continue
		}
		d.fixed = append(d.fixed, r.Share)
	}
	now := time.Now()
	current, _ := d.moving.At(now)
	switch held := total(current); {
	case held != percent || len(current) == 0:
		d.moving = route.Rollout{Shares: []route.Share{{Revision: latest, Percent: percent}}, Began: now}
	case newest(current) != latest:
		d.moving = hold(current, latest, now, over)
	}
	if ready {
		d.moving = release(d.moving, now)
	}
	return !slices.Equal(before, slices.Concat(d.fixed, d.moving.Shares))
}

// hold begins a move to a revision that is not ready yet: until then it gets nothing, so that no request waits for it.
func hold(current []route.Share, to identity.Revision, now time.Time, over time.Duration) route.Rollout {
	return route.Rollout{Shares: append(slices.Clone(current), route.Share{Revision: to}), Began: now, Duration: over}
}

// release lets a held move go on, now that the new revision is ready.
func release(r route.Rollout, now time.Time) route.Rollout {
	if len(r.Shares) < 2 || !r.Ready.IsZero() {
		return r
	}
	last := r.Shares[len(r.Shares)-1]
	moved := route.Begin(r.Began, r.Shares[:len(r.Shares)-1], last.Revision, r.Duration)
	return moved.Observed(now)
}

func total(shares []route.Share) int {
	sum := 0
	for _, s := range shares {
		sum += s.Percent
	}
	return sum
}

func newest(shares []route.Share) identity.Revision { return shares[len(shares)-1].Revision }

// retire forgets the oldest revisions that get no traffic.
func (f *fleet) retire(d *deployment) {
	for i := 0; len(d.revisions) > keptRevisions && i < len(d.revisions)-1; {
		p := d.revisions[i]
		if d.routed(p.config.ID) {
			i++
			continue
		}
		f.stack.abandon(p)
		d.revisions = slices.Delete(d.revisions, i, i+1)
	}
}

func (d *deployment) shares(now time.Time) (all []route.Share, next time.Time) {
	moving, next := d.moving.At(now)
	all = slices.Clone(d.fixed)
	for i, s := range moving {
		if i == len(moving)-1 {
			s.Tag = d.tag
		}
		all = append(all, s)
	}
	return all, next
}

func (d *deployment) routed(id identity.Revision) bool {
	all, _ := d.shares(time.Now())
	return slices.ContainsFunc(all, func(s route.Share) bool { return s.Revision == id })
}

// reroute puts the traffic of this moment in force, and tells control which revisions can be reached. The caller holds
// the lock.
func (f *fleet) reroute(now time.Time) error {
	var routes []route.Route
	var answers []route.Answer
	for _, key := range slices.Sorted(maps.Keys(f.services)) {
		d := f.services[key]
		shares, _ := d.shares(now)
		s := &d.service
		own := f.domains.Routes(s.Namespace, s.Name, s.ClusterLocal, shares)
		routes = append(routes, own...)
		for i := range f.interceptors {
			if ir := &f.interceptors[i]; len(own) > 0 && ir.Namespace == s.Namespace && ir.Service == s.Name {
				more, fixed := ir.Routes(own[0])
				routes, answers = append(routes, more...), append(answers, fixed...)
			}
		}
		for _, p := range d.revisions {
			to := kpa.Unreachable
			if d.routed(p.config.ID) {
				to = kpa.Reachable
			}
			if err := f.stack.loop.SetReachability(p.config.ID, to); err != nil {
				return err
			}
		}
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
	return f.stack.front.swap(route.Config{Routes: routes, Answers: answers})
}

// observe lets a move go on when its revision is ready.
func (f *fleet) observe(id identity.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.services {
		if len(d.moving.Shares) > 1 && newest(d.moving.Shares) == id && d.moving.Ready.IsZero() {
			now := time.Now()
			d.moving = release(d.moving, now)
			if err := f.reroute(now); err != nil {
				f.stack.log.Error("traffic stays where it was", "revision", id.String(), "error", err.Error())
			}
		}
	}
}

// run takes the steps of gradual rollouts until ctx ends.
func (f *fleet) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
		case <-timer.C:
			if err := f.step(); err != nil {
				f.stack.log.Error("a rollout step failed", "error", err.Error())
			}
		}
		if next := f.nextStep(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

func (f *fleet) step() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reroute(time.Now())
}

func (f *fleet) nextStep() (soonest time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.services {
		if _, next := d.shares(time.Now()); !next.IsZero() && (soonest.IsZero() || next.Before(soonest)) {
			soonest = next
		}
	}
	return soonest
}

// latest returns the newest revision of every service, in order of name.
func (f *fleet) latest() []*planned {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*planned
	for _, key := range slices.Sorted(maps.Keys(f.services)) {
		all = append(all, f.services[key].newest())
	}
	return all
}

func (d *deployment) newest() *planned { return d.revisions[len(d.revisions)-1] }

// current returns the newest revision of a service, named as "name" or "namespace/name".
func (f *fleet) current(service string) (identity.Revision, error) {
	d, err := f.find(service)
	if err != nil {
		return identity.Revision{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return d.newest().config.ID, nil
}

func (f *fleet) find(service string) (*deployment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(f.services)) {
		if d := f.services[key]; service == key || service == d.service.Name {
			return d, nil
		}
	}
	return nil, fmt.Errorf("there is no service %q", service)
}

// adopt makes a revision known to every part.
func (s *stack) adopt(p *planned) error {
	id := p.config.ID
	s.narrator.name(id, p.service.Name)
	s.tape.follow(id, p.service.Name)
	s.telemetry.Name(id, activator.Labels{
		Namespace: id.Namespace, Service: p.service.Name, Configuration: p.service.Name, Revision: id.Name,
	})
	s.front.put(p.config)
	s.book.Subscribe(id, s.front.update)
	if err := s.runner.Add(p.spec); err != nil {
		return err
	}
	// The first pods do not wait for a measurement, as those of a new Deployment do not.
	initial := max(p.config.Scaling.InitialScale.V, p.config.Scaling.MinScale.V)
	if initial > 0 {
		if err := s.runner.Apply(context.Background(), id, initial, nil); err != nil {
			return err
		}
	}
	return s.loop.Add(p.config, control.Target{Scale: scaleTarget{s.runner}, Replicas: initial, New: true, AtOnce: atOnce()})
}

// abandon forgets a revision that gets no traffic; its pods finish what they have.
func (s *stack) abandon(p *planned) {
	id := p.config.ID
	s.loop.Remove(id)
	s.front.remove(id)
	s.telemetry.Forget(id)
	s.background.Go(func() {
		if err := s.runner.Remove(context.Background(), id); err != nil {
			s.log.Error("a revision's pods did not end", "revision", id.String(), "error", err.Error())
		}
	})
}

// ready reports whether the revision has a pod that takes requests, or none of its service's have.
func (s *stack) ready(id identity.Revision) bool {
	return s.book.Snapshot(id).Count(endpoint.Ready) > 0
}

// status describes every revision that has traffic or pods.
func (f *fleet) status() []Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []Status{}
	now := time.Now()
	for _, key := range slices.Sorted(maps.Keys(f.services)) {
		d := f.services[key]
		shares, _ := d.shares(now)
		for _, p := range d.revisions {
			st := f.stack.describe(p)
			st.Service = key
			for _, s := range shares {
				if s.Revision == p.config.ID {
					st.Percent += s.Percent
					st.Tags = strings.TrimPrefix(st.Tags+","+s.Tag, ",")
				}
			}
			all = append(all, st)
		}
	}
	return all
}

func (s *stack) describe(p *planned) Status {
	id := p.config.ID
	st := Status{Revision: id.Name}
	st.Parked, st.InFlight = s.front.counts(id)
	if h, err := s.runner.Health(id); err == nil {
		st.Ready, st.Starting, st.Draining = h.Ready, h.Starting, h.Draining
		st.Problem = h.Reason
	}
	return st
}

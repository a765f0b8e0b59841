package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/metrics"
)

// How drain-aware bursts begin in a cluster of which nobody knows how many pods it can start at the same time: few, since
// the first ones are late when they share their machines with all the others. Then as many more as are ready, and one a
// second whatever is. A pod costs a node 0.3 to 1 s of CPU before it listens: with ten more a second, none of sixty was
// ready on two cores before 25 s.
const (
	startAtOnce = 4
	startPace   = time.Second
)

// workloads makes every part know what the cluster holds. It is a kube.Sink.
type workloads struct {
	n *node

	mu      sync.Mutex
	cancels map[identity.Revision]func()       // of the activators' subscriptions; guarded by mu
	extra   map[identity.Revision][]kube.Extra // guarded by mu
}

func newWorkloads(n *node) *workloads {
	return &workloads{n: n, cancels: make(map[identity.Revision]func()), extra: make(map[identity.Revision][]kube.Extra)}
}

// Put implements kube.Sink.
func (w *workloads) Put(r kube.Routed) {
	id := r.Config.ID
	w.tell(assigned(r, w.n.bucket(id)))
	w.putExtra(r)
	if err := w.n.loop.Add(r.Config, control.Target{
		Scale: scaleTarget{w.n.kube}, Mode: modeTarget{w.n.kube}, Replicas: r.Replicas, AtOnce: startAtOnce, Pace: startPace,
	}); err != nil {
		w.n.log.Error("a workload is not in control", "revision", id.String(), "error", err)
		return
	}
	floor := 0
	if r.Releasing {
		floor = 1
	}
	_ = w.n.loop.SetReplicas(id, r.Replicas) // it was added above
	_ = w.n.loop.SetFloor(id, floor)
}

// Linger implements kube.Sink.
func (w *workloads) Linger(r kube.Routed) {
	w.tell(assigned(r, w.n.bucket(r.Config.ID)))
	w.putExtra(r)
}

// tell makes activators know a revision and its endpoints.
func (w *workloads) tell(r assign.Revision) {
	w.n.assign.PutRevision(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancels[r.ID] == nil {
		w.cancels[r.ID] = w.n.book.Subscribe(r.ID, w.n.assign.Endpoints)
	}
}

// putExtra makes activators know the further ports of a workload's Service, and forget those that are gone. Its limit is
// not theirs: they lead past the queue-proxy.
func (w *workloads) putExtra(r kube.Routed) {
	id := r.Config.ID
	w.mu.Lock()
	before := w.extra[id]
	delete(w.extra, id)
	if len(r.Extra) > 0 {
		w.extra[id] = r.Extra
	}
	w.mu.Unlock()
	for _, x := range r.Extra {
		a := assigned(r, w.n.bucket(id))
		a.ID, a.Ports = x.ID, x.Ports
		a.Settings.ContainerConcurrency = 0
		w.tell(a)
	}
	for _, old := range before {
		if !slices.ContainsFunc(r.Extra, func(x kube.Extra) bool { return x.ID == old.ID }) {
			w.forget(old.ID)
		}
	}
}

// Leave implements kube.Sink.
func (w *workloads) Leave(id identity.Revision) { w.n.loop.Remove(id) }

// Unlisten implements kube.Sink.
func (w *workloads) Unlisten(id identity.Revision) {
	w.n.assign.SetPorts(id)
	w.mu.Lock()
	extra := w.extra[id]
	w.mu.Unlock()
	for _, x := range extra {
		w.n.assign.SetPorts(x.ID)
	}
}

// Remove implements kube.Sink.
func (w *workloads) Remove(id identity.Revision) {
	w.n.loop.Remove(id)
	w.mu.Lock()
	extra := w.extra[id]
	delete(w.extra, id)
	w.mu.Unlock()
	for _, x := range extra {
		w.forget(x.ID)
	}
	w.forget(id)
}

func (w *workloads) forget(id identity.Revision) {
	w.mu.Lock()
	cancel := w.cancels[id]
	delete(w.cancels, id)
	w.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	w.n.assign.RemoveRevision(id)
}

// assigned is what activators need to know of a workload.
func assigned(r kube.Routed, shard int) assign.Revision {
	c := r.Config
	return assign.Revision{
		ID: c.ID, Shard: shard, Service: c.Service, Configuration: c.Configuration, Ports: r.Ports, Settings: dispatch(c),
	}
}

func dispatch(c *config.Revision) assign.Settings {
	return assign.Settings{
		ContainerConcurrency: c.ContainerConcurrency.V,
		QueueLimit:           c.QueueLimit.V,
		QueueDeadline:        c.QueueDeadline.V,
		Timeout:              c.Timeout.V,
		ResponseStartTimeout: c.ResponseStartTimeout.V,
		IdleTimeout:          c.IdleTimeout.V,
		Dispatching:          c.Dispatching(),
	}
}

// scaleTarget lets the loop scale workloads.
type scaleTarget struct{ kube *kube.Control }

// Apply implements control.ScaleTarget.
func (t scaleTarget) Apply(ctx context.Context, r control.Request) error {
	return t.kube.Scale(ctx, r.Revision, r.Desired, r.Victims)
}

// modeTarget lets the loop say who carries a workload's traffic.
type modeTarget struct{ kube *kube.Control }

// SetMode implements control.ModeTarget.
func (t modeTarget) SetMode(ctx context.Context, r control.ModeRequest) error {
	return t.kube.SetMode(ctx, r.Revision, r.Mode == kpa.Serve, r.Activators)
}

// ActivatorAnswers implements control.ModeTarget.
func (t modeTarget) ActivatorAnswers(ctx context.Context, rev identity.Revision) (bool, error) {
	return t.kube.Answers(ctx, rev)
}

// renamed hands reports to the loop as it knows things: under the pod's UID, since queue-proxies know their pod's name
// and control chooses the pods that go by UID; and under the workload's name, since a further port has one of its own.
type renamed struct{ n *node }

// Report implements statstream.Sink.
func (r *renamed) Report(m metrics.Message) {
	e := &m.Stat.Extension
	if name, uid, port, ok := kube.Whole(m.Name, e.RevisionUID); ok {
		m.Name, e.RevisionUID = name, uid
		m.Stat.PodName += "/" + port // a source of its own beside the activator's main report
	} else if uid, ok := r.n.kube.PodUID(m.Namespace, m.Stat.PodName); ok {
		m.Stat.PodName = uid
	}
	r.n.loop.Report(m)
}

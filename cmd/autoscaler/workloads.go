package main

import (
	"context"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/metrics"

	"sync"
)

// workloads makes every part know what the cluster holds. It is a kube.Sink.
type workloads struct {
	n *node

	mu      sync.Mutex
	cancels map[identity.Revision]func() // of the activators' subscriptions; guarded by mu
}

func newWorkloads(n *node) *workloads {
	return &workloads{n: n, cancels: make(map[identity.Revision]func())}
}

// Put implements kube.Sink.
func (w *workloads) Put(r kube.Routed) {
	id := r.Config.ID
	w.n.assign.PutRevision(assigned(r, w.n.bucket(id)))
	w.mu.Lock()
	first := w.cancels[id] == nil
	if first {
		w.cancels[id] = w.n.book.Subscribe(id, w.n.assign.Endpoints)
	}
	w.mu.Unlock()
	if err := w.n.loop.Add(r.Config, control.Target{Scale: scaleTarget{w.n.kube}, Mode: modeTarget{w.n.kube}, Replicas: r.Replicas}); err != nil {
		w.n.log.Error("a workload is not in control", "revision", id.String(), "error", err)
		return
	}
	floor := 0
	if r.Releasing {
		floor = 1
	}
	if !first {
		_ = w.n.loop.SetReplicas(id, r.Replicas) // it was added above
	}
	_ = w.n.loop.SetFloor(id, floor)
}

// Remove implements kube.Sink.
func (w *workloads) Remove(id identity.Revision) {
	w.n.loop.Remove(id)
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

// renamed hands reports to the loop under the pod's UID: queue-proxies know their pod's name, control chooses the pods
// that go by UID.
type renamed struct{ n *node }

// Report implements statstream.Sink.
func (r *renamed) Report(m metrics.Message) {
	if uid, ok := r.n.kube.PodUID(m.Namespace, m.Stat.PodName); ok {
		m.Stat.PodName = uid
	}
	r.n.loop.Report(m)
}

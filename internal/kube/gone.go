package kube

import (
	"context"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// abandonment is how long the Service of a workload that was deleted leads where it led: one that is made anew at once, or
// whose pods outlive it, must not leave a hole.
const abandonment = 5 * time.Second

// abandon deletes our slices of a workload that is gone. They lead to addresses that will be others'.
func (p *Publisher) abandon(ctx context.Context, k key, left []*slice) error {
	if !p.owns(identity.Revision{Namespace: k.namespace, Name: k.name}) || !p.cluster.knowsWorkloads() || p.cluster.alive(k) {
		return nil
	}
	p.mu.Lock()
	since, known := p.gone[k]
	if !known {
		since = time.Now()
		p.gone[k] = since
	}
	p.mu.Unlock()
	if wait := abandonment - time.Since(since); wait > 0 {
		p.queue.AddAfter(k, wait)
		return nil
	}
	if err := p.fence(); err != nil {
		return err
	}
	p.log.Info("its workload is gone: the Service leads nowhere from now on", "namespace", k.namespace, "service", left[0].service.name, "workload", k.name)
	for _, s := range left {
		asSeen := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &s.version}}
		err := p.client.core.DiscoveryV1().EndpointSlices(k.namespace).Delete(ctx, s.name, asSeen)
		if unlessGone(err) != nil {
			return err
		}
	}
	return nil
}

// orphans returns those of our slices that a plan leaves as they are although they go with a Service that was deleted, and
// made anew under its name: the garbage collector would delete them.
func orphans(svc *service, ours []*slice, plan *sliceplan.Plan) (all []sliceplan.Slice) {
	for _, s := range ours {
		written := slices.ContainsFunc(plan.Update, func(u sliceplan.Slice) bool { return u.Name == s.name })
		if s.owner != svc.UID && !written && !slices.Contains(plan.Delete, s.name) {
			all = append(all, s.contents)
		}
	}
	return all
}

// serviceless says whether the Service of a workload that lingers is not there.
func (m *Mirror) serviceless(t *tracked) bool { return m.cluster.services.get(t.serviceKey()) == nil }

// servicesOf returns the Services that say that they are a workload's, by their annotation or their name.
func (c *Cluster) servicesOf(k key) (all []*service) {
	c.mu.RLock()
	names := slices.Sorted(maps.Keys(c.serving[k]))
	c.mu.RUnlock()
	for _, name := range names {
		if s := c.services.get(key{k.namespace, name}); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// strays returns the workloads that are not there and whose Services have slices of ours.
func (c *Cluster) strays() (found []key) {
	var services []key
	c.mu.RLock()
	for k, of := range c.slicesOf {
		for _, s := range of {
			if s.ours() {
				services = append(services, k)
				break
			}
		}
	}
	c.mu.RUnlock()
	for _, k := range services {
		if s := c.services.get(k); s != nil && c.workload(key{k.namespace, s.target()}) == nil {
			found = append(found, key{k.namespace, s.target()})
		}
	}
	return found
}

// knowsWorkloads says whether every workload was read once: only then one that is not known is not there.
func (c *Cluster) knowsWorkloads() bool { return c.deployments.synced.Load() && c.sets.synced.Load() }

// alive says whether a pod of a workload of this name is ready, whether the workload is there or not.
func (c *Cluster) alive(k key) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, kind := range []workload.Kind{workload.Deployment, workload.StatefulSet} {
		for _, p := range c.podsOf[owner{kind, k}] {
			if p.ready && !p.terminating && !p.ended {
				return true
			}
		}
	}
	return false
}

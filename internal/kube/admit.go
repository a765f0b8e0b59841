package kube

import (
	"slices"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// admit returns the workload as it is now, nil when it can't be scaled. Faults that it endures leave the last good settings
// in force and its Service where it was; an instance that does not know those goes by what is good.
func (m *Mirror) admit(before *tracked, o *opted, b *workload.Bound, problems []workload.Problem) *tracked {
	if b != nil {
		if s := m.cluster.services.get(key{o.Namespace, b.Service.Name}); s != nil {
			return newTracked(o, s, b.Config)
		}
		return nil
	}
	if !m.endures(before, o, problems) {
		return nil
	}
	if before == nil || before.leaving {
		s := m.cluster.published(key{o.Namespace, o.Name}).carried()
		if s == nil {
			return nil // it never was in control
		}
		return newTracked(o, s, workload.Remains(&o.Object, &s.Service, m.settings()))
	}
	s := m.cluster.services.get(before.serviceKey()).carried()
	if s == nil || s.UID != before.service.UID || s.target() != o.Name || s.selfFilled() {
		return nil
	}
	return newTracked(o, s, before.sent.Config)
}

// endures says whether a workload that is in control stays there in spite of its problems: what went well need not end. Beside
// another autoscaler that is until it has a pod, as nobody else would wake it.
func (m *Mirror) endures(before *tracked, o *opted, problems []workload.Problem) bool {
	for _, p := range problems {
		switch {
		case p.Minor, p.Reason == workload.BadSettings:
		case before != nil && before.leaving:
			return false // it has been let go
		case p.Reason == workload.ManyServices, p.Reason == workload.ServicePorts, p.Reason == workload.InternalLocal:
		case p.Reason == workload.OtherAutoscaler && !m.cluster.awake(o) && (before != nil || m.cluster.parked(o)):
		default:
			return false
		}
	}
	return true
}

// awake says whether a workload has a pod that takes requests.
func (c *Cluster) awake(o *opted) bool {
	return slices.ContainsFunc(c.podsFor(o), func(p *pod) bool { return p.ready && !p.terminating && !p.ended })
}

// parked says whether a workload's Service leads to activators, as it does while the workload is scaled and has no pod.
func (c *Cluster) parked(o *opted) bool {
	s := c.published(key{o.Namespace, o.Name})
	if s == nil {
		return false
	}
	ours, _ := c.slicesFor(key{s.Namespace, s.Name})
	return slices.ContainsFunc(ours, func(x *slice) bool { return x.contents.Backend == sliceplan.Activators })
}

func newTracked(o *opted, s *service, c *config.Revision) *tracked {
	return &tracked{object: o, service: s, rev: o.Revision(), primary: workload.Primary(s.Ports, o.Fronts),
		sent: Routed{Config: c, Replicas: o.Replicas, Releasing: s.Annotations[workload.Releasing] != ""}}
}

// carried returns a Service with those of its ports that can be led to activators, nil when it can't be.
func (s *service) carried() *service {
	if s == nil || s.Headless || s.External {
		return nil
	}
	out := *s
	out.Ports = slices.DeleteFunc(slices.Clone(s.Ports), func(p workload.Port) bool { return !p.TCP() })
	if len(out.Ports) == 0 {
		return nil
	}
	return &out
}

package kube

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// Seen is an annotated workload with everything that carries its traffic.
type Seen struct {
	workload.Object
	Origin string // file and line of its manifest; empty in a cluster
	// SetsReplicas says that it names a number of pods itself; in a cluster everyone does.
	SetsReplicas bool
	Created      time.Time
	Ready        int
	Problems     []workload.Problem // the same that control tells of in Events
	// Service is the one that belongs to it, nil when there is none. Bound says that it carries the workload's traffic:
	// that nothing worse than a minor problem is there.
	Service *workload.Service
	Bound   bool
	Ports   []ServicePort // of the Service
	Slices  []Published   // of the Service
	Pods    []SeenPod
	Guard   Guard
	// Astray are ports of the Service that lead to none that a container declares; a number may be served all the same.
	Astray []workload.Port
	// Injected says that the template has a queue-proxy. OwnAnnotations are those of the workload alone, PodAnnotations those of
	// its template alone, as the webhook gets to see them.
	Injected                       bool
	OwnAnnotations, PodAnnotations map[string]string
	// Imageless are the containers of the template that name no image.
	Imageless []string
}

// ServicePort is a port of a Service, as control keeps its port on the activators.
type ServicePort struct {
	Name   string
	Holder portalloc.Holder
	Scaled bool // requests are counted on it
}

// Published is an EndpointSlice. Of one that another has written its contents are not known.
type Published struct {
	sliceplan.Slice
	Writer string
	Ours   bool
}

// SeenPod is a pod of a workload. Answers is where it answers the ports of the Service, without those that it lacks.
type SeenPod struct {
	Name, UID string
	Addrs     []netip.Addr
	Takes     bool // it is ready and not about to end
	Answers   []sliceplan.Port
}

// Seen puts together what belongs to each workload, in the order of their names; base are the settings of the cluster,
// as for [workload.Resolve].
func (v *View) Seen(base config.Autoscaler) []Seen {
	deployments := make(map[key]*workload.Object)
	for _, a := range v.workloads {
		if a.Kind == workload.Deployment {
			deployments[key{a.Namespace, a.Name}] = &a.Object
		}
	}
	all := make([]Seen, 0, len(v.workloads))
	for _, a := range v.workloads {
		s := Seen{Object: a.Object, Origin: a.origin, SetsReplicas: a.setsReplicas, Created: a.created, Ready: a.ready, Imageless: a.imageless,
			Injected: a.injected, OwnAnnotations: a.own, PodAnnotations: a.ofPods}
		if a.Kind == workload.StatefulSet && workload.Shadowed(deployments[key{a.Namespace, a.Name}], &a.Object) {
			s.Problems = []workload.Problem{workload.Taken()}
		} else {
			v.resolve(&s, a, base)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Seen) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return all
}

func (v *View) resolve(s *Seen, a *annotated, base config.Autoscaler) {
	var candidates []*workload.Service
	for _, svc := range v.services[a.Namespace] {
		candidates = append(candidates, &svc.Service)
	}
	for _, p := range v.pods[owner{a.Kind, key{a.Namespace, a.Name}}] {
		if p.front.Port != 0 && !p.ended && a.has(p) && !slices.Contains(a.Fronts, p.front) {
			a.Fronts = append(a.Fronts, p.front)
		}
	}
	bound, problems := workload.Resolve(&a.Object, candidates, v.rivals[owner{a.Kind, key{a.Namespace, a.Name}}], base)
	s.Problems, s.Bound = problems, bound != nil
	for _, svc := range v.services[a.Namespace] {
		if bound != nil && svc.Name == bound.Service.Name || bound == nil && s.Service == nil && svc.target() == a.Name {
			v.join(s, a, svc)
		}
	}
}

// join adds what a Service means for a workload.
func (v *View) join(s *Seen, a *annotated, svc *service) {
	s.Service = &svc.Service
	t := &tracked{object: &a.opted, service: svc, primary: workload.Primary(svc.Ports, a.Fronts)}
	for i, p := range svc.Ports {
		if a.astray(p) {
			s.Astray = append(s.Astray, p)
		}
		s.Ports = append(s.Ports, ServicePort{Name: p.Name, Holder: t.holder(i), Scaled: i == t.primary})
	}
	for _, x := range v.slices[key{svc.Namespace, svc.Name}] {
		s.Slices = append(s.Slices, Published{Slice: x.contents, Writer: x.writer, Ours: x.ours()})
	}
	for _, p := range v.pods[owner{a.Kind, key{a.Namespace, a.Name}}] {
		if !a.has(p) {
			continue
		}
		s.Pods = append(s.Pods, SeenPod{Name: p.name, UID: p.uid, Addrs: p.addrs, Takes: p.serves(), Answers: portsOf(t, p)})
	}
	if len(svc.Ports) > 0 {
		s.Guard = guardOf(v.policies[a.Namespace], a, svc.Ports[t.primary])
		s.Guard.Known = v.Unread[KindPolicies] == nil
	}
}

package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/inject"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// surroundings are what workloads are judged against. A nil book or nil activators are not known, and nothing is said
// about them.
type surroundings struct {
	book       *portalloc.Book
	exhausted  error // why the book has no port for another
	within     portalloc.Range
	activators []assign.ActivatorState
	pods       bool // pods were read
}

const checkWorkload = "workload"

func aboutWorkload(s *kube.Seen) string {
	about := fmt.Sprintf("%s %s/%s", s.Kind, s.Namespace, s.Name)
	if s.Origin != "" {
		about = s.Origin + " " + about
	}
	return about
}

// judgeSettled says what internal/workload finds wrong with a workload, the same as control says in Events.
func judgeSettled(s *kube.Seen) (out []finding) {
	for _, p := range s.Problems {
		f := finding{Level: failed, Check: checkWorkload, About: aboutWorkload(s), Text: string(p.Reason) + ": " + p.Text}
		if p.Minor {
			f.Level = warned
		}
		out = append(out, f)
	}
	return out
}

// judgeWorkload judges a workload in a cluster, and where its Service leads.
func judgeWorkload(s *kube.Seen, in surroundings) []finding {
	out := slices.Concat(judgeSettled(s), judgeUnseen(s), judgeTargets(s))
	if !s.Bound {
		return out
	}
	e := endpoints{Seen: s, in: in}
	e.judge()
	for _, text := range e.faults {
		out = append(out, finding{Level: failed, Check: "endpoints", About: aboutWorkload(s), Text: text,
			Remedy: "control puts it right when it can: see what is said of control above, and kubectl events"})
	}
	if len(e.faults) == 0 && !slices.ContainsFunc(out, func(f finding) bool { return f.Level == failed }) {
		out = append(out, finding{Level: good, Check: checkWorkload, About: aboutWorkload(s), Text: e.summary()})
	}
	out = append(out, judgeRelease(s)...)
	return append(out, judgeGuard(s)...)
}

// judgeRelease finds a release that ended midway. A selector that is back otherwise is one of the workload's problems.
func judgeRelease(s *kube.Seen) []finding {
	if len(s.Service.Selector) == 0 || s.Service.Annotations[workload.Releasing] == "" {
		return nil
	}
	return []finding{{warned, "adoption", aboutWorkload(s), fmt.Sprintf("Service %s has its selector and is still being released", s.Service.Name),
		fmt.Sprintf("if no `rouse release` is under way, one ended midway: run `rouse release %s -n %s`", s.Service.Name, s.Namespace)}}
}

// judgeTargets finds ports of the Service behind which no container is. What a name leads to must be declared; a number need
// not, but where others are it is probably another one.
func judgeTargets(s *kube.Seen) (out []finding) {
	for _, p := range s.Astray {
		f := finding{Level: failed, Check: checkWorkload, About: aboutWorkload(s), Text: fmt.Sprintf("port %d of Service %s leads to the port named %q, which no container has", p.Number, s.Service.Name, p.TargetName),
			Remedy: "name it in a container's ports, or make targetPort one of their names"}
		if p.TargetName == "" {
			f.Level, f.Text = warned, fmt.Sprintf("port %d of Service %s leads to port %d, which no container declares", p.Number, s.Service.Name, cmp.Or(p.Target, p.Number))
			f.Remedy = "make targetPort the port that the application listens on, or declare that one in its container's ports"
		}
		out = append(out, f)
	}
	return out
}

// judgeUnseen warns of settings of a queue-proxy that the webhook makes without them: it is shown pods, and no workloads.
func judgeUnseen(s *kube.Seen) []finding {
	if s.Injected {
		return nil
	}
	keys := inject.Unseen(s.OwnAnnotations, s.PodLabels, s.PodAnnotations)
	if len(keys) == 0 {
		return nil
	}
	for i, key := range keys {
		if s.At != nil {
			keys[i] += " (" + s.At(key) + ")"
		}
	}
	return []finding{{warned, "injection", aboutWorkload(s), fmt.Sprintf("the webhook does not see %s of the %s: it looks at pods alone, and their template lacks it or says something else",
		strings.Join(keys, ", "), s.Kind), "write it into spec.template.metadata.annotations; pods that are made from then on go by it"}}
}

// judgeImages warns of containers that name no image, which the API server refuses.
func judgeImages(s *kube.Seen) (out []finding) {
	for _, name := range s.Imageless {
		out = append(out, finding{warned, checkWorkload, aboutWorkload(s), fmt.Sprintf("container %s has no image", name), "give it one, unless something else does so before it is applied"})
	}
	return out
}

// judgeReplicas warns of a manifest that sets what control decides.
func judgeReplicas(s *kube.Seen) []finding {
	if !s.SetsReplicas {
		return nil
	}
	return []finding{{warned, checkWorkload, aboutWorkload(s), fmt.Sprintf("spec.replicas is %d: each apply of this manifest resets the number of pods", s.Replicas),
		"leave replicas out: control decides how many there are"}}
}

// judgeGuard notes who can get past the queue-proxy. It is a note: many clusters want it so.
func judgeGuard(s *kube.Seen) []finding {
	g, f := s.Guard, finding{Level: noted, Check: "NetworkPolicy", About: aboutWorkload(s)}
	switch {
	case !g.Known || g.Port == 0:
		return nil
	case len(g.Policies) == 0:
		f.Text = fmt.Sprintf("nothing keeps pods of the cluster from the application's own port %d, past limits and queue", g.Port)
	case g.Open != "":
		f.Text = fmt.Sprintf("%s lets everybody reach the application's own port %d, past limits and queue", g.Open, g.Port)
	default:
		f.Level, f.Text = good, fmt.Sprintf("port %d of the application is guarded by %s", g.Port, strings.Join(g.Policies, ", "))
	}
	return []finding{f}
}

// endpoints judges the EndpointSlices of one Service.
type endpoints struct {
	*kube.Seen
	in     surroundings
	faults []string
	count  map[sliceplan.Backend]int
}

func (e *endpoints) fault(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(e.faults, text) {
		e.faults = append(e.faults, text)
	}
}

func (e *endpoints) judge() {
	e.count = map[sliceplan.Backend]int{}
	for _, s := range e.Slices {
		switch {
		case !s.Ours && len(e.Service.Selector) == 0:
			e.fault("EndpointSlice of %s is left behind Service %s: requests go past control", s.Writer, e.Service.Name)
		case s.Ours:
			e.count[s.Backend] += len(s.Endpoints)
			e.slice(&s)
		}
	}
	if e.count[sliceplan.Pods]+e.count[sliceplan.Activators] == 0 {
		e.fault("Service %s leads nowhere: control has published no endpoint", e.Service.Name)
	} else if len(e.faults) == 0 {
		e.everyPort()
	}
	if e.in.book == nil {
		return
	}
	for _, p := range e.Ports {
		if _, ok := e.in.book.Port(p.Holder); !ok {
			e.fault("%s", e.unassigned(p))
		}
	}
}

// everyPort finds ports that lead nowhere while others lead somewhere: slices need not have all of them.
func (e *endpoints) everyPort() {
	for _, p := range e.Ports {
		if !slices.ContainsFunc(e.Slices, func(s kube.Published) bool {
			return s.Ours && len(s.Endpoints) > 0 && slices.ContainsFunc(s.Ports, func(has sliceplan.Port) bool { return has.Name == p.Name })
		}) {
			e.fault("port %s of Service %s leads nowhere", p.Name, e.Service.Name)
		}
	}
}

// unassigned says why a port of the Service has none on the activators.
func (e *endpoints) unassigned(p kube.ServicePort) string {
	if e.in.exhausted != nil {
		return e.in.exhausted.Error()
	}
	return fmt.Sprintf("port %s of Service %s has none on the activators yet", p.Name, e.Service.Name)
}

func (e *endpoints) slice(s *kube.Published) {
	if s.Backend == sliceplan.Activators {
		e.behindActivators(s)
	} else if e.in.pods {
		e.behindPods(s)
	}
}

func (e *endpoints) behindActivators(s *kube.Published) {
	for _, p := range s.Ports {
		i := slices.IndexFunc(e.Ports, func(own kube.ServicePort) bool { return own.Name == p.Name })
		if i < 0 {
			e.fault("EndpointSlice %s has the port %q, which Service %s has not", s.Name, p.Name, e.Service.Name)
			continue
		}
		if e.in.book != nil {
			if want, ok := e.in.book.Port(e.Ports[i].Holder); ok && want != p.Number {
				e.fault("EndpointSlice %s leads to port %d of the activators, which is not its own (%d)", s.Name, p.Number, want)
			}
		}
		for _, a := range s.Endpoints {
			e.listens(a.Addr, p.Number)
		}
	}
}

// listens finds endpoints where no activator takes requests.
func (e *endpoints) listens(addr netip.Addr, port uint16) {
	if e.in.activators == nil {
		return
	}
	s, known := stateOf(e.in.activators, []netip.Addr{addr})
	if !known || !s.Connected {
		e.fault("Service %s leads to %s, where no activator is", e.Service.Name, addr)
		return
	}
	if why, there := s.Ports[port]; !there || why != "" {
		e.fault("Service %s leads to port %d of activator %s, which is not open", e.Service.Name, port, s.Name)
	}
}

func (e *endpoints) behindPods(s *kube.Published) {
	for _, at := range s.Endpoints {
		i := slices.IndexFunc(e.Pods, func(p kube.SeenPod) bool { return p.UID == at.UID && slices.Contains(p.Addrs, at.Addr) })
		switch {
		case i < 0:
			e.fault("Service %s leads to %s, where no pod of it is", e.Service.Name, at.Addr)
		case at.Serving && !e.Pods[i].Takes:
			e.fault("Service %s leads to pod %s, which is not ready", e.Service.Name, e.Pods[i].Name)
		case slices.ContainsFunc(s.Ports, func(p sliceplan.Port) bool { return !slices.Contains(e.Pods[i].Answers, p) }):
			e.fault("Service %s leads to other ports of pod %s than it answers on", e.Service.Name, e.Pods[i].Name)
		}
	}
}

// summary says where the Service leads.
func (e *endpoints) summary() string {
	return fmt.Sprintf("%d of %d pods ready, Service %s leads to %s", e.Ready, e.Replicas, e.Service.Name, e.leads())
}

func (e *endpoints) leads() string {
	var parts []string
	for _, b := range []sliceplan.Backend{sliceplan.Pods, sliceplan.Activators} {
		if n := e.count[b]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, b))
		}
	}
	return strings.Join(parts, " and ")
}

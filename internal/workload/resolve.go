package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rousehq/rouse/internal/config"
)

// Bound is a workload that can be scaled.
type Bound struct {
	Object  *Object
	Service *Service
	Config  *config.Revision
}

// Resolve finds out what a workload means: services are those of its namespace, rivals the autoscalers that name it.
// With a problem that is not minor the result is nil. A workload that is not opted in has neither.
func Resolve(o *Object, services []*Service, rivals []Rival, base config.Autoscaler) (*Bound, []Problem) {
	if !o.OptedIn() {
		return nil, nil
	}
	cfg, _, problems := settings(o, base)
	for _, r := range rivals {
		problems = append(problems, Problem{Reason: OtherAutoscaler, Text: fmt.Sprintf(
			"%s scales this %s too: delete it, or remove the annotation %s", r.What, o.Kind, classKey)})
	}
	svc, faults := bind(o, services)
	problems = append(problems, slices.DeleteFunc(faults, func(p Problem) bool { return met(o, cfg, p) })...)
	if slices.ContainsFunc(problems, func(p Problem) bool { return !p.Minor }) {
		return nil, problems
	}
	cfg.Service = svc.Name
	return &Bound{Object: o, Service: svc, Config: cfg}, problems
}

// met says whether the workload's settings are the remedy of a problem with its Service already.
func met(o *Object, cfg *config.Revision, p Problem) bool {
	switch p.Reason {
	case ExternalLocal:
		return cfg != nil && cfg.Scaling.TargetBurstCapacity.V == -1
	case ClientAffinity:
		return o.Annotations[affinityKey] != ""
	}
	return false
}

// Unfit says what is wrong with a Service that is to carry a workload's traffic once its selector is gone.
func Unfit(s *Service) []Problem {
	bare := *s
	bare.Selector = nil
	return unfit(&bare, nil)
}

// settings reads the annotations. What a Deployment starts with is its replicas, so that initial-scale has no say: it
// would wake every workload whenever control starts.
func settings(o *Object, base config.Autoscaler) (*config.Revision, []config.Fault, []Problem) {
	if base == (config.Autoscaler{}) {
		base = config.DefaultAutoscaler()
	}
	base.AllowZeroInitialScale.V = true
	in := config.Input{ID: o.Revision(), Configuration: o.Name, Autoscaler: base, Annotations: o.Annotations,
		Above: config.Layers{Flags: map[string]string{"initial-scale": "0"}, At: o.At}}
	faults := append(in.SpecFromAnnotations(), o.ClassFaults()...)
	cfg, more := config.Resolve(in)
	if cfg != nil && !cfg.PodProbe.IsSet() {
		// A queue-proxy knows at once what kubelet finds out with its next question. Pods without one are not asked: they
		// are nobody's before kubelet calls them ready.
		cfg.PodProbe.V = config.ProbeQueue
	}
	var problems []Problem
	if faults = append(faults, more...); len(faults) > 0 {
		problems = append(problems, Problem{Reason: BadSettings, Text: sentence(faults)})
	}
	if unknown := config.UnknownOnWorkloads(o.Annotations); len(unknown) > 0 {
		for i, key := range unknown {
			unknown[i] = placed(key, o.where(key))
		}
		problems = append(problems, Problem{Reason: UnknownSettings, Minor: true,
			Text: "nothing reads " + strings.Join(unknown, ", ") + ": remove it, or mend its spelling"})
	}
	if cfg != nil {
		problems = append(problems, ineffective(o, cfg)...)
	}
	return cfg, faults, problems
}

// ClassFaults refuses a class that is no domain name: it is a misspelling of ours (see [Object.OptedIn]).
func (o *Object) ClassFaults() []config.Fault {
	class, named := o.Annotations[classKey]
	if !named || strings.Contains(class, ".") {
		return nil
	}
	return []config.Fault{{Key: classKey, Value: class, Where: o.where(classKey), Allowed: config.ClassKPA + " or " + config.ClassHPA}}
}

// ineffective finds settings that are right and have another effect in a cluster than they say, or none.
func ineffective(o *Object, cfg *config.Revision) (problems []Problem) {
	add := func(text string) {
		problems = append(problems, Problem{Reason: UnknownSettings, Minor: true, Text: text})
	}
	class := o.Annotations[classKey]
	if class == config.ClassHPA {
		add(placed("class "+class+" is scaled as "+config.ClassKPA, o.where(classKey)) + ", without a HorizontalPodAutoscaler: make it that, and scale by concurrency or rps")
	}
	const metric = config.PrefixAutoscaling + "metric"
	if name := config.UnbuiltMetric(class, o.Annotations[metric]); name != "" {
		add(placed(config.InsteadOf(name), o.where(metric)))
	}
	if names := cfg.Resources(); len(names) > 0 {
		add(fmt.Sprintf("targets of %s have no effect: queue-proxies report 0 in a cluster, unless ROUSE_APP_CGROUP or ROUSE_APP_PID says whose use to measure; "+
			"scale by concurrency or rps", strings.Join(names, " and ")))
	}
	return problems
}

// Remains returns the settings of a workload whose annotations nobody refuses any more: what those of them say that can be
// understood.
func Remains(o *Object, s *Service, base config.Autoscaler) *config.Revision {
	good := *o
	good.Annotations = maps.Clone(o.Annotations)
	cfg, faults, _ := settings(&good, base)
	for cfg == nil { // what was good beside one that has gone need not be good beside a default
		before := len(good.Annotations)
		for _, f := range faults {
			delete(good.Annotations, f.Key)
		}
		if len(good.Annotations) == before { // a fault of nothing that was written
			good.Annotations = nil
		}
		cfg, faults, _ = settings(&good, base)
	}
	cfg.Service = s.Name
	return cfg
}

// Shadowed says whether a StatefulSet can't be scaled because a Deployment that is scaled has its name: a workload is
// known by its namespace and name. See [Taken].
func Shadowed(deployment, set *Object) bool {
	return deployment != nil && set != nil && deployment.OptedIn() && set.OptedIn()
}

// Taken is what is wrong with a StatefulSet that is [Shadowed].
func Taken() Problem {
	return Problem{Reason: NameTaken, Text: "a Deployment of this name is scaled: rename one of them"}
}

func sentence(faults []config.Fault) string {
	texts := make([]string, len(faults))
	for i, f := range faults {
		where := f.Where
		f.Where = ""
		texts[i] = placed(f.Error(), where)
	}
	return strings.Join(texts, "; ")
}

func (o *Object) where(key string) string {
	if o.At == nil {
		return ""
	}
	return o.At(key)
}

// placed says behind a text where that stands, if that is known.
func placed(text, where string) string {
	if where == "" {
		return text
	}
	return text + " (" + where + ")"
}

// bind finds the Service of a workload: the one that names it, or that has its name. A headless Service that doesn't say
// that it is for the workload is what a StatefulSet's pods are named by: it is left alone when there is another.
func bind(o *Object, services []*Service) (*Service, []Problem) {
	var named, selecting []*Service
	for _, s := range services {
		target, says := s.Annotations[ServiceFor]
		switch {
		case says && target == o.Name, !says && s.Name == o.Name:
			named = append(named, s)
		case s.selects(o.PodLabels) && !says && !s.Headless:
			selecting = append(selecting, s)
		}
	}
	if front := slices.DeleteFunc(slices.Clone(named), governing); len(front) > 0 {
		named = front
	}
	slices.SortFunc(named, func(a, b *Service) int { return strings.Compare(a.Name, b.Name) })
	switch {
	case len(named) > 1:
		return nil, []Problem{{Reason: ManyServices, Text: fmt.Sprintf(
			"the Services %s belong to this %s: leave one, and give the others another name in the annotation %s",
			names(named), o.Kind, ServiceFor)}}
	case len(named) == 1:
		return named[0], unfit(named[0], o.Fronts)
	case len(selecting) > 0:
		return nil, []Problem{needsAdoption(selecting[0])}
	}
	return nil, []Problem{{Reason: NoService, Text: fmt.Sprintf(
		"no Service carries the traffic of this %s: make one without a selector named %s, or annotate one with %s: %s",
		o.Kind, o.Name, ServiceFor, o.Name)}}
}

func governing(s *Service) bool {
	_, says := s.Annotations[ServiceFor]
	return s.Headless && !says
}

func names(services []*Service) string {
	all := make([]string, len(services))
	for i, s := range services {
		all[i] = s.Name
	}
	return strings.Join(all, ", ")
}

func needsAdoption(s *Service) Problem {
	return Problem{Reason: ServiceSelects, Text: fmt.Sprintf(
		"Service %s has a selector, so that Kubernetes fills its endpoints: run `rouse adopt %s -n %s`", s.Name, s.Name, s.Namespace)}
}

// unfit says why a Service can't carry the traffic of a workload with such queue-proxies.
func unfit(s *Service, fronts []Front) []Problem {
	switch {
	case s.External:
		return []Problem{{Reason: ServiceExternal, Text: fmt.Sprintf("Service %s is of type ExternalName, which has no endpoints: make it a ClusterIP", s.Name)}}
	case s.Headless:
		return []Problem{{Reason: ServiceHeadless, Text: fmt.Sprintf(
			"Service %s is headless: its clients know pods by their addresses and can't be moved to activators; remove clusterIP: None, or give "+
				"clients another Service that has the annotation %s with the workload's name", s.Name, ServiceFor)}}
	case len(s.Selector) > 0 && !s.Adopted():
		return []Problem{needsAdoption(s)}
	}
	if s.InternalLocal {
		return []Problem{{Reason: InternalLocal, Text: fmt.Sprintf("Service %s has internalTrafficPolicy: Local: nodes that run no activator would drop requests "+
			"while it leads to activators; set it to Cluster", s.Name)}}
	}
	if len(s.Ports) == 0 {
		return []Problem{{Reason: ServicePorts, Text: fmt.Sprintf("Service %s has no port", s.Name)}}
	}
	for _, p := range s.Ports {
		if !p.TCP() {
			return []Problem{{Reason: ServicePorts, Text: fmt.Sprintf(
				"Service %s, port %d: protocol %s is not carried; keep TCP ports only, move others to a Service of their own", s.Name, p.Number, p.Protocol)}}
		}
	}
	return slices.Concat(selectsAgain(s), misplaced(s, fronts), misnamed(s, fronts), nearest(s))
}

// nearest finds ways of choosing an endpoint that count on endpoints that stay where they are.
func nearest(s *Service) (problems []Problem) {
	if s.ExternalLocal {
		problems = append(problems, Problem{Reason: ExternalLocal, Minor: true, Text: fmt.Sprintf("Service %s has externalTrafficPolicy: Local: each time when it "+
			"is led from pods to activators or back its endpoints are on other nodes, and until the load balancer notices, nodes drop requests from outside; set "+
			"it to Cluster, or annotate the workload with %s: \"-1\" (always activators), and run an activator on every node that the load balancer asks",
			s.Name, burstKey)})
	}
	if s.ClientIP {
		problems = append(problems, Problem{Reason: ClientAffinity, Minor: true, Text: fmt.Sprintf("Service %s has sessionAffinity: ClientIP: while it leads to "+
			"activators that keeps a client to one of them, not to one pod; set it to None, and annotate the workload with %s", s.Name, affinityKey)})
	}
	return problems
}

// misplaced finds a queue-proxy behind another port than the Service's names and order say.
func misplaced(s *Service, fronts []Front) []Problem {
	is, said := s.Ports[Primary(s.Ports, fronts)], s.Ports[Primary(s.Ports, nil)]
	if is == said {
		return nil
	}
	return []Problem{{Reason: PortOrder, Minor: true, Text: fmt.Sprintf("Service %[1]s: requests are counted on port %[2]s, behind which the queue-proxy is, and "+
		"not on %[3]s, as by the names and the order of its ports, which count as long as no queue-proxy is known: put %[2]s before %[3]s, and give it a name "+
		"that begins with http", s.Name, is.Label(), said.Label())}}
}

// misnamed finds names in the Service's annotation that are not those of its further ports.
func misnamed(s *Service, fronts []Front) []Problem {
	var further, strange []string
	for i, p := range s.Ports {
		if i != Primary(s.Ports, fronts) {
			further = append(further, p.Label())
		}
	}
	for _, name := range s.uncounted() {
		if !slices.Contains(further, name) {
			strange = append(strange, name)
		}
	}
	if len(strange) == 0 {
		return nil
	}
	remedy := "remove it: the Service has no port besides the one that requests are counted on"
	if len(further) > 0 {
		remedy = "name some of " + strings.Join(further, ", ")
	}
	return []Problem{{Reason: UnknownSettings, Minor: true, Text: fmt.Sprintf("Service %s, %s = %q: %s is none of its further ports; %s",
		s.Name, UncountedPorts, s.Annotations[UncountedPorts], strings.Join(strange, ", "), remedy)}}
}

// selectsAgain finds an adopted Service whose selector is back: Kubernetes' slices lead past the queue-proxy, beside ours.
// Adoption itself begins like that, for a moment, and a release ends like that.
func selectsAgain(s *Service) []Problem {
	if len(s.Selector) == 0 || !s.Adopted() || s.Annotations[Releasing] != "" {
		return nil
	}
	return []Problem{{Reason: SelectorIsBack, Minor: true, Text: fmt.Sprintf("Service %[1]s was adopted and has a selector again, probably by an apply of its "+
		"manifest: requests go past the queue-proxy, unlimited and uncounted. Take `selector` out of the manifest and run `kubectl patch service %[1]s -n %[2]s "+
		"--type json -p '[{\"op\":\"remove\",\"path\":\"/spec/selector\"}]'`, or give the Service up with `rouse release %[1]s -n %[2]s`", s.Name, s.Namespace)}}
}

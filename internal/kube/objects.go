package kube

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/workload"
)

// owner names the workload that a pod belongs to.
type owner struct {
	kind workload.Kind
	key
}

// stripMeta drops what nobody reads; it is most of an object.
func stripMeta(m *metav1.ObjectMeta) {
	m.ManagedFields, m.Finalizers, m.GenerateName = nil, nil, ""
	delete(m.Annotations, corev1.LastAppliedConfigAnnotation)
}

// own keeps the annotations that are ours or Knative's.
func own(annotations map[string]string) map[string]string {
	kept := make(map[string]string, len(annotations))
	for k, v := range annotations {
		for _, p := range []string{config.PrefixAutoscaling, config.PrefixServing, config.PrefixRouse} {
			if strings.HasPrefix(k, p) {
				kept[k] = v
			}
		}
	}
	return kept
}

// opted is a workload. Of one that is not opted in little more than its name is kept.
type opted struct {
	workload.Object
	version  string
	selector labels.Selector // of its pods; nil when it is not opted in
}

// has says whether a pod of its name is its own: those of a Deployment that was deleted without them have its name, too, and
// the one that comes after it takes over what its selector matches.
func (o *opted) has(p *pod) bool { return o.selector == nil || o.selector.Matches(p.labelSet()) }

func deploymentOf(obj any) *opted {
	d, ok := obj.(*appsv1.Deployment)
	if !ok {
		return nil
	}
	return optedOf(workload.Deployment, &d.ObjectMeta, &d.Spec.Template, d.Spec.Replicas, d.Spec.Selector)
}

func statefulSetOf(obj any) *opted {
	s, ok := obj.(*appsv1.StatefulSet)
	if !ok {
		return nil
	}
	return optedOf(workload.StatefulSet, &s.ObjectMeta, &s.Spec.Template, s.Spec.Replicas, s.Spec.Selector)
}

func optedOf(kind workload.Kind, m *metav1.ObjectMeta, template *corev1.PodTemplateSpec, replicas *int32, selector *metav1.LabelSelector) *opted {
	annotations := own(template.Annotations)
	for k, v := range own(m.Annotations) {
		annotations[k] = v
	}
	o := &opted{Object: workload.Object{
		Kind: kind, Namespace: m.Namespace, Name: m.Name, UID: string(m.UID), Labels: m.Labels, Annotations: annotations,
		PodLabels: template.Labels, Replicas: 1,
	}, version: m.ResourceVersion}
	if replicas != nil {
		o.Replicas = int(*replicas)
	}
	if !o.OptedIn() {
		o.Shed()
		return o
	}
	if f := frontOf(&template.Spec, annotations[config.InjectPort]); f.Port != 0 {
		o.Fronts = []workload.Front{f}
	}
	if s, err := metav1.LabelSelectorAsSelector(selector); err == nil && selector != nil { // the server takes none that can't be read
		o.selector = s
	}
	return o
}

func stripDeployment(obj any) (any, error) {
	if d, ok := obj.(*appsv1.Deployment); ok {
		stripMeta(&d.ObjectMeta)
		d.Status = appsv1.DeploymentStatus{}
		stripTemplate(&d.Spec.Template)
	}
	return obj, nil
}

func stripStatefulSet(obj any) (any, error) {
	if s, ok := obj.(*appsv1.StatefulSet); ok {
		stripMeta(&s.ObjectMeta)
		s.Status = appsv1.StatefulSetStatus{}
		s.Spec.VolumeClaimTemplates = nil
		stripTemplate(&s.Spec.Template)
	}
	return obj, nil
}

func stripTemplate(t *corev1.PodTemplateSpec) { t.Spec = stripContainers(&t.Spec) }

// pod is a pod, as far as anybody looks at it.
type pod struct {
	name, namespace string
	uid             string
	owner           owner
	addrs           []netip.Addr
	node            string
	created         time.Time
	ready           bool
	held            bool // not ready, whatever its queue-proxy answers
	terminating     bool
	ended           bool
	sidecar         uint16         // port of the queue-proxy, 0 without one
	scraped         bool           // the sidecar pushes no reports: Knative's, or one that was not told where to
	front           workload.Front // what the sidecar stands in front of; zero when it does not say
	stats           uint16         // where the sidecar answers scrapes
	ports           []named        // of its containers
	cost            string         // controller.kubernetes.io/pod-deletion-cost
	labels          unique.Handle[string]
}

// labelsOf writes a pod's labels down once for all pods that have the same: every pod of the cluster is kept.
func labelsOf(p *corev1.Pod) unique.Handle[string] {
	shared := maps.Clone(p.Labels)
	delete(shared, appsv1.StatefulSetPodNameLabel)
	delete(shared, appsv1.PodIndexLabel)
	return unique.Make(labels.Set(shared).String())
}

// labelSet reads them again, without those that tell the pods of a StatefulSet apart.
func (p *pod) labelSet() labels.Set {
	if p.labels == (unique.Handle[string]{}) {
		return nil
	}
	set, err := labels.ConvertSelectorToLabelsMap(p.labels.Value())
	if err != nil {
		return nil // the server takes no such labels
	}
	return set
}

type named struct {
	name string
	port uint16
}

const (
	sidecarName     = "queue-proxy"
	sidecarPort     = 8012
	sidecarPortName = "queue-port"
	statsPort       = 9090
	statsPortName   = "http-autometric"
	costAnnotation  = corev1.PodDeletionCost
)

func podOf(obj any) *pod {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	o, ok := ownerOf(p)
	if !ok {
		return nil
	}
	out := &pod{
		name: p.Name, namespace: p.Namespace, uid: string(p.UID), owner: o, node: p.Spec.NodeName, created: p.CreationTimestamp.Time,
		terminating: p.DeletionTimestamp != nil, cost: p.Annotations[costAnnotation], labels: labelsOf(p),
		ended: p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
	}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out.addrs = append(out.addrs, a.Unmap())
		}
	}
	out.ready = holds(p, corev1.PodReady)
	out.held = !out.ready && (holds(p, corev1.ContainersReady) || gated(p))
	out.containers(p)
	return out
}

// holds says whether a condition of a pod is true.
func holds(p *corev1.Pod, what corev1.PodConditionType) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == what && c.Status == corev1.ConditionTrue })
}

// gated says whether a pod that is not ready waits for more than a queue-proxy knows of: for a readiness gate, or for a
// container with a probe that kubelet asks. Injection leaves kubelet none but exec and start-up probes of the application, and
// those of other containers. A pod whose containers are ready and that is not is held, too: by a gate, or by the node controller,
// which has not heard of its node and changes nothing but that one condition. Its address may be another pod's by then.
func gated(p *corev1.Pod) bool {
	for _, g := range p.Spec.ReadinessGates {
		if !holds(p, g.ConditionType) {
			return true
		}
	}
	return slices.ContainsFunc(lasting(&p.Spec), func(c corev1.Container) bool {
		return c.Name != sidecarName && (c.ReadinessProbe != nil || c.StartupProbe != nil) && !containerReady(p, c.Name)
	})
}

// containerReady says whether kubelet calls a container ready, which it is not before its start-up probe has succeeded.
func containerReady(p *corev1.Pod, name string) bool {
	return slices.ContainsFunc(slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses),
		func(s corev1.ContainerStatus) bool { return s.Name == name && s.Ready })
}

func (out *pod) containers(p *corev1.Pod) {
	out.ports = portsIn(&p.Spec)
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		if c.Name != sidecarName {
			continue
		}
		out.sidecar, out.stats = sidecarPort, statsPort
		for _, port := range c.Ports {
			switch port.Name {
			case sidecarPortName:
				out.sidecar = uint16(port.ContainerPort)
			case statsPortName:
				out.stats = uint16(port.ContainerPort)
			}
		}
		out.scraped = !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "ROUSE_STATS_URL" })
	}
	out.front = frontOf(&p.Spec, "")
}

// frontOf returns what the queue-proxy stands in front of, zero when that is not known. While there is none, the one that will be
// injected stands where the annotation says, by number or name.
func frontOf(spec *corev1.PodSpec, said string) (f workload.Front) {
	all := lasting(spec)
	ports := portsIn(spec)
	if i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == sidecarName }); i >= 0 {
		said = ""
		for _, e := range all[i].Env {
			if e.Name == "USER_PORT" {
				said = e.Value
			}
		}
	}
	if n, err := strconv.ParseUint(said, 10, 16); err == nil {
		f.Port = uint16(n)
	}
	for i, p := range ports {
		first := i == slices.IndexFunc(ports, func(n named) bool { return n.name == p.name })
		if first && p.name != "" && (p.port == f.Port || p.name == said) {
			return workload.Front{Port: p.port, Name: p.name}
		}
	}
	return f
}

// lasting returns the containers that run as long as a pod does, in the order in which Kubernetes looks for the name that a
// Service's targetPort is.
func lasting(spec *corev1.PodSpec) []corev1.Container {
	return slices.Concat(spec.Containers, slices.DeleteFunc(slices.Clone(spec.InitContainers), passes))
}

// portsIn returns the TCP ports of those containers.
func portsIn(spec *corev1.PodSpec) (all []named) {
	for _, c := range lasting(spec) {
		for _, p := range c.Ports {
			if p.ContainerPort > 0 && p.ContainerPort < 1<<16 && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
				all = append(all, named{p.Name, uint16(p.ContainerPort)})
			}
		}
	}
	return all
}

// passes says whether an init container ends before the pod's others begin: it is no sidecar.
func passes(c corev1.Container) bool {
	return c.Name != sidecarName && (c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways)
}

// ownerOf returns the Deployment or StatefulSet of a pod. A ReplicaSet has its Deployment's name and the hash of the
// template, which is a label of the pod.
func ownerOf(p *corev1.Pod) (owner, bool) {
	c := metav1.GetControllerOf(p)
	if c == nil {
		return owner{}, false
	}
	switch c.Kind {
	case string(workload.StatefulSet):
		return owner{workload.StatefulSet, key{p.Namespace, c.Name}}, true
	case "ReplicaSet":
		hash := p.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
		name, ok := strings.CutSuffix(c.Name, "-"+hash)
		return owner{workload.Deployment, key{p.Namespace, name}}, ok && hash != ""
	}
	return owner{}, false
}

func stripPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	stripMeta(&p.ObjectMeta)
	spec := stripContainers(&p.Spec)
	spec.NodeName, spec.ReadinessGates = p.Spec.NodeName, p.Spec.ReadinessGates
	p.Spec = spec
	p.Status = corev1.PodStatus{Phase: p.Status.Phase, PodIPs: p.Status.PodIPs, Conditions: p.Status.Conditions,
		ContainerStatuses: p.Status.ContainerStatuses, InitContainerStatuses: p.Status.InitContainerStatuses}
	return obj, nil
}

// stripContainers keeps of a spec the containers that last.
func stripContainers(from *corev1.PodSpec) (spec corev1.PodSpec) {
	for _, c := range from.Containers {
		spec.Containers = append(spec.Containers, stripContainer(c))
	}
	for _, c := range from.InitContainers {
		if !passes(c) {
			spec.InitContainers = append(spec.InitContainers, stripContainer(c))
		}
	}
	return spec
}

func stripContainer(c corev1.Container) corev1.Container {
	out := corev1.Container{Name: c.Name, Ports: c.Ports, RestartPolicy: c.RestartPolicy, ReadinessProbe: c.ReadinessProbe, StartupProbe: c.StartupProbe}
	if c.Name == sidecarName {
		out.Env = c.Env
	}
	return out
}

func serviceOf(obj any) *service {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return nil
	}
	out := &service{Service: workload.Service{
		Namespace: s.Namespace, Name: s.Name, UID: string(s.UID), Annotations: own(s.Annotations), Selector: s.Spec.Selector,
		Headless: s.Spec.ClusterIP == corev1.ClusterIPNone, External: s.Spec.Type == corev1.ServiceTypeExternalName,
		InternalLocal: s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal: s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal, ClientIP: s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP,
	}}
	for _, f := range s.Spec.IPFamilies {
		out.IPv4, out.IPv6 = out.IPv4 || f == corev1.IPv4Protocol, out.IPv6 || f == corev1.IPv6Protocol
	}
	for _, text := range s.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(text); err == nil {
			out.clusterIPs = append(out.clusterIPs, a)
		}
	}
	for _, p := range s.Spec.Ports {
		port := workload.Port{Name: p.Name, Protocol: string(p.Protocol), Number: uint16(p.Port), Target: uint16(p.TargetPort.IntVal), TargetName: p.TargetPort.StrVal}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		out.Ports = append(out.Ports, port)
	}
	return out
}

// service is a Service and where it is reached: at an address of each of its families, the first one first.
type service struct {
	workload.Service
	clusterIPs []netip.Addr
}

// target is the name of the workload that the Service belongs to.
func (s *service) target() string {
	if t, ok := s.Annotations[workload.ServiceFor]; ok {
		return t
	}
	return s.Name
}

// rival is an object that scales a workload too.
type rival struct {
	kind   string
	target string // name of the workload
	of     workload.Kind
}

func hpaOf(obj any) *rival {
	h, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil
	}
	return &rival{"HorizontalPodAutoscaler", h.Spec.ScaleTargetRef.Name, workload.Kind(h.Spec.ScaleTargetRef.Kind)}
}

// scaledObjectOf reads KEDA's ScaledObject: its target's kind is Deployment when it says none.
func scaledObjectOf(obj any) *rival {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	name, _, _ := unstructured.NestedString(u.Object, "spec", "scaleTargetRef", "name")
	kind, _, _ := unstructured.NestedString(u.Object, "spec", "scaleTargetRef", "kind")
	if kind == "" {
		kind = string(workload.Deployment)
	}
	return &rival{"ScaledObject", name, workload.Kind(kind)}
}

func configMapOf(obj any) *configMap {
	c, ok := obj.(*corev1.ConfigMap)
	if !ok {
		return nil
	}
	return &configMap{c.Data, c.ResourceVersion}
}

type configMap struct {
	data    map[string]string
	version string
}

func nodeOf(obj any) *string {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return nil
	}
	zone := n.Labels[corev1.LabelTopologyZone]
	return &zone
}

// lease is a Lease of ours: a member's, which it renews, or a bucket's, which says who took it last.
type lease struct {
	name, holder, addr string
	stamp              string // differs from renewal to renewal
	transitions        int32
	renewed            time.Time
	version            string
}

func leaseOf(obj any) *lease {
	l, ok := obj.(*coordinationv1.Lease)
	if !ok {
		return nil
	}
	out := &lease{name: l.Name, stamp: l.ResourceVersion, version: l.ResourceVersion, addr: l.Annotations[addrAnnotation]}
	if l.Spec.HolderIdentity != nil {
		out.holder = *l.Spec.HolderIdentity
	}
	if l.Spec.LeaseTransitions != nil {
		out.transitions = *l.Spec.LeaseTransitions
	}
	if l.Spec.RenewTime != nil {
		out.renewed = l.Spec.RenewTime.Time
	}
	return out
}

package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/pager"

	"github.com/rousehq/rouse/internal/workload"
)

// View is what one read of a cluster, or of manifests, holds of annotated workloads and of what belongs to them. It is
// for commands that look once: control itself watches a [Cluster]. It is not safe for concurrent use while it is filled.
type View struct {
	// Unread are the kinds that could not be read and why: what depends on them is not known.
	Unread map[string]error
	// NodePorts are the node ports of Services.
	NodePorts []NodePort

	workloads []*annotated
	services  map[string][]*service // by namespace
	slices    map[key][]*slice      // by Service
	rivals    map[owner][]workload.Rival
	pods      map[owner][]*pod
	policies  map[string][]*policy // by namespace
}

// NodePort is a port of a Service on every node.
type NodePort struct {
	Service string // namespace/name
	Port    uint16
}

// annotated is a workload that is opted in.
type annotated struct {
	opted
	origin       string // file and line, empty in a cluster
	setsReplicas bool
	created      time.Time
	ready        int
	ports        []named // of the containers in its template that run as long as a pod does
	declares     bool    // whether its containers that are no sidecars say anything of ports
	containers   int
	imageless    []string // containers without an image
	injected     bool     // its template has a queue-proxy
	own, ofPods  map[string]string
}

func newView() *View {
	return &View{Unread: map[string]error{}, services: map[string][]*service{}, slices: map[key][]*slice{},
		rivals: map[owner][]workload.Rival{}, pods: map[owner][]*pod{}, policies: map[string][]*policy{}}
}

// Kinds of a View that it can do without, as RBAC calls them.
const (
	KindPods          = "pods"
	KindPolicies      = "networkpolicies.networking.k8s.io"
	KindAutoscalers   = "horizontalpodautoscalers.autoscaling"
	KindScaledObjects = "scaledobjects.keda.sh"
)

// kindRead is one kind of object that a View is made of.
type kindRead struct {
	name      string
	needed    bool
	mayBeGone bool // its API need not be there
	list      pager.ListPageFunc
}

// View reads the annotated workloads of a namespace, of all with "", and what belongs to them; with pods also these and
// what guards them. It fails when workloads, Services or EndpointSlices can't be read.
func (c *Client) View(ctx context.Context, namespace string, pods bool) (*View, error) {
	v, core := newView(), c.core
	scaled := c.dynamic.Resource(schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}).Namespace(namespace)
	kinds := []kindRead{
		{"deployments", true, false, lists(core.AppsV1().Deployments(namespace).List)},
		{"statefulsets", true, false, lists(core.AppsV1().StatefulSets(namespace).List)},
		{"services", true, false, lists(core.CoreV1().Services(namespace).List)},
		{"endpointslices", true, false, lists(core.DiscoveryV1().EndpointSlices(namespace).List)},
		{KindAutoscalers, false, false, lists(core.AutoscalingV2().HorizontalPodAutoscalers(namespace).List)},
		{KindScaledObjects, false, true, lists(scaled.List)},
	}
	if pods {
		kinds = append(kinds, kindRead{KindPods, false, false, lists(core.CoreV1().Pods(namespace).List)},
			kindRead{KindPolicies, false, false, lists(core.NetworkingV1().NetworkPolicies(namespace).List)})
	}
	for _, k := range kinds {
		err := v.read(ctx, k.list)
		switch {
		case err == nil, k.mayBeGone && apierrors.IsNotFound(err):
		case k.needed || ctx.Err() != nil:
			return nil, fmt.Errorf("read %s: %w", k.name, err)
		default:
			v.Unread[k.name] = err
		}
	}
	return v, nil
}

// read adds every object of a kind, page by page.
func (v *View) read(ctx context.Context, list pager.ListPageFunc) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	p := pager.New(list)
	p.PageSize = listPage
	return p.EachListItem(ctx, metav1.ListOptions{}, func(obj runtime.Object) error {
		v.add(obj, "")
		return nil
	})
}

// listTimeout bounds the reading of one kind.
const listTimeout = time.Minute

// add takes an object of any kind; those that nobody asks for are left out.
func (v *View) add(obj any, origin string) {
	switch x := obj.(type) {
	case *appsv1.Deployment:
		v.addWorkload(deploymentOf(x), x.Spec.Replicas != nil, &x.ObjectMeta, x.Status.ReadyReplicas, &x.Spec.Template, origin)
	case *appsv1.StatefulSet:
		v.addWorkload(statefulSetOf(x), x.Spec.Replicas != nil, &x.ObjectMeta, x.Status.ReadyReplicas, &x.Spec.Template, origin)
	case *corev1.Service:
		v.services[x.Namespace] = append(v.services[x.Namespace], serviceOf(x))
		for _, p := range x.Spec.Ports {
			if p.NodePort != 0 {
				v.NodePorts = append(v.NodePorts, NodePort{x.Namespace + "/" + x.Name, uint16(p.NodePort)})
			}
		}
	case *discoveryv1.EndpointSlice:
		if s := sliceOf(x); s != nil {
			v.slices[s.service] = append(v.slices[s.service], s)
		}
	case *corev1.Pod:
		if p := podOf(x); p != nil {
			v.pods[p.owner] = append(v.pods[p.owner], p)
		}
	case *autoscalingv2.HorizontalPodAutoscaler:
		v.addRival(x.Namespace, x.Name, hpaOf(x))
	case *unstructured.Unstructured:
		v.addRival(x.GetNamespace(), x.GetName(), scaledObjectOf(x))
	case *networkingv1.NetworkPolicy:
		v.policies[x.Namespace] = append(v.policies[x.Namespace], policyOf(x))
	}
}

func (v *View) addWorkload(o *opted, setsReplicas bool, m *metav1.ObjectMeta, ready int32, template *corev1.PodTemplateSpec, origin string) {
	if !o.OptedIn() {
		return
	}
	spec := &template.Spec
	a := &annotated{opted: *o, origin: origin, setsReplicas: setsReplicas, created: m.CreationTimestamp.Time, ready: int(ready), ports: portsIn(spec)}
	a.injected = slices.ContainsFunc(slices.Concat(spec.InitContainers, spec.Containers), func(c corev1.Container) bool { return c.Name == sidecarName })
	a.own, a.ofPods = m.Annotations, template.Annotations
	a.containers = len(spec.Containers)
	for _, c := range spec.Containers {
		a.declares = a.declares || len(c.Ports) > 0
		if c.Image == "" {
			a.imageless = append(a.imageless, c.Name)
		}
	}
	v.workloads = append(v.workloads, a)
}

// astray says that a port of a Service leads to none that the workload's containers declare, the queue-proxy that the webhook
// adds included. Ports need not be declared, but when none is there is nothing to compare a number with.
func (a *annotated) astray(p workload.Port) bool {
	all := append(slices.Clone(a.ports), named{sidecarPortName, sidecarPort})
	if p.TargetName != "" {
		return a.containers > 0 && !slices.ContainsFunc(all, func(n named) bool { return n.name == p.TargetName })
	}
	return a.declares && !slices.ContainsFunc(all, func(n named) bool { return n.port == target(a, p) })
}

func (v *View) addRival(namespace, name string, r *rival) {
	of := owner{r.of, key{namespace, r.target}}
	v.rivals[of] = append(v.rivals[of], workload.Rival{What: r.kind + " " + name})
}

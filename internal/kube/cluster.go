package kube

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rousehq/rouse/internal/workload"
)

// ClusterConfig says what to watch.
type ClusterConfig struct {
	// Namespace is where control itself runs: its ConfigMaps, its leases, the activators' pods.
	Namespace string
	Log       *slog.Logger
}

// Cluster is what is known of a cluster. Make one with [NewCluster], wire what listens to it, then start it with Run.
type Cluster struct {
	cfg    ClusterConfig
	client *Client

	deployments, sets   *table[opted]
	pods                *table[pod]
	services            *table[service]
	slices              *table[slice]
	hpas, scaledObjects *table[rival]
	configs             *table[configMap]
	leases              *table[lease]
	nodes               *table[string]
	watches             []*watching

	mu       sync.RWMutex
	podsOf   map[owner]map[string]*pod   // guarded by mu; by UID
	podsOn   map[string]map[*pod]bool    // guarded by mu; by node
	podsAt   map[netip.Addr][]*pod       // guarded by mu; of our own namespace, who counts first
	serving  map[key]map[string]struct{} // guarded by mu; names of Services by the workload that they belong to
	selectAt map[string]map[string]bool  // guarded by mu; names of Services with a selector, by namespace
	slicesOf map[key]map[string]*slice   // guarded by mu; by Service and name

	onWorkload, onService func(key)                    // set before Run
	onHome                func(old, now *pod)          // set before Run; of our own namespace
	onConfig              func(name string)            // set before Run
	onLease               func(old, now *lease)        // set before Run
	onWatch               func(what string, err error) // set before Run; err is nil when it works again
}

// NewCluster makes the tables; addWatches says what fills them, and nothing is asked yet.
func NewCluster(cfg ClusterConfig, client *Client) *Cluster {
	c := &Cluster{
		cfg: cfg, client: client, podsOf: map[owner]map[string]*pod{}, podsOn: map[string]map[*pod]bool{}, podsAt: map[netip.Addr][]*pod{}, serving: map[key]map[string]struct{}{},
		selectAt: map[string]map[string]bool{}, slicesOf: map[key]map[string]*slice{},
		onWorkload: func(key) {}, onService: func(key) {}, onHome: func(_, _ *pod) {}, onConfig: func(string) {}, onLease: func(_, _ *lease) {},
		onWatch: func(string, error) {},
	}
	object := func(k key, _, _ *opted) { c.onWorkload(k) }
	c.deployments = newTable(stripDeployment, deploymentOf, object)
	c.sets = newTable(stripStatefulSet, statefulSetOf, object)
	for _, t := range []*table[opted]{c.deployments, c.sets} {
		t.version = func(o *opted) string { return o.version }
	}
	c.pods = newTable(stripPod, podOf, c.podChanged)
	c.services = newTable(stripAny, serviceOf, c.serviceChanged)
	c.slices = newTable(stripSlice, sliceOf, c.sliceChanged)
	rivals := func(k key, old, now *rival) {
		for _, r := range []*rival{old, now} {
			if r != nil {
				c.onWorkload(key{k.namespace, r.target})
			}
		}
	}
	c.slices.version = func(s *slice) string { return s.version }
	c.hpas = newTable(stripAny, hpaOf, rivals)
	c.scaledObjects = newTable(stripAny, scaledObjectOf, rivals)
	c.configs = newTable(stripAny, configMapOf, func(k key, _, _ *configMap) { c.onConfig(k.name) })
	c.leases = newTable(stripAny, leaseOf, func(_ key, old, now *lease) { c.onLease(old, now) })
	c.nodes = newTable(stripNode, nodeOf, c.nodeChanged)
	return c
}

func stripAny(obj any) (any, error) {
	if m, ok := obj.(metav1.ObjectMetaAccessor); ok {
		m.GetObjectMeta().SetManagedFields(nil)
	}
	return obj, nil
}

func stripNode(obj any) (any, error) {
	if n, ok := obj.(*corev1.Node); ok {
		stripMeta(&n.ObjectMeta)
		n.Annotations, n.Spec, n.Status = nil, corev1.NodeSpec{}, corev1.NodeStatus{}
	}
	return obj, nil
}

// leaseSelector picks our leases among those of other programs in the namespace.
const leaseSelector = leaseLabel

func (c *Cluster) addWatches() {
	core, ns := c.client.core, c.cfg.Namespace
	const all = metav1.NamespaceAll
	follow(c, "deployments", false, &appsv1.Deployment{}, c.deployments, lists(core.AppsV1().Deployments(all).List), core.AppsV1().Deployments(all).Watch, "")
	follow(c, "statefulsets", true, &appsv1.StatefulSet{}, c.sets, lists(core.AppsV1().StatefulSets(all).List), core.AppsV1().StatefulSets(all).Watch, "")
	follow(c, "pods", false, &corev1.Pod{}, c.pods, lists(core.CoreV1().Pods(all).List), core.CoreV1().Pods(all).Watch, "")
	follow(c, "services", false, &corev1.Service{}, c.services, lists(core.CoreV1().Services(all).List), core.CoreV1().Services(all).Watch, "")
	follow(c, "endpointslices", false, &discoveryv1.EndpointSlice{}, c.slices, lists(core.DiscoveryV1().EndpointSlices(all).List), core.DiscoveryV1().EndpointSlices(all).Watch, "")
	follow(c, "horizontalpodautoscalers", true, &autoscalingv2.HorizontalPodAutoscaler{}, c.hpas, lists(core.AutoscalingV2().HorizontalPodAutoscalers(all).List), core.AutoscalingV2().HorizontalPodAutoscalers(all).Watch, "")
	follow(c, "configmaps", false, &corev1.ConfigMap{}, c.configs, lists(core.CoreV1().ConfigMaps(ns).List), core.CoreV1().ConfigMaps(ns).Watch, "")
	follow(c, "leases", false, &coordinationv1.Lease{}, c.leases, lists(core.CoordinationV1().Leases(ns).List), core.CoordinationV1().Leases(ns).Watch, leaseSelector)
	follow(c, "nodes", true, &corev1.Node{}, c.nodes, lists(core.CoreV1().Nodes().List), core.CoreV1().Nodes().Watch, "")
	scaled := c.client.dynamic.Resource(schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"})
	follow(c, "scaledobjects", true, &unstructured.Unstructured{}, c.scaledObjects, lists(scaled.List), scaled.Watch, "").foreign = true
}

// Run watches until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range c.watches {
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
	return nil
}

// ErrNotSynced says that the cluster has not been read completely yet.
var ErrNotSynced = errors.New("the cluster has not been read completely yet")

const (
	// refusalsToBelieve is how many refusals in a row say that control has no right to an optional kind of object. A
	// server that has just started knows nobody's rights for a moment.
	refusalsToBelieve = 2
	// failuresToGoOn is how many failures in a row of any kind, in half a minute, say that objects of another program
	// cannot be read for now: a CustomResourceDefinition whose conversion webhook is gone fails for as long.
	failuresToGoOn = 10
)

// Synced says whether everything was read once. A watch without which there is a sensible answer counts as read when the
// server has no such objects, or keeps refusing them while it lets us read all the rest. After any other failure they may
// well be there, and to begin without them would be to drop what is known of them everywhere. Those of another program are
// waited for half a minute: until they can be read, a workload that has one counts as ours alone.
func (c *Cluster) Synced() bool { return c.syncedWith(true) }

func (c *Cluster) syncedWith(optional bool) bool {
	for _, w := range c.watches {
		if !w.synced() && !(w.optional && (!optional || w.dispensable())) {
			return false
		}
	}
	return true
}

// dispensable says whether control begins without what an optional watch would bring.
func (w *watching) dispensable() bool {
	return w.missing.Load() || w.refusals.Load() >= refusalsToBelieve || w.foreign && w.failures.Load() >= failuresToGoOn
}

// AwaitSync blocks until Synced or ctx ends; it says which.
func (c *Cluster) AwaitSync(ctx context.Context) bool {
	for !c.Synced() {
		if ctx.Err() != nil {
			return false
		}
		pause(ctx, 5*time.Millisecond)
	}
	return true
}

func (c *Cluster) podChanged(_ key, old, now *pod) {
	c.mu.Lock()
	if old != nil {
		unset(c.podsOf, old.owner, old.uid)
		c.unclaim(old)
		delete(c.podsOn[old.node], old)
		if len(c.podsOn[old.node]) == 0 {
			delete(c.podsOn, old.node)
		}
	}
	if now != nil {
		if c.podsOf[now.owner] == nil {
			c.podsOf[now.owner] = make(map[string]*pod)
		}
		c.podsOf[now.owner][now.uid] = now
		if c.podsOn[now.node] == nil {
			c.podsOn[now.node] = make(map[*pod]bool)
		}
		c.podsOn[now.node][now] = true
		c.claim(now)
	}
	c.mu.Unlock()
	if old != nil && (now == nil || now.owner != old.owner) {
		c.onWorkload(old.owner.key)
	}
	if now != nil {
		c.onWorkload(now.owner.key)
	}
	if now != nil && now.namespace == c.cfg.Namespace || old != nil && old.namespace == c.cfg.Namespace {
		c.onHome(old, now)
	}
}

// nodeChanged looks again at the workloads that have a pod on a node whose zone is another: heartbeats change nothing. The
// pods of a node that went go too.
func (c *Cluster) nodeChanged(k key, old, now *string) {
	before := ""
	if old != nil {
		before = *old
	}
	if now == nil || *now == before {
		return
	}
	touched := make(map[key]struct{})
	c.mu.RLock()
	for p := range c.podsOn[k.name] {
		touched[p.owner.key] = struct{}{}
	}
	c.mu.RUnlock()
	for w := range touched {
		c.onWorkload(w)
	}
}

// unset takes a name out of one of several sets, and a set that is empty out of them all.
func unset[K comparable, V any](sets map[K]map[string]V, of K, name string) {
	delete(sets[of], name)
	if len(sets[of]) == 0 {
		delete(sets, of)
	}
}

func (c *Cluster) serviceChanged(k key, old, now *service) {
	touched := make(map[key]struct{}, 2)
	c.mu.Lock()
	if old != nil {
		t := key{k.namespace, old.target()}
		touched[t] = struct{}{}
		unset(c.serving, t, k.name)
		unset(c.selectAt, k.namespace, k.name)
	}
	if now != nil {
		t := key{k.namespace, now.target()}
		touched[t] = struct{}{}
		if c.serving[t] == nil {
			c.serving[t] = make(map[string]struct{}, 1)
		}
		c.serving[t][k.name] = struct{}{}
		if len(now.Selector) > 0 {
			if c.selectAt[k.namespace] == nil {
				c.selectAt[k.namespace] = make(map[string]bool)
			}
			c.selectAt[k.namespace][k.name] = true
		}
	}
	c.mu.Unlock()
	for t := range touched {
		c.onWorkload(t)
	}
	c.onService(k)
}

// workload returns the workload of a name: one that is opted in if possible, the Deployment rather than the StatefulSet.
func (c *Cluster) workload(k key) *opted {
	d, s := c.deployments.get(k), c.sets.get(k)
	if d == nil || s != nil && s.OptedIn() && !d.OptedIn() {
		return s
	}
	return d
}

// uids returns those of the workloads of a name.
func (c *Cluster) uids(k key) (all []string) {
	for _, t := range []*table[opted]{c.deployments, c.sets} {
		if o := t.get(k); o != nil {
			all = append(all, o.UID)
		}
	}
	return all
}

// shadowed returns the StatefulSet that can't be scaled because a Deployment that is scaled has its name.
func (c *Cluster) shadowed(k key) *opted {
	d, s := c.deployments.get(k), c.sets.get(k)
	if d == nil || s == nil || !workload.Shadowed(&d.Object, &s.Object) {
		return nil
	}
	return s
}

// published returns the Service of a workload that has slices of ours, nil when none has.
func (c *Cluster) published(k key) *service {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for name := range c.serving[k] {
		for _, s := range c.slicesOf[key{k.namespace, name}] {
			if s.ours() {
				return c.services.get(key{k.namespace, name})
			}
		}
	}
	return nil
}

// candidates returns the Services that may belong to a workload.
func (c *Cluster) candidates(o *opted) []*workload.Service {
	k := key{o.Namespace, o.Name}
	c.mu.RLock()
	var names []string
	for name := range c.serving[k] {
		names = append(names, name)
	}
	if len(names) == 0 {
		for name := range c.selectAt[k.namespace] {
			names = append(names, name)
		}
	}
	c.mu.RUnlock()
	var found []*workload.Service
	for _, name := range names {
		if s := c.services.get(key{k.namespace, name}); s != nil {
			found = append(found, &s.Service)
		}
	}
	return found
}

// rivals returns what else scales a workload. KEDA makes an HPA of each ScaledObject: both are named.
func (c *Cluster) rivals(o *opted) (found []workload.Rival) {
	for _, t := range []*table[rival]{c.scaledObjects, c.hpas} {
		t.all(func(k key, r *rival) {
			if k.namespace == o.Namespace && r.target == o.Name && r.of == o.Kind {
				found = append(found, workload.Rival{What: r.kind + " " + k.name})
			}
		})
	}
	return found
}

// podsFor returns a workload's pods, in no order.
func (c *Cluster) podsFor(o *opted) []*pod {
	c.mu.RLock()
	defer c.mu.RUnlock()
	of := c.podsOf[owner{o.Kind, key{o.Namespace, o.Name}}]
	all := make([]*pod, 0, len(of))
	own := make(map[unique.Handle[string]]bool, 2) // of a rollout
	for _, p := range of {
		has, known := own[p.labels]
		if !known {
			has = o.has(p)
			own[p.labels] = has
		}
		if has {
			all = append(all, p)
		}
	}
	return all
}

// podCount returns how many pods a workload has.
func (c *Cluster) podCount(o *opted) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.podsOf[owner{o.Kind, key{o.Namespace, o.Name}}])
}

// zoneOf returns the zone of a node, empty when unknown.
func (c *Cluster) zoneOf(node string) string {
	if z := c.nodes.get(key{"", node}); z != nil {
		return *z
	}
	return ""
}

package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"text/template"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// readyTimeout is how long objects may take to settle; generous, for a machine that is busy with something else.
const readyTimeout = 90 * time.Second

func newMapper(cfg *rest.Config) *restmapper.DeferredDiscoveryRESTMapper {
	return restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discovery.NewDiscoveryClientForConfigOrDie(cfg)))
}

// Apply applies YAML documents server-side, into the test's namespace unless they name another. The text is a template: {{.Namespace}},
// {{image "NAME"}} and {{shared}} (see Image and Shared) are filled in.
func (c *Cluster) Apply(text string) {
	c.t.Helper()
	for _, obj := range c.parse(text) {
		r, err := c.resource(obj)
		if err != nil {
			c.t.Fatalf("apply %s %s: %v", obj.GetKind(), obj.GetName(), err)
		}
		if _, err := r.Apply(c.Context, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "e2e", Force: true}); err != nil {
			c.t.Fatalf("apply %s %s: %v", obj.GetKind(), obj.GetName(), err)
		}
	}
}

// Delete deletes what Apply was given; what is gone already is fine.
func (c *Cluster) Delete(text string) {
	c.t.Helper()
	for _, obj := range c.parse(text) {
		r, err := c.resource(obj)
		if err != nil {
			c.t.Fatalf("delete %s %s: %v", obj.GetKind(), obj.GetName(), err)
		}
		if err := r.Delete(c.Context, obj.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			c.t.Fatalf("delete %s %s: %v", obj.GetKind(), obj.GetName(), err)
		}
	}
}

func (c *Cluster) parse(text string) (objs []*unstructured.Unstructured) {
	c.t.Helper()
	tmpl, err := template.New("").Funcs(template.FuncMap{"image": c.Image, "shared": c.Shared}).Parse(text)
	if err != nil {
		c.t.Fatalf("template: %v", err)
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, c); err != nil {
		c.t.Fatalf("template: %v", err)
	}
	dec := yaml.NewYAMLOrJSONDecoder(&b, 4096)
	for {
		obj := &unstructured.Unstructured{}
		if err := dec.Decode(obj); errors.Is(err, io.EOF) {
			return objs
		} else if err != nil {
			c.t.Fatalf("YAML: %v", err)
		}
		if len(obj.Object) > 0 {
			objs = append(objs, obj)
		}
	}
}

func (c *Cluster) resource(obj *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := obj.GroupVersionKind()
	m, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) { // a CustomResourceDefinition may be new
		c.mapper.Reset()
		m, err = c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return c.Dynamic.Resource(m.Resource), nil
	}
	ns := obj.GetNamespace()
	if ns == "" {
		ns = c.Namespace
	}
	return c.Dynamic.Resource(m.Resource).Namespace(ns), nil
}

// WaitDeployment waits until a Deployment's newest template has exactly this many pods, all of them ready.
func (c *Cluster) WaitDeployment(name string, replicas int32) {
	c.t.Helper()
	c.Eventually(readyTimeout, "Deployment "+name+" is ready", func() error {
		d, err := c.Client.AppsV1().Deployments(c.Namespace).Get(c.Context, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if s := d.Status; s.ObservedGeneration < d.Generation || s.ReadyReplicas != replicas || s.UpdatedReplicas != replicas || s.Replicas != replicas {
			return errorf("generation %d of %d, %d replicas, %d updated, %d ready, want %d", s.ObservedGeneration, d.Generation, s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, replicas)
		}
		return nil
	})
}

// Scale sets a Deployment's replicas through the scale subresource, and does not wait.
func (c *Cluster) Scale(deployment string, replicas int32) {
	c.t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas) // an update would meet what the controllers write meanwhile
	_, err := c.Client.AppsV1().Deployments(c.Namespace).Patch(c.Context, deployment, types.MergePatchType, patch, metav1.PatchOptions{}, "scale")
	if err != nil {
		c.t.Fatalf("scale %s: %v", deployment, err)
	}
}

// Deployment returns a Deployment as it is.
func (c *Cluster) Deployment(name string) *appsv1.Deployment {
	c.t.Helper()
	d, err := c.Client.AppsV1().Deployments(c.Namespace).Get(c.Context, name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatalf("deployment %s: %v", name, err)
	}
	return d
}

// Pods lists pods by label, "app=hello" for instance, terminating ones included.
func (c *Cluster) Pods(selector string) []corev1.Pod {
	c.t.Helper()
	list, err := c.Client.CoreV1().Pods(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		c.t.Fatalf("pods %s: %v", selector, err)
	}
	return list.Items
}

// Pod returns one pod as it is.
func (c *Cluster) Pod(name string) *corev1.Pod {
	c.t.Helper()
	p, err := c.Client.CoreV1().Pods(c.Namespace).Get(c.Context, name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatalf("pod %s: %v", name, err)
	}
	return p
}

// WaitPod waits until a pod is as check wants it, and returns it.
func (c *Cluster) WaitPod(name, what string, within time.Duration, check func(*corev1.Pod) error) (found *corev1.Pod) {
	c.t.Helper()
	c.Eventually(within, "pod "+name+": "+what, func() error {
		p, err := c.Client.CoreV1().Pods(c.Namespace).Get(c.Context, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		found = p
		return check(p)
	})
	return found
}

// Ready is a check for WaitPod.
func Ready(p *corev1.Pod) error {
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return errorf("phase %s, conditions %v", p.Status.Phase, p.Status.Conditions)
}

// WaitGone waits until no pod matches.
func (c *Cluster) WaitGone(selector string, within time.Duration) {
	c.t.Helper()
	c.Eventually(within, "no pod "+selector+" is left", func() error {
		list, err := c.Client.CoreV1().Pods(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: selector})
		if err == nil && len(list.Items) > 0 {
			err = errorf("%d pods", len(list.Items))
		}
		return err
	})
}

// Endpoints lists a Service's endpoints from all its slices.
func (c *Cluster) Endpoints(service string) (eps []discoveryv1.Endpoint) {
	c.t.Helper()
	list, err := c.Client.DiscoveryV1().EndpointSlices(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		c.t.Fatalf("endpointslices of %s: %v", service, err)
	}
	for _, s := range list.Items {
		eps = append(eps, s.Endpoints...)
	}
	return eps
}

// URL returns a Service's address by its ClusterIP, the first one.
func (c *Cluster) URL(service string, port int) string {
	c.t.Helper()
	s, err := c.Client.CoreV1().Services(c.Namespace).Get(c.Context, service, metav1.GetOptions{})
	if err != nil {
		c.t.Fatalf("service %s: %v", service, err)
	}
	return "http://" + net.JoinHostPort(s.Spec.ClusterIP, strconv.Itoa(port))
}

// URLs returns a Service's addresses by each of its ClusterIPs, that of its first family first.
func (c *Cluster) URLs(service string, port int) (urls []string) {
	c.t.Helper()
	s, err := c.Client.CoreV1().Services(c.Namespace).Get(c.Context, service, metav1.GetOptions{})
	if err != nil {
		c.t.Fatalf("service %s: %v", service, err)
	}
	for _, ip := range s.Spec.ClusterIPs {
		urls = append(urls, "http://"+net.JoinHostPort(ip, strconv.Itoa(port)))
	}
	return urls
}

// At is the URL of a port of a pod, by its first address.
func At(p *corev1.Pod, port int) string {
	return "http://" + net.JoinHostPort(p.Status.PodIP, strconv.Itoa(port))
}

// Logs returns what a container has written, both streams.
func (c *Cluster) Logs(pod, container string) string {
	c.t.Helper()
	b, err := c.Client.CoreV1().Pods(c.Namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container}).DoRaw(c.Context)
	if err != nil {
		c.t.Fatalf("logs of %s/%s: %v", pod, container, err)
	}
	return string(b)
}

// Kubectl runs the real kubectl in the test's namespace and returns what it printed.
func (c *Cluster) Kubectl(args ...string) (string, error) {
	out, err := exec.CommandContext(c.Context, "kubectl", append([]string{"-n", c.Namespace}, args...)...).CombinedOutput()
	return string(out), err
}

// Signal sends a signal to a container's first process: the node's processes are in sight.
func (c *Cluster) Signal(pod, container string, sig syscall.Signal) {
	c.t.Helper()
	p := c.Pod(pod)
	for _, s := range append(p.Status.ContainerStatuses, p.Status.InitContainerStatuses...) {
		if s.Name != container {
			continue
		}
		pid, err := processOf(s.ContainerID)
		if err == nil {
			err = syscall.Kill(pid, sig)
		}
		if err != nil {
			c.t.Fatalf("signal %s/%s: %v", pod, container, err)
		}
		return
	}
	c.t.Fatalf("pod %s has no container %s", pod, container)
}

// WaitPodGone waits until a pod's object is gone: kubelet lets it go when its processes are.
func (c *Cluster) WaitPodGone(name string, within time.Duration) {
	c.t.Helper()
	c.Eventually(within, "pod "+name+" is gone", func() error {
		_, err := c.Client.CoreV1().Pods(c.Namespace).Get(c.Context, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errorf("it is still there"))
	})
}

package kube

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/rousehq/rouse/internal/workload"
)

// Component is one of Rouse's own workloads in a cluster.
type Component struct {
	Kind      workload.Kind
	Name      string
	Wanted    int
	Instances []Instance // in the order of their names
}

// Instance is a pod of a [Component].
type Instance struct {
	Name        string
	Addrs       []netip.Addr
	Ready       bool
	Terminating bool
	Why         string // it is not ready, as far as Kubernetes knows
	Image       string
	ImageID     string            // by digest, empty before it was pulled
	Environ     map[string]string // what its template says literally
}

// Component reads one of Rouse's own workloads with its pods; nil when it is not there.
func (c *Client) Component(ctx context.Context, namespace string, kind workload.Kind, name string) (*Component, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out := &Component{Kind: kind, Name: name}
	selector, replicas, err := c.scaled(ctx, namespace, kind, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", kind, name, err)
	}
	out.Wanted = 1
	if replicas != nil {
		out.Wanted = int(*replicas)
	}
	match, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		match = labels.Nothing()
	}
	pods, err := c.core.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: match.String()})
	if err != nil {
		return nil, fmt.Errorf("read the pods of %s %s: %w", kind, name, err)
	}
	for i := range pods.Items {
		if p := podOf(&pods.Items[i]); p != nil && p.owner == (owner{kind, key{namespace, name}}) && !p.ended {
			out.Instances = append(out.Instances, instanceOf(&pods.Items[i], p, name))
		}
	}
	slices.SortFunc(out.Instances, func(a, b Instance) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (c *Client) scaled(ctx context.Context, namespace string, kind workload.Kind, name string) (*metav1.LabelSelector, *int32, error) {
	if kind == workload.StatefulSet {
		s, err := c.core.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, nil, err
		}
		return s.Spec.Selector, s.Spec.Replicas, nil
	}
	d, err := c.core.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, nil, err
	}
	return d.Spec.Selector, d.Spec.Replicas, nil
}

// instanceOf reads the container that has the component's name, or the first.
func instanceOf(object *corev1.Pod, p *pod, component string) Instance {
	out := Instance{Name: p.name, Addrs: p.addrs, Ready: p.ready, Terminating: p.terminating, Environ: map[string]string{}}
	i := max(slices.IndexFunc(object.Spec.Containers, func(c corev1.Container) bool { return c.Name == component }), 0)
	if i < len(object.Spec.Containers) {
		c := &object.Spec.Containers[i]
		out.Image = c.Image
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				out.Environ[e.Name] = e.Value
			}
		}
		for _, s := range object.Status.ContainerStatuses {
			if s.Name == c.Name {
				out.ImageID = s.ImageID
			}
		}
	}
	if !out.Ready {
		out.Why = whyNot(object)
	}
	return out
}

// whyNot returns why a pod is not ready, in Kubernetes' words.
func whyNot(p *corev1.Pod) string {
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		switch {
		case s.State.Waiting != nil && s.State.Waiting.Reason != "":
			return strings.TrimSuffix(s.State.Waiting.Reason+": "+s.State.Waiting.Message, ": ")
		case s.State.Terminated != nil:
			return fmt.Sprintf("%s, exit code %d", s.State.Terminated.Reason, s.State.Terminated.ExitCode)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Status != corev1.ConditionTrue && c.Message != "" {
			return c.Message
		}
	}
	return "phase " + string(p.Status.Phase)
}

// Bound returns the namespaces of the service accounts that a ClusterRoleBinding gives its rights to; none when it is not there.
func (c *Client) Bound(ctx context.Context, binding string) (namespaces []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, err := c.core.RbacV1().ClusterRoleBindings().Get(ctx, binding, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ClusterRoleBinding %s: %w", binding, err)
	}
	for _, s := range b.Subjects {
		if s.Kind == rbacv1.ServiceAccountKind && !slices.Contains(namespaces, s.Namespace) {
			namespaces = append(namespaces, s.Namespace)
		}
	}
	return namespaces, nil
}

// Shares is how buckets are divided over instances of control at one moment.
type Shares struct {
	// Members are the instances that have a Lease, each with a stamp that changes when it renews.
	Members map[string]string
	// Holders are the instances that took a bucket last.
	Holders map[int]string
}

// Shares reads the Leases of control.
func (c *Client) Shares(ctx context.Context, namespace string) (Shares, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s := Shares{Members: map[string]string{}, Holders: map[int]string{}}
	list, err := c.core.CoordinationV1().Leases(namespace).List(ctx, metav1.ListOptions{LabelSelector: leaseSelector})
	if err != nil {
		return s, fmt.Errorf("read the Leases of control: %w", err)
	}
	for i := range list.Items {
		l := leaseOf(&list.Items[i])
		if name, ok := strings.CutPrefix(l.name, memberPrefix); ok {
			s.Members[name] = l.stamp
			continue
		}
		var bucket int
		if _, err := fmt.Sscanf(l.name, bucketPrefix+"%d", &bucket); err == nil {
			s.Holders[bucket] = l.holder
		}
	}
	return s, nil
}

// ConfigMap returns the data of a ConfigMap; found is false when it is not there.
func (c *Client) ConfigMap(ctx context.Context, namespace, name string) (data map[string]string, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := c.core.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read ConfigMap %s: %w", name, err)
	}
	return m.Data, true, nil
}

// Trusted returns the authorities, in PEM, by which the API server trusts each webhook of a mutating configuration; found
// is false when it is not there.
func (c *Client) Trusted(ctx context.Context, configuration string) (bundles [][]byte, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := c.core.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, configuration, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read MutatingWebhookConfiguration %s: %w", configuration, err)
	}
	for i := range m.Webhooks {
		bundles = append(bundles, m.Webhooks[i].ClientConfig.CABundle)
	}
	return bundles, true, nil
}

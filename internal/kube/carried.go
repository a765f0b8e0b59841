package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/workload"
)

// listPage is how many objects are asked for at once.
const listPage = 500

// Carried returns the Services of every namespace that lose their endpoints, or keep wrong ones, when control goes: those
// whose selector is kept in an annotation, and those that have slices of ours. Each is there once.
func (c *Client) Carried(ctx context.Context) (found []identity.Key, err error) {
	filled := make(map[key]bool)
	ours := metav1.ListOptions{LabelSelector: discoveryv1.LabelManagedBy + "=" + managedBy}
	err = everyOf(ctx, lists(c.core.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).List), ours, func(s *discoveryv1.EndpointSlice) {
		filled[key{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}] = true
	})
	if err != nil {
		return nil, err
	}
	err = everyOf(ctx, lists(c.core.CoreV1().Services(metav1.NamespaceAll).List), metav1.ListOptions{}, func(s *corev1.Service) {
		if s.Annotations[workload.AdoptedSelector] != "" || filled[key{s.Namespace, s.Name}] {
			found = append(found, identity.Key{Namespace: s.Namespace, Name: s.Name})
		}
	})
	return found, err
}

// everyOf calls f for each object of a kind, page by page.
func everyOf[T runtime.Object](ctx context.Context, list pager.ListPageFunc, o metav1.ListOptions, f func(T)) error {
	p := pager.New(list)
	p.PageSize = listPage
	return p.EachListItem(ctx, o, func(obj runtime.Object) error {
		if x, ok := obj.(T); ok {
			f(x)
		}
		return nil
	})
}

package kube

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/workload"
)

// listPage is how many objects are asked for at once.
const listPage = 500

// Adopted returns the Services whose selector is kept in an annotation, of every namespace.
func (c *Client) Adopted(ctx context.Context) (found []identity.Key, err error) {
	for next := ""; ; {
		list, err := c.core.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: listPage, Continue: next})
		if err != nil {
			return nil, err
		}
		for _, s := range list.Items {
			if s.Annotations[workload.AdoptedSelector] != "" {
				found = append(found, identity.Key{Namespace: s.Namespace, Name: s.Name})
			}
		}
		if next = list.Continue; next == "" {
			return found, nil
		}
	}
}

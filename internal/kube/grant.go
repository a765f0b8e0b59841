package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/workload"
)

// classKey is the annotation that opts a workload in.
const classKey = config.PrefixAutoscaling + "class"

// chosen is a workload and the labels by which a Service selects its pods.
type chosen struct {
	what   string // kind and name
	labels map[string]string
}

// candidate is a Deployment or StatefulSet that a Service may belong to.
type candidate struct {
	*opted
	selector *metav1.LabelSelector
	template map[string]string // labels of its pods
}

// selectorFor returns what selects the pods of the workload that a Service without a selector belongs to.
func (c *Client) selectorFor(ctx context.Context, svc *corev1.Service) (chosen, error) {
	name := serviceOf(svc).target()
	found, err := c.candidates(ctx, svc.Namespace, name)
	if err != nil {
		return chosen{}, err
	}
	if len(found) == 0 {
		return chosen{}, fmt.Errorf("service %s: there is no Deployment or StatefulSet %s, which %s: name the one that it is for, by "+
			"`kubectl -n %s annotate --overwrite service %s %s=NAME`, or if it is for none, remove what control left, by "+
			"`kubectl -n %[4]s delete endpointslice -l kubernetes.io/service-name=%[5]s,endpointslice.kubernetes.io/managed-by=%[7]s`",
			svc.Name, name, whence(svc), svc.Namespace, svc.Name, workload.ServiceFor, managedBy)
	}
	for _, w := range found {
		if w.OptedIn() { // of both kinds the Deployment comes first, as in [workload.Shadowed]
			return w.selects(svc)
		}
	}
	w := found[0]
	return chosen{}, fmt.Errorf("service %s: %s %s is not opted in (metadata.annotations[%s]), so that control would not keep a pod of it: opt it in, by "+
		"`kubectl -n %s annotate --overwrite %s %s %s=%s`, or give the Service its selector, by `%s`", svc.Name, w.Kind, w.Name, classKey,
		svc.Namespace, strings.ToLower(string(w.Kind)), w.Name, classKey, config.ClassKPA, patchSelector(svc, w.labels()))
}

// candidates returns the Deployment and the StatefulSet of a name, those that are there.
func (c *Client) candidates(ctx context.Context, namespace, name string) (found []candidate, err error) {
	d, err := c.core.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		found = append(found, candidate{deploymentOf(d), d.Spec.Selector, d.Spec.Template.Labels})
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	s, err := c.core.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		found = append(found, candidate{statefulSetOf(s), s.Spec.Selector, s.Spec.Template.Labels})
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	return found, nil
}

// selects returns the workload's selector. A Service's can hold labels alone.
func (w *candidate) selects(svc *corev1.Service) (chosen, error) {
	what := string(w.Kind) + " " + w.Name
	if w.selector == nil || len(w.selector.MatchExpressions) > 0 || len(w.selector.MatchLabels) == 0 {
		return chosen{}, fmt.Errorf("service %s: %s selects its pods by spec.selector.matchExpressions, which a Service can't: say by which labels, "+
			"those that stay the same from one rollout to the next, by `%s`, then run `rouse release %s -n %s` again",
			svc.Name, what, annotateSelector(svc, w.labels()), svc.Name, svc.Namespace)
	}
	return chosen{what, w.selector.MatchLabels}, nil
}

// labels are the best guess at a selector.
func (w *candidate) labels() map[string]string {
	if s := w.selector; s != nil && len(s.MatchExpressions) == 0 && len(s.MatchLabels) > 0 {
		return s.MatchLabels
	}
	return w.template
}

// whence says what names a Service's workload.
func whence(svc *corev1.Service) string {
	if _, named := svc.Annotations[workload.ServiceFor]; named {
		return "metadata.annotations[" + workload.ServiceFor + "] names"
	}
	return "it belongs to by its own name"
}

// annotateSelector is the command that keeps a selector for Release.
func annotateSelector(svc *corev1.Service, selector map[string]string) string {
	return fmt.Sprintf("kubectl -n %s annotate --overwrite service %s '%s=%s'", svc.Namespace, svc.Name, workload.AdoptedSelector, jsonOf(selector))
}

// patchSelector is the command that gives a Service a selector.
func patchSelector(svc *corev1.Service, selector map[string]string) string {
	return fmt.Sprintf(`kubectl -n %s patch service %s -p '{"spec":{"selector":%s}}'`, svc.Namespace, svc.Name, jsonOf(selector))
}

// jsonOf writes labels as JSON.
func jsonOf(selector map[string]string) string {
	body, _ := json.Marshal(selector) // strings always can
	return string(body)
}

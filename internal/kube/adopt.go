package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/internal/workload"
)

// settlePoll is how often adoption looks whether the cluster has followed.
const settlePoll = 100 * time.Millisecond

// Adopt takes a Service over from its selector without a lost request: control publishes its own slices beside those of
// Kubernetes, then the selector goes, then control removes what Kubernetes left. It blocks until that is done or ctx
// ends. When control does not follow, the Service is left as it was. say is told of each step.
func (c *Client) Adopt(ctx context.Context, namespace, name string, say func(string)) error {
	svc, err := c.core.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(svc.Spec.Selector) == 0 {
		return fmt.Errorf("service %s has no selector: control fills its endpoints already, if a workload is annotated for it", name)
	}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return fmt.Errorf("service %s is headless: its clients know pods by their addresses, so that it can't be adopted", name)
	}
	if err := unfit(svc, say); err != nil {
		return err
	}
	target, err := c.workloadOf(ctx, namespace, svc.Spec.Selector)
	if err != nil {
		return fmt.Errorf("service %s: %w", name, err)
	}
	if err := c.alone(ctx, svc, target); err != nil {
		return err
	}
	selector, err := json.Marshal(svc.Spec.Selector)
	if err != nil {
		return err
	}
	say(fmt.Sprintf("Service %s belongs to %s; control publishes its endpoints beside those of Kubernetes", name, target))
	_, bare, _ := strings.Cut(target, " ")
	begun := map[string]any{workload.AdoptedSelector: string(selector), workload.ServiceFor: bare, workload.Releasing: nil} // a release may have ended midway
	if err := c.patchService(ctx, svc, begun, nil); err != nil {
		return err
	}
	if err := c.await(ctx, namespace, name, func(ours, _ slicesSeen) bool { return ours.ready > 0 }); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		err = fmt.Errorf("control published nothing for Service %s; see `kubectl events`: %w", name, err)
		return errors.Join(err, c.patchService(undo, svc, map[string]any{workload.AdoptedSelector: nil, workload.ServiceFor: nil}, nil))
	}
	say("the selector goes; it is kept in the annotation " + workload.AdoptedSelector)
	if err := c.patchService(ctx, svc, nil, map[string]any{"selector": nil}); err != nil {
		return err
	}
	return c.await(ctx, namespace, name, func(ours, foreign slicesSeen) bool { return ours.ready > 0 && foreign.count == 0 })
}

// unfit says why a Service can't be led to activators, in the words of control; what is minor is only told.
func unfit(svc *corev1.Service, say func(string)) error {
	for _, p := range workload.Unfit(&serviceOf(svc).Service) {
		if !p.Minor {
			return fmt.Errorf("%s: %s", p.Reason, p.Text)
		}
		say("warning: " + p.Text)
	}
	return nil
}

// workloadOf returns "Kind name" of the one annotated workload whose pods a selector matches.
func (c *Client) workloadOf(ctx context.Context, namespace string, selector map[string]string) (string, error) {
	match := labels.SelectorFromSet(selector)
	deployments, err := c.core.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	sets, err := c.core.AppsV1().StatefulSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	var found []string
	add := func(o *opted) {
		if o.OptedIn() && match.Matches(labels.Set(o.PodLabels)) {
			found = append(found, string(o.Kind)+" "+o.Name)
		}
	}
	for i := range deployments.Items {
		if o := deploymentOf(&deployments.Items[i]); o != nil {
			add(o)
		}
	}
	for i := range sets.Items {
		if o := statefulSetOf(&sets.Items[i]); o != nil {
			add(o)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", errors.New("its selector matches no annotated Deployment or StatefulSet: annotate the one that should be scaled with autoscaling.knative.dev/class")
	}
	return "", fmt.Errorf("its selector matches %s: one Service carries one workload", strings.Join(found, " and "))
}

// alone says whether a Service selects pods that are not the workload's, such as those of a canary: they would get no
// request any more.
func (c *Client) alone(ctx context.Context, svc *corev1.Service, target string) error {
	others := make(map[string]bool)
	list := lists(c.core.CoreV1().Pods(svc.Namespace).List)
	selected := metav1.ListOptions{LabelSelector: labels.SelectorFromSet(svc.Spec.Selector).String()}
	err := everyOf(ctx, list, selected, func(p *corev1.Pod) {
		ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		if of := madeBy(p); of != target && !ended && p.DeletionTimestamp == nil {
			others[of] = true
		}
	})
	if err != nil || len(others) == 0 {
		return err
	}
	return fmt.Errorf("service %s: spec.selector also matches the pods of %s, which would get no request any more: one Service carries one workload; "+
		"give them a Service of their own and add a label to the selector that only the pods of %s have, or delete them",
		svc.Name, strings.Join(slices.Sorted(maps.Keys(others)), " and "), target)
}

// madeBy returns "Kind name" of what made a pod: of the pod itself when nobody did.
func madeBy(p *corev1.Pod) string {
	if o, ok := ownerOf(p); ok {
		return string(o.kind) + " " + o.name
	}
	if c := metav1.GetControllerOf(p); c != nil {
		return c.Kind + " " + c.Name
	}
	return "Pod " + p.Name
}

func (c *Client) patchService(ctx context.Context, svc *corev1.Service, annotations, spec map[string]any) error {
	meta := map[string]any{"uid": svc.UID}
	if annotations != nil { // null would remove them all
		meta["annotations"] = annotations
	}
	patch := map[string]any{"metadata": meta}
	if spec != nil {
		patch["spec"] = spec
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = c.core.CoreV1().Services(svc.Namespace).Patch(ctx, svc.Name, types.MergePatchType, body, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("change Service %s: %w", svc.Name, err)
	}
	return nil
}

// slicesSeen counts the slices of one writer.
type slicesSeen struct{ count, ready int }

// await blocks until the slices of a Service are as asked for.
func (c *Client) await(ctx context.Context, namespace, name string, done func(ours, foreign slicesSeen) bool) error {
	for {
		ours, foreign, err := c.slicesOf(ctx, namespace, name)
		if err != nil {
			return err
		}
		if done(ours, foreign) {
			return nil
		}
		if pause(ctx, settlePoll); ctx.Err() != nil {
			return fmt.Errorf("%w (control has %d ready endpoints in %d slices, Kubernetes %d in %d)",
				ctx.Err(), ours.ready, ours.count, foreign.ready, foreign.count)
		}
	}
}

// slicesOf counts the slices of a Service: ours, and those of others.
func (c *Client) slicesOf(ctx context.Context, namespace, name string) (ours, foreign slicesSeen, err error) {
	list, err := c.core.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return ours, foreign, err
	}
	for i := range list.Items {
		s, to := sliceOf(&list.Items[i]), &foreign
		if s.ours() {
			to = &ours
		}
		to.count++
		to.ready += s.ready
	}
	return ours, foreign, nil
}

// awaitPod blocks until a pod that the selector matches is ready.
func (c *Client) awaitPod(ctx context.Context, namespace string, selector map[string]string) error {
	for {
		list, err := c.core.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selector).String()})
		if err != nil {
			return err
		}
		for i := range list.Items {
			for _, cond := range list.Items[i].Status.Conditions {
				if cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue && list.Items[i].DeletionTimestamp == nil {
					return nil
				}
			}
		}
		if pause(ctx, settlePoll); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

package kube

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/workload"
)

// Values of the annotation [workload.Releasing]. Control asks only whether it is there; the second one tells a later try
// that the annotation [workload.ServiceFor], if there is one, was not written by adoption, so that it stays.
const (
	releasing     = "true"
	releasingBare = "never-had-a-selector"
)

// release is how a Service gets its selector.
type release struct {
	selector    map[string]string
	first, last map[string]any // annotations
}

// Release gives a Service its selector back, or that of its workload when it never had one, without a lost request:
// control keeps a pod, Kubernetes publishes the pods, then control removes its own slices. It blocks until that is done
// or ctx ends. When it ended midway, another call goes on from there. say is told of each step.
func (c *Client) Release(ctx context.Context, namespace, name string, say func(string)) error {
	svc, err := c.core.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	r, err := c.releaseOf(ctx, svc, say)
	if err == nil && r != nil {
		err = c.restore(ctx, svc, r, say)
	}
	if err != nil {
		return err
	}
	say("control removes its endpoints")
	err = c.await(ctx, namespace, name, func(ours, foreign slicesSeen) bool { return ours.count == 0 && foreign.ready > 0 })
	if err != nil {
		return fmt.Errorf("control has not removed its endpoints of Service %s: %w", name, err)
	}
	return nil
}

// restore sets the selector while control still has its slices, and then lets go of the Service.
func (c *Client) restore(ctx context.Context, svc *corev1.Service, r *release, say func(string)) error {
	say("control keeps a pod of the workload")
	if err := c.patchService(ctx, svc, r.first, nil); err != nil {
		return err
	}
	if err := c.awaitPod(ctx, svc.Namespace, r.selector); err != nil {
		return fmt.Errorf("service %s has no ready pod: %w", svc.Name, err)
	}
	say("the selector is set; Kubernetes publishes the pods")
	restored := make(map[string]any, len(r.selector))
	for k, v := range r.selector {
		restored[k] = v
	}
	if err := c.patchService(ctx, svc, nil, map[string]any{"selector": restored}); err != nil {
		return err
	}
	if err := c.await(ctx, svc.Namespace, svc.Name, func(_, foreign slicesSeen) bool { return foreign.ready > 0 }); err != nil {
		return fmt.Errorf("no pod was published by Kubernetes for Service %s: %w", svc.Name, err)
	}
	return c.patchService(ctx, svc, r.last, nil)
}

// releaseOf plans a release. The result is nil when all but the last step was done already.
func (c *Client) releaseOf(ctx context.Context, svc *corev1.Service, say func(string)) (*release, error) {
	if selector, err := savedSelector(svc); err != nil {
		return nil, err
	} else if selector != nil {
		return newRelease(selector, svc.Annotations[workload.Releasing] == releasingBare), nil
	}
	if err := c.filled(ctx, svc); err != nil || len(svc.Spec.Selector) > 0 {
		return nil, err
	}
	w, err := c.selectorFor(ctx, svc)
	if err != nil {
		return nil, err
	}
	say(fmt.Sprintf("Service %s never had a selector: it gets that of %s, %s", svc.Name, w.what, jsonOf(w.labels)))
	r := newRelease(w.labels, true)
	r.first[workload.AdoptedSelector] = jsonOf(w.labels) // from here on as if it had been adopted
	return r, nil
}

func newRelease(selector map[string]string, bare bool) *release {
	r := &release{selector: selector, first: map[string]any{workload.Releasing: releasing},
		last: map[string]any{workload.AdoptedSelector: nil, workload.Releasing: nil}}
	if bare {
		r.first[workload.Releasing] = releasingBare
	} else {
		r.last[workload.ServiceFor] = nil
	}
	return r
}

// savedSelector returns the selector that adoption kept, nil when there is none.
func savedSelector(svc *corev1.Service) (selector map[string]string, err error) {
	saved := svc.Annotations[workload.AdoptedSelector]
	if saved == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(saved), &selector); err != nil || len(selector) == 0 {
		return nil, fmt.Errorf("service %s: metadata.annotations[%s] = %q is not a selector: write it as JSON, by `%s`",
			svc.Name, workload.AdoptedSelector, saved, annotateSelector(svc, map[string]string{"app": svc.Name}))
	}
	return selector, nil
}

// filled says why a Service without a kept selector is none to release: control has published nothing for it.
func (c *Client) filled(ctx context.Context, svc *corev1.Service) error {
	ours, _, err := c.slicesOf(ctx, svc.Namespace, svc.Name)
	switch {
	case err != nil:
		return err
	case ours.count > 0:
		return nil
	case len(svc.Spec.Selector) > 0:
		return fmt.Errorf("service %s was not adopted: Kubernetes fills its endpoints by its selector already", svc.Name)
	}
	return fmt.Errorf("service %s was not adopted (metadata.annotations[%s] is missing), and has no endpoints of control's: there is nothing to release; "+
		"`rouse check -n %s` says why control fills no Service", svc.Name, workload.AdoptedSelector, svc.Namespace)
}

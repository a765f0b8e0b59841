package kube

import (
	"context"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// removeForeign removes the slices of other writers from a Service that has no selector, and the Endpoints object from
// which they may be mirrored. Ours are there: it is called after write. The watches of Services and of slices are not in
// step: a slice that Kubernetes made because the selector is back may be seen first. So the Service is asked for, and a
// slice is deleted only as it was seen before that.
func (p *Publisher) removeForeign(ctx context.Context, t *tracked, foreign []*slice) error {
	if len(foreign) == 0 {
		return nil
	}
	live, err := p.client.core.CoreV1().Services(t.service.Namespace).Get(ctx, t.service.Name, metav1.GetOptions{})
	if err != nil || len(live.Spec.Selector) > 0 {
		return unlessGone(err)
	}
	if slices.ContainsFunc(foreign, func(s *slice) bool { return s.writer == mirroring }) {
		err := p.client.core.CoreV1().Endpoints(t.service.Namespace).Delete(ctx, t.service.Name, metav1.DeleteOptions{})
		if unlessGone(err) != nil {
			return err
		}
	}
	for _, s := range foreign {
		asSeen := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &s.version}}
		err := p.client.core.DiscoveryV1().EndpointSlices(t.service.Namespace).Delete(ctx, s.name, asSeen)
		if unlessGone(err) != nil {
			return err
		}
	}
	return nil
}

// unlessGone forgives that something is gone already.
func unlessGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// retire removes our slices from the Services of a workload that is not in control: from one that has its selector back
// once Kubernetes' own lead somewhere, from one whose workload is gone because they lead nowhere.
func (p *Publisher) retire(ctx context.Context, k key) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var left []*slice
	for _, s := range p.cluster.servicesOf(k) {
		ours, _ := p.cluster.slicesFor(key{k.namespace, s.Name})
		switch {
		case len(ours) == 0:
		case s.selfFilled():
			if err := p.withdraw(ctx, s, p.readyIn(k, s)); err != nil {
				return err
			}
		default:
			left = append(left, ours...)
		}
	}
	if len(left) == 0 || p.cluster.workload(k) != nil {
		p.mu.Lock()
		delete(p.gone, k)
		p.mu.Unlock()
		return nil
	}
	return p.abandon(ctx, k, left)
}

// readyIn returns the families of a Service in which its workload has a ready pod.
func (p *Publisher) readyIn(k key, s *service) (families []discoveryv1.AddressType) {
	o := p.cluster.workload(k)
	if o == nil {
		return nil
	}
	for _, pod := range p.cluster.podsFor(o) {
		for _, a := range pod.addrs {
			if f := addressType(a.Is6()); pod.ready && !pod.terminating && s.takes(a) && !slices.Contains(families, f) {
				families = append(families, f)
			}
		}
	}
	return families
}

// withdraw deletes our slices of a Service if the server, not our watch, says that others lead to a ready pod, in each of
// these families: Kubernetes writes one after the other.
func (p *Publisher) withdraw(ctx context.Context, svc *service, families []discoveryv1.AddressType) error {
	api := p.client.core.DiscoveryV1().EndpointSlices(svc.Namespace)
	list, err := api.List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + svc.Name})
	if err != nil {
		return err
	}
	var ours []string
	ready := make(map[discoveryv1.AddressType]bool)
	for i := range list.Items {
		if s := sliceOf(&list.Items[i]); s.ours() {
			ours = append(ours, s.name)
		} else if s.ready > 0 {
			ready[list.Items[i].AddressType] = true
		}
	}
	if len(ready) == 0 || slices.ContainsFunc(families, func(f discoveryv1.AddressType) bool { return !ready[f] }) {
		return nil // another change of the slices asks again
	}
	for _, o := range ours {
		if err := unlessGone(api.Delete(ctx, o, metav1.DeleteOptions{})); err != nil {
			return err
		}
	}
	return nil
}

package kube

import (
	"context"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/sliceplan"
)

// carryOut writes a plan, step by step; versions are those of the slices that it is made from. A slice that turns out to be
// another than was known is looked at, so that the next plan starts from what there is.
func (p *Publisher) carryOut(ctx context.Context, svc *service, plan sliceplan.Plan, versions map[string]string) error {
	for _, s := range plan.Create {
		if err := p.create(ctx, svc, s); err != nil {
			return err
		}
	}
	for _, s := range plan.Update {
		if err := p.update(ctx, svc, s, versions[s.Name]); err != nil {
			return p.mistaken(ctx, key{svc.Namespace, s.Name}, err)
		}
	}
	for _, name := range plan.Delete {
		if err := p.remove(ctx, key{svc.Namespace, name}, versions[name]); err != nil {
			return p.mistaken(ctx, key{svc.Namespace, name}, err)
		}
	}
	return nil
}

// create makes a slice. One that has its name already and is not marked as ours has lost its labels, or somebody has copied
// one: nobody else makes such names, and it becomes ours.
func (p *Publisher) create(ctx context.Context, svc *service, s sliceplan.Slice) error {
	api := p.client.core.DiscoveryV1().EndpointSlices(svc.Namespace)
	made, err := api.Create(ctx, objectOf(svc, s, svc.Namespace), metav1.CreateOptions{})
	if err == nil {
		p.cluster.slices.put(key{made.Namespace, made.Name}, sliceOf(made))
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	there, lookErr := p.look(ctx, key{svc.Namespace, s.Name})
	if there == nil || lookErr != nil {
		return err
	}
	if known := sliceOf(there); known != nil && known.ours() && known.service == (key{svc.Namespace, svc.Name}) {
		p.cluster.slices.force(key{svc.Namespace, s.Name}, known)
		return err
	}
	return p.update(ctx, svc, s, there.ResourceVersion)
}

func (p *Publisher) update(ctx context.Context, svc *service, s sliceplan.Slice, version string) error {
	object := objectOf(svc, s, svc.Namespace)
	object.ResourceVersion = version
	made, err := p.client.core.DiscoveryV1().EndpointSlices(svc.Namespace).Update(ctx, object, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	p.cluster.slices.put(key{made.Namespace, made.Name}, sliceOf(made))
	return nil
}

// remove deletes a slice as it was in a version: whatever is of until then and comes later is no news.
func (p *Publisher) remove(ctx context.Context, k key, version string) error {
	asSeen := metav1.DeleteOptions{}
	if version != "" {
		asSeen.Preconditions = &metav1.Preconditions{ResourceVersion: &version}
	}
	if err := unlessGone(p.client.core.DiscoveryV1().EndpointSlices(k.namespace).Delete(ctx, k.name, asSeen)); err != nil {
		return err
	}
	p.cluster.slices.drop(k, version)
	return nil
}

// mistaken enters what a slice is, when the server says that it is not what was known of it, and passes the error on. The
// watch may have told of it, or never will, after a backup was put back.
func (p *Publisher) mistaken(ctx context.Context, k key, err error) error {
	if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return err
	}
	there, lookErr := p.look(ctx, k)
	switch {
	case lookErr != nil:
	case there == nil:
		p.cluster.slices.force(k, nil)
	default:
		p.cluster.slices.force(k, sliceOf(there))
	}
	return err
}

// look asks the server for a slice, nil when it has none. Control may list slices, and so need not be allowed to get one.
func (p *Publisher) look(ctx context.Context, k key) (*discoveryv1.EndpointSlice, error) {
	list, err := p.client.core.DiscoveryV1().EndpointSlices(k.namespace).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + k.name})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		if list.Items[i].Name == k.name {
			return &list.Items[i], nil
		}
	}
	return nil, nil
}

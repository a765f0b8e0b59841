package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/workload"
)

// ErrNotThere says that the cluster does not hold the workload of a revision any more.
var ErrNotThere = errors.New("the workload is not there any more")

// Scaler sets how many pods a workload has, by its scale subresource.
type Scaler struct {
	client   *Client
	cluster  *Cluster
	fence    func() error
	reporter *reporter
	contests contests
}

// victimCost makes a pod go before those that have no cost.
const victimCost = "-100"

// costWait bounds the wait until our own watch shows the costs: the ReplicaSet controller's watch is as fast as ours, and
// chooses at random among pods whose costs it has not seen.
const costWait = 2 * time.Second

// Scale asks for so many pods, and that the victims go first when there are fewer. A StatefulSet always gives up its
// highest ordinals.
func (s *Scaler) Scale(ctx context.Context, rev identity.Revision, desired int, victims []string) error {
	o := s.cluster.workload(key{rev.Namespace, rev.Name})
	if o == nil || o.UID != rev.UID {
		return fmt.Errorf("%w: %s", ErrNotThere, rev)
	}
	if len(victims) > 0 && desired > 0 && o.Kind == workload.Deployment {
		if err := s.mark(ctx, o, victims); err != nil && ctx.Err() != nil {
			return err
		}
	}
	if err := s.fence(); err != nil {
		return fmt.Errorf("scale %s %s to %d: %w", o.Kind, rev, desired, err)
	}
	if s.contests.undoes(o, desired, time.Now()) {
		s.contested(ctx, o)
	}
	body := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, desired)
	resource := "deployments"
	if o.Kind == workload.StatefulSet {
		resource = "statefulsets"
	}
	answer := s.client.core.AppsV1().RESTClient().Patch(types.MergePatchType).Namespace(o.Namespace).Resource(resource).Name(o.Name).
		SubResource("scale").Body(body).Do(ctx)
	err := answer.Error()
	s.said(o, err)
	if err != nil {
		return fmt.Errorf("scale %s %s to %d: %w", o.Kind, rev, desired, err)
	}
	if s.contests.wrote(o, desired, time.Now()) {
		s.reporter.say(subjectOf(o), fromContest)
	}
	var made autoscalingv1.Scale
	if answer.Into(&made) == nil { // else the watch tells
		s.cluster.scaled(o, int(made.Spec.Replicas), made.ResourceVersion)
	}
	return nil
}

// scaled enters what our own write made of a workload's scale: an event of before it, which comes later, is no news, and
// one that says as much as before it is. The event of the write itself may bring more and counts.
func (c *Cluster) scaled(o *opted, replicas int, version string) {
	t := c.deployments
	if o.Kind == workload.StatefulSet {
		t = c.sets
	}
	t.revise(key{o.Namespace, o.Name}, func(old *opted) *opted {
		if old.UID != o.UID || !older(old.version, version) {
			return nil
		}
		now := *old
		now.Replicas, now.version = replicas, version
		return &now
	})
}

// said makes one Event of a refusal, and another one only when that is another.
func (s *Scaler) said(o *opted, err error) {
	switch {
	case err == nil:
		s.reporter.say(subjectOf(o), fromScale)
	case judge(err) == noRight:
		s.reporter.say(subjectOf(o), fromScale, complaint{string(workload.PermissionDenied), "may not be scaled: " + err.Error() +
			"; grant patch of its scale subresource to control's service account"})
	case judge(err) == denied:
		s.reporter.say(subjectOf(o), fromScale, complaint{string(workload.ScaleDenied), "is not scaled, as the API server refuses it: " + err.Error() +
			"; if that is a policy of the cluster, except control's service account from it, or set min-scale and max-scale to what it allows"})
	}
}

// mark gives the victims a cost below all others, and takes it from those that an earlier scale-down spared. It returns
// when our watch has seen it, or after a while.
func (s *Scaler) mark(ctx context.Context, o *opted, victims []string) error {
	ctx, cancel := context.WithTimeout(ctx, costWait)
	defer cancel()
	var pending []string
	var errs []error
	for _, p := range s.cluster.podsFor(o) {
		want := ""
		if slices.Contains(victims, p.uid) {
			want = victimCost
		}
		if p.terminating || p.cost == want || want == "" && p.cost != victimCost { // others' costs are not ours to touch
			continue
		}
		if err := s.setCost(ctx, p, want); err != nil {
			errs = append(errs, err)
			continue
		}
		if want != "" {
			pending = append(pending, p.uid)
		}
	}
	for ctx.Err() == nil && !s.seen(o, pending) {
		pause(ctx, time.Millisecond)
	}
	return errors.Join(errs...)
}

func (s *Scaler) setCost(ctx context.Context, p *pod, cost string) error {
	var value any
	if cost != "" {
		value = cost
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": p.uid, "annotations": map[string]any{costAnnotation: value},
	}})
	if err != nil {
		return err
	}
	_, err = s.client.core.CoreV1().Pods(p.namespace).Patch(ctx, p.name, types.MergePatchType, body, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it went by itself
	}
	return err
}

// seen says whether all these pods are marked, or gone, in our watch.
func (s *Scaler) seen(o *opted, uids []string) bool {
	for _, p := range s.cluster.podsFor(o) {
		if slices.Contains(uids, p.uid) && p.cost != victimCost && !p.terminating {
			return false
		}
	}
	return true
}

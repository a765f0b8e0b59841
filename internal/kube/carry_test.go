package kube

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	k8stesting "k8s.io/client-go/testing"
)

// versioned makes the server count versions of slices, and refuse to change or delete one that is not as the writer knows it.
func (r *live) versioned() (conflicts *int) {
	conflicts = new(int)
	version := 10
	stored := func(name string) string {
		o, err := r.server.Tracker().Get(slicesResource, "default", name)
		if err != nil {
			return ""
		}
		return o.(*discoveryv1.EndpointSlice).ResourceVersion
	}
	conflict := func(name string) (bool, runtime.Object, error) {
		*conflicts++
		return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "endpointslices"}, name, nil)
	}
	r.server.PrependReactor("*", "endpointslices", func(a k8stesting.Action) (bool, runtime.Object, error) {
		version++
		switch a := a.(type) {
		case k8stesting.CreateAction: // an UpdateAction has the same methods
			s := a.GetObject().(*discoveryv1.EndpointSlice)
			if now := stored(s.Name); a.GetVerb() == "update" && now != "" && s.ResourceVersion != now {
				return conflict(s.Name)
			}
			if n, err := strconv.Atoi(stored(s.Name)); err == nil {
				version = max(version, n+1)
			}
			s.ResourceVersion = strconv.Itoa(version)
		case k8stesting.DeleteActionImpl:
			p, now := a.GetDeleteOptions().Preconditions, stored(a.GetName())
			if p != nil && p.ResourceVersion != nil && now != "" && *p.ResourceVersion != now {
				return conflict(a.GetName())
			}
		}
		return false, nil, nil
	})
	return conflicts
}

// changedTo is a change of a slice on the server that no watch tells of.
func (r *live) changedTo(s *discoveryv1.EndpointSlice) {
	r.t.Helper()
	if err := r.server.Tracker().Update(slicesResource, s, s.Namespace); err != nil {
		r.t.Fatal(err)
	}
}

// behind is a workload whose Service leads to one activator by one slice, or to its pod.
func (r *live) behind(serve bool) (setMode func(serve bool)) {
	r.named("hello", "u1")
	r.service(helloService(nil))
	r.pod(podObject("a", counted))
	r.settle(seconds)
	rev := r.mirror.get(key{"default", "hello"}).rev
	setMode = func(serve bool) {
		r.t.Helper()
		if err := r.publisher.SetMode(r.t.Context(), rev, serve, 2); err != nil {
			r.t.Error(err)
		}
	}
	setMode(serve)
	return setMode
}

// TestAChangeOfBeforeOurDeletion comes late: the slice is not there, and a switch back makes it before it deletes the other.
func TestAChangeOfBeforeOurDeletion(t *testing.T) {
	for name, late := range map[string]func(*live, discoveryv1.EndpointSlice){
		"an event": func(r *live, s discoveryv1.EndpointSlice) { _ = r.slices.Update(&s) },
		"a list":   func(r *live, s discoveryv1.EndpointSlice) { _ = r.slices.Replace([]any{&s}, s.ResourceVersion) },
	} {
		t.Run(name, func(t *testing.T) {
			inLife(t, func(r *live) {
				r.versioned()
				setMode := r.behind(false)
				old := r.listed()[0]
				setMode(true)
				r.expect("to its pod", "hello", "pods 10.88.0.2")
				late(r, old)
				setMode(false)
				r.expect("back", "hello", atActivators)
			})
		})
	}
}

// TestASliceThatIsAnotherThanIsKnown, as after a backup was put back, is looked at when the server refuses a write.
func TestASliceThatIsAnotherThanIsKnown(t *testing.T) {
	older := func(r *live, s discoveryv1.EndpointSlice) {
		s.ResourceVersion = "5"
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"10.88.9.99"}}}
		r.changedTo(&s)
	}
	for _, tc := range []struct {
		name      string
		happen    func(*live, discoveryv1.EndpointSlice)
		conflicts int
	}{
		{"older", older, 1},
		{"newer", func(r *live, s discoveryv1.EndpointSlice) { s.ResourceVersion = "1000"; r.changedTo(&s) }, 1},
		{"gone", func(r *live, s discoveryv1.EndpointSlice) {
			if err := r.server.Tracker().Delete(slicesResource, "default", s.Name); err != nil {
				r.t.Fatal(err)
			}
		}, 0},
		{"without its labels", func(r *live, s discoveryv1.EndpointSlice) {
			s.ResourceVersion, s.Labels = "1000", nil
			r.changedTo(&s)
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inLife(t, func(r *live) {
				conflicts := r.versioned()
				r.behind(false)
				tc.happen(r, r.listed()[0])
				two := activatorAt(2)
				two.Port = r.activators[0].Port
				r.activators = append(r.activators, two)
				r.publisher.all()
				<-time.After(10 * seconds) // no watch tells of anything
				synctest.Wait()
				r.expect("with a second activator", "hello", atActivators+", activators 10.88.9.2")
				if *conflicts > tc.conflicts {
					r.t.Errorf("%d conflicts, want %d: then it is known what there is", *conflicts, tc.conflicts)
				}
			})
		})
	}
}

// TestASliceOfOurNameWithoutOurLabels becomes ours: nobody else makes such names.
func TestASliceOfOurNameWithoutOurLabels(t *testing.T) {
	for name, labels := range map[string]map[string]string{
		"none":         nil,
		"the Service":  {discoveryv1.LabelServiceName: "hello"},
		"another's":    {discoveryv1.LabelServiceName: "hello", discoveryv1.LabelManagedBy: "someone"},
		"ours, hidden": {discoveryv1.LabelServiceName: "hello", discoveryv1.LabelManagedBy: managedBy, backendLabel: "pods"},
	} {
		t.Run(name, func(t *testing.T) {
			inLife(t, func(r *live) {
				r.versioned()
				setMode := r.behind(false)
				planned := r.listed()[0]
				setMode(true)
				planned.Labels, planned.ResourceVersion = labels, ""
				if _, err := r.server.DiscoveryV1().EndpointSlices("default").Create(r.t.Context(), &planned, metav1.CreateOptions{}); err != nil {
					r.t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(r.t.Context(), 10*seconds)
				defer cancel()
				_ = r.publisher.SetMode(ctx, r.mirror.get(key{"default", "hello"}).rev, false, 2)
				r.settle(seconds)
				r.expect("to activators", "hello", atActivators)
			})
		})
	}
}

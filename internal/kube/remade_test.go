package kube

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/workload"
)

// told is what activators were told to forget, and whose ports to close.
func (r *live) told() (removed, muted []identity.Revision) {
	r.note(func() { removed, muted = slices.Clone(r.removed), slices.Clone(r.muted) })
	return removed, muted
}

// collect is the garbage collector: it deletes the slices whose Service has another UID.
func (r *live) collect(uid string) {
	r.t.Helper()
	for _, s := range r.listed() {
		if string(s.OwnerReferences[0].UID) != uid {
			if err := r.server.DiscoveryV1().EndpointSlices("default").Delete(r.t.Context(), s.Name, metav1.DeleteOptions{}); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// TestAServiceThatWasMadeAnew, as by kubectl replace --force, keeps its slices, and activators what is parked for it.
func TestAServiceThatWasMadeAnew(t *testing.T) {
	anew := func(s *corev1.Service) { s.UID = "s2" }
	gone := func(r *live) { r.services.put(key{"default", "hello"}, nil) }
	for _, tc := range []struct {
		name   string
		happen func(*live)
	}{
		{"seen as one change", func(*live) {}},
		{"at once", gone},
		{"a moment later", func(r *live) { gone(r); r.settle(100 * time.Millisecond) }},
		{"later than its ports are kept open", func(r *live) { gone(r); r.settle(listenOn + seconds) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inLife(t, func(r *live) {
				r.named("hello", "u1")
				r.service(helloService(nil))
				r.settle(seconds)
				r.expect("before", "hello", atActivators)
				tc.happen(r)
				r.service(helloService(anew))
				r.settle(seconds)
				r.collect("s2")
				r.expect("when the garbage of the former Service is collected", "hello", atActivators)
				if removed, _ := r.told(); len(removed) > 0 {
					t.Errorf("activators were told to forget %v", removed)
				}
				if now := r.mirror.get(key{"default", "hello"}); now == nil || now.leaving || now.service.UID != "s2" {
					t.Errorf("now %+v, want it in control", now)
				}
				r.server.ClearActions()
				r.publisher.all()
				r.settle(seconds)
				for _, a := range r.server.Actions() {
					if a.GetVerb() != "list" {
						t.Errorf("the slices are written again: %s", a.GetVerb())
					}
				}
			})
		})
	}
}

// TestAServiceThatIsGoneForGood: nothing is published for it, and activators forget its workload after all.
func TestAServiceThatIsGoneForGood(t *testing.T) {
	for name, annotated := range map[string]bool{"annotated": true, "opted out": false} {
		t.Run(name, func(t *testing.T) {
			inLife(t, func(r *live) {
				r.named("hello", "u1")
				r.service(helloService(nil))
				r.pod(podObject("a", nil))
				r.settle(seconds)
				r.services.put(key{"default", "hello"}, nil)
				r.collect("")
				if !annotated {
					o := *r.deployments.get(key{"default", "hello"})
					o.Annotations = nil
					r.deployments.put(key{"default", "hello"}, &o)
				}
				r.settle(seconds)
				r.expect("a moment later", "hello", "")
				if removed, _ := r.told(); len(removed) > 0 {
					t.Error("activators were told to forget it while clients may hold connections")
				}
				r.settle(listenOn)
				if _, muted := r.told(); len(muted) != 1 {
					t.Errorf("told to close its ports %d times, want once", len(muted))
				}
				r.settle(lingerOn)
				r.settle(seconds)
				r.expect("in the end", "hello", "")
				if removed, _ := r.told(); len(removed) != 1 || r.mirror.get(key{"default", "hello"}) != nil {
					t.Errorf("in the end: removed %v, still %+v", removed, r.mirror.get(key{"default", "hello"}))
				}
				r.mirror.reporter.mu.Lock()
				defer r.mirror.reporter.mu.Unlock()
				for _, said := range r.mirror.reporter.said[key{"default", "hello"}] {
					for _, c := range said[fromLook] {
						if c.reason == string(workload.LeftControl) {
							t.Errorf("said %s of a Service that is gone", c.text)
						}
					}
				}
			})
		})
	}
}

package kube

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

// failures makes a server answer requests about a kind of object with errors: the n-th answer of a list, the last one
// again and again; nil is a good answer.
type failures struct {
	mu   sync.Mutex
	left map[string][]error // guarded by mu
}

func (f *failures) next(a k8stesting.Action) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	answers := f.left[a.GetResource().Resource]
	if len(answers) == 0 {
		return nil
	}
	if len(answers) > 1 {
		f.left[a.GetResource().Resource] = answers[1:]
	}
	return answers[0]
}

// listsFirst refuses watches that are to begin with what is there, which fake servers can't do.
func listsFirst(a k8stesting.Action) (bool, watch.Interface, error) {
	w, ok := a.(k8stesting.WatchActionImpl)
	if ok && w.ListOptions.SendInitialEvents != nil {
		return true, nil, apierrors.NewBadRequest("no initial events")
	}
	return false, nil, nil
}

// TestOptionalKindsAreWaitedFor: control begins without a kind of object only when the server says that there is none, or
// that it is none of our business; not when it fails for a moment.
func TestOptionalKindsAreWaitedFor(t *testing.T) {
	kind := schema.GroupResource{Group: "apps", Resource: "statefulsets"}
	forbidden := apierrors.NewForbidden(kind, "", errors.New("no"))
	for name, tc := range map[string]struct {
		answers []error
		read    bool // it begins
		known   bool // with the StatefulSet
	}{
		"all is well":            {nil, true, true},
		"cut off once":           {[]error{io.ErrUnexpectedEOF, nil}, true, true},
		"overloaded for a while": {[]error{apierrors.NewInternalError(io.EOF), apierrors.NewServiceUnavailable("x"), apierrors.NewTimeoutError("x", 1), context.DeadlineExceeded, nil}, true, true},
		"always broken":          {[]error{apierrors.NewInternalError(io.EOF)}, false, false},
		"refused once":           {[]error{forbidden, nil}, true, true},
		"refused now and then":   {[]error{forbidden, io.EOF, forbidden, nil}, true, true},
		"refused":                {[]error{forbidden}, true, false},
		"no such kind":           {[]error{apierrors.NewNotFound(kind, "")}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"}}
				set.Annotations = map[string]string{class: "kpa.autoscaling.knative.dev"}
				server, f := fake.NewClientset(set), &failures{left: map[string][]error{"statefulsets": tc.answers}}
				fail := func(a k8stesting.Action) (bool, runtime.Object, error) {
					err := f.next(a)
					return err != nil, nil, err
				}
				server.PrependReactor("list", "statefulsets", fail)
				server.PrependWatchReactor("*", listsFirst)
				scaled := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
					map[schema.GroupVersionResource]string{{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}: "ScaledObjectList"})
				scaled.PrependWatchReactor("*", listsFirst)
				client := &Client{core: server, dynamic: scaled}
				c := NewCluster(ClusterConfig{Namespace: "ns", Log: slog.New(slog.DiscardHandler)}, client)
				c.addWatches()
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- c.Run(ctx) }()
				soon, enough := context.WithTimeout(ctx, time.Minute)
				read := c.AwaitSync(soon)
				enough()
				if known := c.sets.len() > 0; read != tc.read || known != tc.known {
					t.Errorf("it begins: %t, with the StatefulSet: %t; want %t, %t", read, known, tc.read, tc.known)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestRefusalsCountOnceTheRestIsRead: a server that has just started refuses everything.
func TestRefusalsCountOnceTheRestIsRead(t *testing.T) {
	read := false
	sets := &watching{what: "statefulsets", optional: true, synced: func() bool { return false }}
	c := NewCluster(ClusterConfig{}, nil)
	c.watches = []*watching{{what: "pods", synced: func() bool { return read }}, sets}
	refused := apierrors.NewForbidden(schema.GroupResource{Resource: "statefulsets"}, "", errors.New("not yet"))
	for range 5 {
		c.health(t.Context(), sets, refused)
	}
	read = true
	c.health(t.Context(), sets, refused)
	if c.Synced() {
		t.Error("refusals of before the pods were read count")
	}
	c.health(t.Context(), sets, refused)
	if !c.Synced() {
		t.Error("two refusals in a row are not believed")
	}
}

// TestControlBeginsWithoutBrokenObjectsOfOthers: a CustomResourceDefinition that cannot be read keeps nobody else from being scaled, while the
// same failure of Kubernetes' own kinds is waited for.
func TestControlBeginsWithoutBrokenObjectsOfOthers(t *testing.T) {
	failed := apierrors.NewInternalError(errors.New("conversion webhook for keda.sh/v1alpha1 failed"))
	for what, foreign := range map[string]bool{"scaledobjects": true, "statefulsets": false} {
		w := &watching{what: what, optional: true, foreign: foreign, synced: func() bool { return false }}
		c := NewCluster(ClusterConfig{}, nil)
		c.watches = []*watching{{what: "pods", synced: func() bool { return true }}, w}
		for range failuresToGoOn - 1 {
			c.health(t.Context(), w, failed)
		}
		if c.Synced() {
			t.Errorf("%s: control begins after a moment", what)
		}
		c.health(t.Context(), w, failed)
		if c.Synced() != foreign {
			t.Errorf("%s: control begins: %t, want %t", what, c.Synced(), foreign)
		}
	}
	c := NewCluster(ClusterConfig{}, &Client{core: fake.NewClientset(), dynamic: dynamicfake.NewSimpleDynamicClient(runtime.NewScheme())})
	c.addWatches()
	for _, w := range c.watches {
		if w.foreign != (w.what == "scaledobjects") {
			t.Errorf("%s are of another program: %t", w.what, w.foreign)
		}
	}
}

// TestZoneOfANode: the workloads with a pod on a node are looked at again when its zone becomes another, and at nothing else.
func TestZoneOfANode(t *testing.T) {
	r := newRig(t)
	var looked []key
	r.onWorkload = func(k key) { looked = append(looked, k) }
	node := func(name, zone string) {
		r.nodes.put(key{"", name}, nodeOf(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}))
	}
	r.pod(podObject("a", nil))
	r.pod(podObject("b", nil))
	r.pod(podObject("c", func(p *corev1.Pod) {
		p.Spec.NodeName, p.OwnerReferences[0].Name = "node2", "other-74f9"
	}))
	for _, tc := range []struct {
		what string
		do   func()
		want []key
	}{
		{"a zone becomes known", func() { node("node1", "west") }, []key{{"default", "hello"}}},
		{"a heartbeat", func() { node("node1", "west") }, nil},
		{"another zone", func() { node("node1", "east") }, []key{{"default", "hello"}}},
		{"the other node", func() { node("node2", "east") }, []key{{"default", "other"}}},
		{"a node without pods", func() { node("node3", "east") }, nil},
		{"a node goes", func() { r.nodes.put(key{"", "node2"}, nil) }, nil},
		{"its pods are gone", func() {
			r.pods.put(key{"default", "c"}, nil)
			looked = nil
			node("node2", "west")
		}, nil},
	} {
		looked = nil
		tc.do()
		if !slices.Equal(looked, tc.want) {
			t.Errorf("%s: looked at %v, want %v", tc.what, looked, tc.want)
		}
	}
	r.pods.put(key{"default", "a"}, nil)
	r.pods.put(key{"default", "b"}, nil)
	if len(r.podsOn) != 0 {
		t.Errorf("pods that went are still on %v", r.podsOn)
	}
}

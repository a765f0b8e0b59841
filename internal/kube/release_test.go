package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/rousehq/rouse/internal/workload"
)

// following is a cluster in which Kubernetes and control do at once what a change of a Service asks of them: control
// keeps a pod while it is being released and removes its slices when it was, Kubernetes publishes the pods of a selector.
type following struct {
	*fake.Clientset
	t       *testing.T
	patches int
	lost    int  // the number of the patch whose answer is lost
	stopped bool // control is down
}

var slicesResource = discoveryv1.SchemeGroupVersion.WithResource("endpointslices")

func newFollowing(t *testing.T, objects ...runtime.Object) *following {
	f := &following{Clientset: fake.NewClientset(objects...), t: t}
	apply := k8stesting.ObjectReaction(f.Tracker())
	f.PrependReactor("patch", "services", func(a k8stesting.Action) (bool, runtime.Object, error) {
		_, obj, err := apply(a)
		if err != nil {
			return true, nil, err
		}
		f.follow(obj.(*corev1.Service))
		if f.patches++; f.patches == f.lost {
			return true, nil, errors.New("the answer was lost")
		}
		return true, obj, nil
	})
	return f
}

func (f *following) follow(s *corev1.Service) {
	f.t.Helper()
	kept, asked := s.Annotations[workload.AdoptedSelector] != "", s.Annotations[workload.Releasing] != ""
	if asked && kept {
		f.create(podObject("a", func(p *corev1.Pod) { p.Labels["app"] = "hello" }))
	}
	if len(s.Spec.Selector) == 0 {
		return
	}
	f.create(sliceNamed("theirs", s.Name, "endpointslice-controller.k8s.io"))
	if _, err := f.Tracker().Get(slicesResource, "default", "ours"); kept && err != nil {
		f.t.Errorf("control's slices are gone before the release was over: %v", err)
	}
	if !kept && asked {
		f.t.Errorf("%v is left of the release", s.Annotations)
	}
	if !kept && !f.stopped {
		f.retire()
	}
}

func (f *following) create(obj runtime.Object) {
	if err := f.Tracker().Add(obj); err != nil && !apierrors.IsAlreadyExists(err) {
		f.t.Error(err)
	}
}

func (f *following) retire() {
	if err := f.Tracker().Delete(slicesResource, "default", "ours"); err != nil {
		f.t.Error(err)
	}
}

func (f *following) release(said *[]string) error {
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	return (&Client{core: f.Clientset}).Release(ctx, "default", "hello", func(text string) { *said = append(*said, text) })
}

func (f *following) hello() *corev1.Service {
	f.t.Helper()
	s, err := f.CoreV1().Services("default").Get(f.t.Context(), "hello", metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func sliceNamed(name, service, writer string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: writer}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.88.0.2"}}},
	}
}

func helloWith(annotations map[string]string) *corev1.Service {
	return helloService(func(s *corev1.Service) { s.Annotations = annotations })
}

// workloadObject is a Deployment or StatefulSet with an own selector; class is that of its annotation.
func workloadObject(kind workload.Kind, name, class string, selector metav1.LabelSelector) runtime.Object {
	m := metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: map[string]string{classKey: class}}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "hello", "tier": "web"}}}
	if kind == workload.StatefulSet {
		return &appsv1.StatefulSet{ObjectMeta: m, Spec: appsv1.StatefulSetSpec{Selector: &selector, Template: template}}
	}
	return &appsv1.Deployment{ObjectMeta: m, Spec: appsv1.DeploymentSpec{Selector: &selector, Template: template}}
}

const (
	ourClass     = "kpa.autoscaling.knative.dev"
	foreignClass = "other.example.com"
)

func byLabels(labels map[string]string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: labels}
}

// released is a Service that control fills, and what comes of it.
type released struct {
	name        string
	objects     []runtime.Object
	annotations map[string]string // that stay
	says        string
}

func releases() []released {
	app, other := byLabels(map[string]string{"app": "hello"}), byLabels(map[string]string{"app": "other"})
	names := map[string]string{workload.ServiceFor: "shop"}
	adopted := map[string]string{workload.AdoptedSelector: `{"app":"hello"}`, workload.ServiceFor: "shop"}
	return []released{
		{"adopted", []runtime.Object{helloWith(adopted)}, nil, "control keeps a pod"},
		{"never had a selector", []runtime.Object{helloWith(nil), workloadObject(workload.Deployment, "hello", ourClass, app)}, nil,
			`Service hello never had a selector: it gets that of Deployment hello, {"app":"hello"}`},
		{"never had one, and names its workload", []runtime.Object{
			helloWith(names), workloadObject(workload.StatefulSet, "shop", ourClass, app), workloadObject(workload.Deployment, "hello", ourClass, other),
		}, names, "it gets that of StatefulSet shop"},
		{"never had one, and one of two is opted in", []runtime.Object{
			helloWith(nil), workloadObject(workload.Deployment, "hello", foreignClass, other), workloadObject(workload.StatefulSet, "hello", ourClass, app),
		}, nil, "it gets that of StatefulSet hello"},
	}
}

// TestRelease: the selector comes while control's slices and a pod are there, and nothing of ours is left.
func TestRelease(t *testing.T) {
	for _, tc := range releases() {
		for lost := range 4 { // the answer to one of three changes, and none
			t.Run(fmt.Sprintf("%s, %d", tc.name, lost), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFollowing(t, append(tc.objects, sliceNamed("ours", "hello", managedBy))...)
					f.lost = lost
					var said []string
					err := f.release(&said)
					if (err != nil) != (lost > 0) {
						t.Errorf("Release = %v, after a lost answer it fails: %t", err, lost > 0)
					}
					if err != nil && f.patches < 3 {
						if again := f.release(&said); again != nil {
							t.Errorf("the second Release = %v", again)
						}
					}
					s := f.hello()
					if !maps.Equal(s.Spec.Selector, map[string]string{"app": "hello"}) || !maps.Equal(s.Annotations, tc.annotations) {
						t.Errorf("selector %v, annotations %v, want app=hello, %v", s.Spec.Selector, s.Annotations, tc.annotations)
					}
					if !strings.Contains(strings.Join(said, "\n"), tc.says) {
						t.Errorf("said %q, want %s", said, tc.says)
					}
				})
			})
		}
	}
}

// TestReleaseGoesOn: of a release that ended when control alone was missing the last step is left.
func TestReleaseGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFollowing(t, helloWith(nil), workloadObject(workload.Deployment, "hello", ourClass, byLabels(map[string]string{"app": "hello"})),
			sliceNamed("ours", "hello", managedBy))
		f.stopped = true
		var said []string
		if err := f.release(&said); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "control has not removed its endpoints of Service hello") {
			t.Errorf("Release without control = %v", err)
		}
		if found, err := (&Client{core: f.Clientset}).Carried(t.Context()); err != nil || len(found) != 1 {
			t.Errorf("Carried = %v, %v; want the Service whose release is not over", found, err)
		}
		time.AfterFunc(10*time.Second, f.retire)
		began, patches := time.Now(), f.patches
		if err := f.release(&said); err != nil || time.Since(began) < 10*time.Second || f.patches > patches {
			t.Errorf("Release = %v after %v and %d changes, want it to wait for control alone", err, time.Since(began), f.patches-patches)
		}
	})
}

func TestReleaseRefuses(t *testing.T) {
	app := byLabels(map[string]string{"app": "hello"})
	in := func(kind metav1.LabelSelectorOperator) metav1.LabelSelector {
		return metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: kind}}, MatchLabels: app.MatchLabels}
	}
	ours := sliceNamed("ours", "hello", managedBy)
	for _, tc := range []struct {
		name    string
		objects []runtime.Object
		says    []string
	}{
		{"expressions", []runtime.Object{helloWith(nil), ours, workloadObject(workload.Deployment, "hello", ourClass, in(metav1.LabelSelectorOpExists))}, []string{
			"service hello: Deployment hello", "spec.selector.matchExpressions", "rouse release hello -n default",
			`kubectl -n default annotate --overwrite service hello 'rouse.dev/adopted-selector={"app":"hello","tier":"web"}'`,
		}},
		{"no workload", []runtime.Object{helloWith(nil), ours}, []string{
			"service hello: there is no Deployment or StatefulSet hello, which it belongs to by its own name",
			"kubectl -n default annotate --overwrite service hello rouse.dev/workload=NAME",
			"kubectl -n default delete endpointslice -l kubernetes.io/service-name=hello,endpointslice.kubernetes.io/managed-by=control.rouse.dev",
		}},
		{"no workload of the name in its annotation", []runtime.Object{helloWith(map[string]string{workload.ServiceFor: "shop"}), ours}, []string{
			"no Deployment or StatefulSet shop, which metadata.annotations[rouse.dev/workload] names",
		}},
		{"not opted in", []runtime.Object{helloWith(nil), ours, workloadObject(workload.StatefulSet, "hello", foreignClass, app)}, []string{
			"service hello: StatefulSet hello is not opted in (metadata.annotations[autoscaling.knative.dev/class])",
			"kubectl -n default annotate --overwrite statefulset hello autoscaling.knative.dev/class=kpa.autoscaling.knative.dev",
			`kubectl -n default patch service hello -p '{"spec":{"selector":{"app":"hello"}}}'`,
		}},
		{"nothing of ours", []runtime.Object{helloWith(nil), sliceNamed("theirs", "hello", "somebody"), workloadObject(workload.Deployment, "hello", ourClass, app)}, []string{
			"service hello was not adopted", "rouse.dev/adopted-selector", "rouse check -n default",
		}},
		{"nothing of ours, and a selector", []runtime.Object{helloService(func(s *corev1.Service) { s.Spec.Selector = app.MatchLabels })}, []string{
			"service hello was not adopted: Kubernetes fills its endpoints by its selector already",
		}},
		{"a kept selector that is none", []runtime.Object{helloWith(map[string]string{workload.AdoptedSelector: "app=hello"}), ours}, []string{
			"service hello: metadata.annotations[rouse.dev/adopted-selector]", "kubectl -n default annotate --overwrite service hello",
		}},
	} {
		f := newFollowing(t, tc.objects...)
		err := f.release(&[]string{})
		if err == nil || f.patches > 0 {
			t.Errorf("%s: Release = %v after %d changes, want an error and none", tc.name, err, f.patches)
			continue
		}
		for _, text := range tc.says {
			if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "%!") {
				t.Errorf("%s: Release = %v\nwant %s", tc.name, err, text)
			}
		}
	}
}

// TestCarried: slices of ours come in pages, several of one Service, and Services without one and with one.
func TestCarried(t *testing.T) {
	named := func(name string, change func(*corev1.Service)) *corev1.Service {
		return helloService(func(s *corev1.Service) {
			if s.Name = name; change != nil {
				change(s)
			}
		})
	}
	adopted := func(s *corev1.Service) { s.Annotations = map[string]string{workload.AdoptedSelector: `{"app":"x"}`} }
	client := fake.NewClientset(
		named("adopted", adopted), named("adopted-without-slices", adopted), named("filled", nil), named("late", nil), named("foreign", nil),
		named("plain", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "x"} }),
		named("elsewhere", func(s *corev1.Service) { s.Namespace = "shop" }), named("filled-elsewhere", func(s *corev1.Service) { s.Namespace = "shop" }),
	)
	ours := func(names ...string) *discoveryv1.EndpointSliceList {
		list := &discoveryv1.EndpointSliceList{}
		for _, name := range names {
			list.Items = append(list.Items, *sliceNamed(name, name, managedBy))
		}
		return list
	}
	client.PrependReactor("list", "endpointslices", func(a k8stesting.Action) (bool, runtime.Object, error) {
		o := a.(k8stesting.ListActionImpl).ListOptions
		if a.GetNamespace() != metav1.NamespaceAll || o.LabelSelector != "endpointslice.kubernetes.io/managed-by=control.rouse.dev" || o.Limit != listPage {
			t.Errorf("slices are asked for in %q with %+v", a.GetNamespace(), o)
		}
		switch o.Continue {
		case "":
			first := ours("adopted", "filled", "filled", "gone")
			first.Continue = "more"
			return true, first, nil
		default:
			second := ours("late", "elsewhere")
			second.Items[1].Namespace = "shop"
			return true, second, nil
		}
	})
	found, err := (&Client{core: client}).Carried(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range found {
		got = append(got, k.String())
	}
	slices.Sort(got)
	want := []string{"default/adopted", "default/adopted-without-slices", "default/filled", "default/late", "shop/elsewhere"}
	if !slices.Equal(got, want) {
		t.Errorf("Carried = %v, want %v", got, want)
	}
}

// TestCarriedCannotAsk: what could not be read is not taken for nothing.
func TestCarriedCannotAsk(t *testing.T) {
	for _, kind := range []string{"services", "endpointslices"} {
		client := fake.NewClientset(helloService(nil))
		client.PrependReactor("list", kind, func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("refused") })
		if found, err := (&Client{core: client}).Carried(t.Context()); err == nil {
			t.Errorf("Carried = %v when %s can't be listed, want an error", found, kind)
		}
	}
}

// TestAdoptAfterRelease: what is left of a release that ended midway would keep a pod for ever.
func TestAdoptAfterRelease(t *testing.T) {
	app := map[string]string{"app": "hello"}
	client := fake.NewClientset(workloadObject(workload.Deployment, "hello", ourClass, byLabels(app)), sliceNamed("ours", "hello", managedBy), helloService(func(s *corev1.Service) {
		s.Spec.Selector, s.Annotations = app, map[string]string{workload.Releasing: releasingBare, workload.AdoptedSelector: `{"app":"hello"}`}
	}))
	if err := (&Client{core: client}).Adopt(t.Context(), "default", "hello", func(string) {}); err != nil {
		t.Fatal(err)
	}
	s, err := client.CoreV1().Services("default").Get(t.Context(), "hello", metav1.GetOptions{})
	if err != nil || s.Annotations[workload.Releasing] != "" || len(s.Spec.Selector) > 0 {
		t.Errorf("annotations %v, selector %v, %v; want no release asked for", s.Annotations, s.Spec.Selector, err)
	}
}

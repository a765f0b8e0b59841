package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

// rig is a mirror and a publisher over tables that a test fills; there is no API server.
type rig struct {
	*Cluster
	mirror     *Mirror
	publisher  *Publisher
	activators []Activator
	puts       []Routed
	lingers    []Routed
	left       []identity.Revision
	muted      []identity.Revision
	removed    []identity.Revision
	scraped    map[identity.Revision][]identity.Pod
	mu         sync.Mutex // held while what was told is noted: workloads are looked at by several goroutines
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{Cluster: NewCluster(ClusterConfig{Namespace: "rouse-system"}, nil), scraped: map[identity.Revision][]identity.Pod{}}
	log := slog.New(slog.DiscardHandler)
	ports := newPorts(nil, "rouse-system", "rouse-ports", portalloc.DefaultRange, log)
	ports.read(&configMap{data: map[string]string{"20001": "default/hello/http", "20002": "default/hello/metrics"}, version: "1"})
	r.mirror = &Mirror{cluster: r.Cluster, ports: ports, book: &endpoint.Book{}, sink: r, reporter: newReporter(nil, log),
		owns: func(identity.Revision) bool { return true }, touched: func(key) {}, log: log, queue: newQueue(), tracked: map[key]*tracked{}, since: map[key]map[workload.Reason]time.Time{}, former: map[key]key{},
		scrape: func(rev identity.Revision, pods []identity.Pod) { r.note(func() { r.scraped[rev] = pods }) }}
	r.publisher = &Publisher{cluster: r.Cluster, mirror: r.mirror, activators: func() []Activator { return r.activators }, began: time.Now().Add(-time.Hour), perSlice: 100}
	t.Cleanup(r.mirror.queue.close)
	return r
}

func (r *rig) Put(x Routed)                  { r.note(func() { r.puts = append(r.puts, x) }) }
func (r *rig) Linger(x Routed)               { r.note(func() { r.lingers = append(r.lingers, x) }) }
func (r *rig) Leave(id identity.Revision)    { r.note(func() { r.left = append(r.left, id) }) }
func (r *rig) Unlisten(id identity.Revision) { r.note(func() { r.muted = append(r.muted, id) }) }
func (r *rig) Remove(id identity.Revision)   { r.note(func() { r.removed = append(r.removed, id) }) }
func (r *rig) note(what func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what()
}

func (r *rig) hello() *tracked {
	r.mirror.sync(key{"default", "hello"})
	return r.mirror.get(key{"default", "hello"})
}
func (r *rig) pod(p *corev1.Pod)         { r.pods.put(key{p.Namespace, p.Name}, podOf(p)) }
func (r *rig) service(s *corev1.Service) { r.services.put(key{s.Namespace, s.Name}, serviceOf(s)) }
func (r *rig) deployment(replicas int) {
	o := &opted{}
	o.Kind, o.Namespace, o.Name, o.UID, o.Replicas = "Deployment", "default", "hello", "u1", replicas
	o.Annotations = map[string]string{class: "kpa.autoscaling.knative.dev"}
	o.PodLabels = map[string]string{"app": "hello"}
	r.deployments.put(key{"default", "hello"}, o)
}

func helloService(change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hello", UID: "s1"}, Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.9", ClusterIPs: []string{"10.96.0.9"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
	if change != nil {
		change(s)
	}
	return s
}

func activatorAt(i int, ports ...uint16) Activator {
	return Activator{Addr: netip.AddrFrom4([4]byte{10, 88, 9, byte(i)}), Connected: true,
		Port: func(p uint16) (bool, string) { return slices.Contains(ports, p), "" }}
}

func addressesOf(groups []sliceplan.Group) (all []string) {
	for _, g := range groups {
		for _, e := range g.Endpoints {
			all = append(all, fmt.Sprintf("%s %s:%d", g.Backend, e.Addr, g.Ports[0].Number))
		}
	}
	slices.Sort(all)
	return all
}

func TestWant(t *testing.T) {
	withAddr := func(ip string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.PodIPs[0].IP = ip } }
	unready := func(p *corev1.Pod) { p.Status.Conditions = nil }
	for _, tc := range []struct {
		name  string
		serve bool
		fill  func(*rig)
		want  []string
	}{
		{"serve", true, func(r *rig) { r.pod(podObject("a", counted)) }, []string{"pods 10.88.0.2:9012"}},
		{"serve, a pod that nobody counts at", true, func(r *rig) {
			r.pod(podObject("a", counted))
			r.pod(podObject("b", withAddr("10.88.0.3")))
		}, []string{"activators 10.88.9.1:20001"}},
		{"serve, a pod that nobody counts at, without activators", true, func(r *rig) { r.activators = nil; r.pod(podObject("a", nil)) }, []string{"pods 10.88.0.2:8080"}},
		{"serve, a pod that nobody counts at and that is not ready", true, func(r *rig) {
			r.pod(podObject("a", counted))
			r.pod(podObject("b", func(p *corev1.Pod) { withAddr("10.88.0.3")(p); unready(p) }))
		}, []string{"pods 10.88.0.2:9012"}},
		{"serve without a ready pod", true, func(r *rig) { r.pod(podObject("a", unready)) }, []string{"activators 10.88.9.1:20001"}},
		{"serve with a pod that goes", true, func(r *rig) {
			r.pod(podObject("a", counted))
			r.pod(podObject("b", func(p *corev1.Pod) { withAddr("10.88.0.3")(p); p.DeletionTimestamp = ptr(metav1.Now()) }))
		}, []string{"pods 10.88.0.2:9012"}},
		{"proxy", false, func(r *rig) { r.pod(podObject("a", nil)) }, []string{"activators 10.88.9.1:20001"}},
		{"proxy, one that has not opened the port", false, func(r *rig) { r.activators = append(r.activators, activatorAt(2)) }, []string{"activators 10.88.9.1:20001"}},
		{"proxy, one that is not connected", false, func(r *rig) {
			gone := activatorAt(2, 20001)
			gone.Connected = false
			r.activators = append(r.activators, gone)
		}, []string{"activators 10.88.9.1:20001"}},
		{"proxy, one whose pod goes", false, func(r *rig) {
			r.activators = append(r.activators, activatorAt(2, 20001))
			r.pod(podObject("activator-2", func(p *corev1.Pod) {
				p.Namespace = "rouse-system"
				withAddr("10.88.9.2")(p)
				p.DeletionTimestamp = ptr(metav1.Now())
			}))
		}, []string{"activators 10.88.9.1:20001"}},
		{"proxy without activators", false, func(r *rig) { r.activators = nil; r.pod(podObject("a", nil)) }, []string{"pods 10.88.0.2:8080"}},
		{"nobody", false, func(r *rig) { r.activators = nil }, nil},
		{"the other family is left out", true, func(r *rig) {
			r.pod(podObject("a", func(p *corev1.Pod) {
				counted(p)
				p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::2"})
			}))
		}, []string{"pods 10.88.0.2:9012"}},
		{"ports by name differ between pods", false, func(r *rig) {
			r.activators = nil
			r.service(helloService(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }))
			r.pod(podObject("a", nil))
			r.pod(podObject("b", func(p *corev1.Pod) { withAddr("10.88.0.3")(p); p.Spec.Containers[0].Ports[0].ContainerPort = 9000 }))
			r.pod(podObject("c", func(p *corev1.Pod) { withAddr("10.88.0.4")(p); p.Spec.Containers[0].Ports = nil }))
		}, []string{"pods 10.88.0.2:8080", "pods 10.88.0.3:9000"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.deployment(1)
			r.service(helloService(nil))
			r.activators = []Activator{activatorAt(1, 20001)}
			tc.fill(r)
			got := addressesOf(r.publisher.want(r.hello(), mode{serve: tc.serve}, nil))
			if !slices.Equal(got, tc.want) {
				t.Errorf("behind the Service: %v, want %v", got, tc.want)
			}
		})
	}
}

// TestPublishedActivatorsSurviveARestart: control that has just started does not know yet who will connect.
func TestPublishedActivatorsSurviveARestart(t *testing.T) {
	r := newRig(t)
	r.deployment(0)
	r.service(helloService(nil))
	r.pod(podObject("activator-1", func(p *corev1.Pod) { p.Namespace = "rouse-system"; p.Status.PodIPs[0].IP = "10.88.9.1" }))
	ours := []*slice{{contents: sliceplan.Slice{Backend: sliceplan.Activators, Ports: []sliceplan.Port{{Name: "http", Number: 20001}},
		Endpoints: []sliceplan.Endpoint{{Addr: netip.MustParseAddr("10.88.9.1"), Serving: true}, {Addr: netip.MustParseAddr("10.88.9.7"), Serving: true}}}}}
	h := r.hello()
	r.publisher.began = time.Now()
	if got := addressesOf(r.publisher.want(h, mode{}, ours)); !slices.Equal(got, []string{"activators 10.88.9.1:20001"}) {
		t.Errorf("after a restart: %v, want the one whose pod is ready", got)
	}
	// In mode serve activators may be behind further ports alone, which the slices of before had among others.
	if known := published(ours, []sliceplan.Port{{Name: "http", Number: 20001}, {Name: "grpc", Number: 20002}}); len(known) != 0 {
		t.Errorf("behind a port that the slices have not: %v", known)
	}
	ours[0].contents.Ports = append(ours[0].contents.Ports, sliceplan.Port{Name: "grpc", Number: 20002})
	if known := published(ours, []sliceplan.Port{{Name: "grpc", Number: 20002}}); len(known) != 2 {
		t.Errorf("behind one of the ports of the slices: %v", known)
	}
	r.publisher.began = time.Now().Add(-settling)
	if got := r.publisher.want(h, mode{}, ours); len(got) != 0 {
		t.Errorf("later: %v, want none that has not connected", got)
	}
}

func TestMirrorFollowsAWorkload(t *testing.T) {
	r := newRig(t)
	r.deployment(2)
	r.service(helloService(nil))
	h := r.hello()
	if h == nil || len(r.puts) != 1 || !slices.Equal(r.puts[0].Ports, []uint16{20001}) || r.puts[0].Replicas != 2 {
		t.Fatalf("put %+v", r.puts)
	}
	states := func() (all []string) {
		for _, e := range r.mirror.book.Snapshot(h.rev).Endpoints {
			all = append(all, e.Pod.UID+" "+e.State.String()+map[bool]string{true: ", held"}[e.Held])
		}
		return all
	}
	expect := func(what string, want ...string) {
		t.Helper()
		r.hello()
		if got := states(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	withSidecar := func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{sidecarOf()} }
	r.pod(podObject("a", func(p *corev1.Pod) { withSidecar(p); p.Status.Conditions, p.Status.PodIPs = nil, nil }))
	expect("no address yet", "uid-a starting, held")
	r.pod(podObject("a", func(p *corev1.Pod) { withSidecar(p); p.Status.Conditions = nil }))
	expect("an address, not ready", "uid-a starting")
	r.pod(podObject("b", func(p *corev1.Pod) { p.Status.Conditions = nil }))
	expect("without a sidecar only kubelet knows", "uid-a starting", "uid-b starting, held")
	r.pod(podObject("a", withSidecar))
	r.pod(podObject("b", nil))
	expect("both ready", "uid-a ready", "uid-b ready")
	if got := r.scraped[h.rev]; len(got) != 1 || got[0].UID != "uid-a" || got[0].Addr.Port() != statsPort {
		t.Errorf("scraped %v, want the pod whose sidecar pushes nothing, on port %d", got, statsPort)
	}
	r.pod(podObject("a", func(p *corev1.Pod) { withSidecar(p); p.DeletionTimestamp = ptr(metav1.Now()) }))
	expect("told to stop", "uid-a draining", "uid-b ready")
	r.pods.put(key{"default", "a"}, nil)
	expect("gone", "uid-b ready")
	if len(r.puts) != 1 {
		t.Errorf("%d puts, want one: pods are no change of the workload", len(r.puts))
	}
	r.deployment(3)
	r.hello()
	if len(r.puts) != 2 || r.puts[1].Replicas != 3 {
		t.Errorf("after a scale by hand: %+v", r.puts)
	}
	r.deployments.put(key{"default", "hello"}, nil)
	r.hello()
	if len(r.removed) != 1 || r.mirror.get(key{"default", "hello"}) != nil {
		t.Errorf("removed %v", r.removed)
	}
}

func TestBadSettingsKeepTheLastGoodOnes(t *testing.T) {
	r := newRig(t)
	r.deployment(1)
	r.service(helloService(nil))
	good := r.hello()
	bad := *r.deployments.get(key{"default", "hello"})
	bad.Annotations = map[string]string{class: "kpa.autoscaling.knative.dev", "autoscaling.knative.dev/target": "no"}
	bad.Replicas = 5
	r.deployments.put(key{"default", "hello"}, &bad)
	now := r.hello()
	if now == nil || now.sent.Config != good.sent.Config || now.sent.Replicas != 5 {
		t.Fatalf("now %+v, want the settings of before with 5 replicas", now)
	}
	if said := r.mirror.reporter.said[subjectOf(now.object).key][subjectOf(now.object)][fromLook]; len(said) != 1 || said[0].reason != "InvalidSettings" {
		t.Errorf("said %v, want the fault", said)
	}
	r.service(helloService(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }))
	if now := r.hello(); !now.leaving || len(r.left) != 1 {
		t.Error("a workload whose Service became headless stays in control")
	}
}

// TestOneProblemIsSaidOnce: however often the workload is looked at, and only when the Service does not come a moment
// after the Deployment.
func TestOneProblemIsSaidOnce(t *testing.T) {
	r := newRig(t)
	out := r.mirror.reporter.out
	k := key{"default", "hello"}
	late := func() { r.mirror.since[k][workload.NoService] = time.Now().Add(-patience) }
	r.deployment(1)
	r.hello()
	if len(out) != 0 {
		t.Fatalf("%d Events at once, want none yet", len(out))
	}
	late()
	for range 5 {
		r.hello()
	}
	if len(out) != 1 {
		t.Fatalf("%d Events, want one", len(out))
	}
	first := <-out
	r.service(helloService(nil))
	r.hello()
	r.services.put(k, nil)
	r.hello()
	late()
	r.hello()
	if len(out) != 1 {
		t.Fatalf("%d Events after it came back, want one more", len(out))
	}
	if again := <-out; again.Name != first.Name || first.Reason != "NoService" || first.InvolvedObject.Name != "hello" {
		t.Errorf("Events %s and %s about %+v, want one name, so that the server keeps one", first.Name, again.Name, first.InvolvedObject)
	}
}

// TestASelectorThatIsBackIsSaid: once, and not of an adoption that is under way.
func TestASelectorThatIsBackIsSaid(t *testing.T) {
	type step struct {
		after    time.Duration
		selector bool
		mark     string // an annotation besides those of adoption
	}
	const s, ms = time.Second, time.Millisecond
	for _, tc := range []struct {
		name  string
		steps []step
		rest  time.Duration // that the last one lasts
		want  int           // Events
	}{
		{"adopted", []step{{}}, 10 * s, 0},
		{"back for a moment", []step{{selector: true}}, patience - ms, 0},
		{"back", []step{{selector: true}}, 10 * s, 1},
		{"an adoption", []step{{selector: true}, {after: 2 * s}}, 10 * s, 0},
		{"two adoptions", []step{{selector: true}, {after: 2 * s}, {after: s, selector: true}, {after: 2 * s}}, 10 * s, 0},
		{"a release", []step{{}, {after: s, mark: workload.Releasing}, {after: s, selector: true, mark: workload.Releasing}}, 10 * s, 0},
		{"gone, and back again", []step{{selector: true}, {after: 10 * s}, {after: s, selector: true}}, 10 * s, 2},
		{"seen often", []step{{selector: true}, {after: s, selector: true}, {after: 3 * s, selector: true}, {after: 3 * s, selector: true}}, 10 * s, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				r.mirror.run(ctx)
			}()
			r.Cluster.onWorkload = r.mirror.queue.Add
			r.deployment(1)
			for _, st := range tc.steps {
				time.Sleep(st.after)
				r.service(helloService(func(s *corev1.Service) {
					s.Annotations = map[string]string{workload.AdoptedSelector: `{"app":"hello"}`, workload.ServiceFor: "hello"}
					if st.mark != "" {
						s.Annotations[st.mark] = "true"
					}
					if st.selector {
						s.Spec.Selector = map[string]string{"app": "hello"}
					}
				}))
			}
			time.Sleep(tc.rest)
			cancel()
			<-ended
			now := r.mirror.get(key{"default", "hello"})
			if now == nil || now.leaving {
				t.Fatalf("%s: the workload is not scaled: %+v", tc.name, now)
			}
			if n := len(r.mirror.reporter.out); n != tc.want {
				t.Errorf("%s: %d Events, want %d", tc.name, n, tc.want)
			}
			for range tc.want {
				if e := <-r.mirror.reporter.out; e.Reason != "SelectorIsBack" || e.InvolvedObject.Name != "hello" || !strings.Contains(e.Message, "kubectl patch service hello -n default") {
					t.Errorf("%s: Event %s about %s: %s", tc.name, e.Reason, e.InvolvedObject.Name, e.Message)
				}
			}
			if said := len(r.mirror.reporter.said[subjectOf(now.object).key][subjectOf(now.object)]) == 1; said != (tc.want > 0) {
				t.Errorf("%s: it is said still: %t", tc.name, said)
			}
		})
	}
}

// TestEveryPortHasItsOwn: a further port goes past the queue-proxy, and is published with the first or not at all.
func TestEveryPortHasItsOwn(t *testing.T) {
	r := newRig(t)
	r.deployment(1)
	two := func(s *corev1.Service) {
		s.Spec.Ports = append([]corev1.ServicePort{{Name: "metrics", Port: 9090, TargetPort: intstr.FromInt32(9000)}}, s.Spec.Ports...)
	}
	r.service(helloService(two))
	r.pod(podObject("a", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{sidecarOf()} }))
	h := r.hello()
	want := Extra{ID: identity.Revision{Namespace: "default", Name: "hello:metrics", UID: "u1:metrics"}, Ports: []uint16{20002}}
	if !slices.Equal(h.sent.Ports, []uint16{20001}) || !reflect.DeepEqual(h.sent.Extra, []Extra{want}) {
		t.Fatalf("put ports %v and extra %+v, want 20001 and %+v", h.sent.Ports, h.sent.Extra, want)
	}
	if name, uid, port, ok := Whole(want.ID.Name, want.ID.UID); name != "hello" || uid != "u1" || port != "metrics" || !ok {
		t.Errorf("Whole = %s %s %s %t", name, uid, port, ok)
	}
	if _, _, _, ok := Whole("hello", "u1"); ok {
		t.Error("the workload's own name passes for a port's")
	}
	first, extra := r.mirror.book.Snapshot(h.rev).Endpoints, r.mirror.book.Snapshot(want.ID).Endpoints
	if len(first) != 1 || first[0].Pod.Addr.Port() != 9012 || !first[0].Sidecar || len(extra) != 1 || extra[0].Pod.Addr.Port() != 9000 || extra[0].Sidecar {
		t.Errorf("endpoints %+v and %+v", first, extra)
	}
	r.activators = []Activator{activatorAt(1, 20001), activatorAt(2, 20001, 20002)}
	groups := r.publisher.want(h, mode{}, nil)
	if len(groups) != 1 || len(groups[0].Endpoints) != 1 || groups[0].Endpoints[0].Addr != r.activators[1].Addr ||
		!slices.Equal(groups[0].Ports, []sliceplan.Port{{Name: "metrics", Number: 20002}, {Name: "http", Number: 20001}}) {
		t.Errorf("activators %+v, want the one that listens on both", groups)
	}
	groups = r.publisher.want(h, mode{serve: true}, nil)
	if len(groups) != 2 || groups[0].Backend != sliceplan.Pods || !slices.Equal(groups[0].Ports, []sliceplan.Port{{Name: "http", Number: 9012}}) ||
		groups[1].Backend != sliceplan.Activators || !slices.Equal(groups[1].Ports, []sliceplan.Port{{Name: "metrics", Number: 20002}}) {
		t.Errorf("in mode serve %+v, want pods behind the port that the queue-proxy counts alone", groups)
	}
	r.service(helloService(nil))
	r.hello()
	if last := r.puts[len(r.puts)-1]; len(last.Extra) != 0 {
		t.Errorf("the port went, and is still put: %+v", last.Extra)
	}
}

// TestOnlyCountedPortsLeadPastActivators: nobody else knows of what is in flight on a further port.
func TestOnlyCountedPortsLeadPastActivators(t *testing.T) {
	ports := func(uncounted string, more ...string) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Annotations = map[string]string{workload.UncountedPorts: uncounted}
			for i, name := range more {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: int32(81 + i), TargetPort: intstr.FromInt32(int32(9001 + i))})
			}
		}
	}
	for _, tc := range []struct {
		name    string
		service func(*corev1.Service)
		pod     func(*corev1.Pod)
		none    bool // no activator is there
		want    []string
	}{
		{"one port", ports(""), counted, false, []string{"pods http:9012"}},
		{"a further one", ports("", "grpc"), counted, false, []string{"pods http:9012", "activators grpc:20002"}},
		{"a further one without activators", ports("", "grpc"), counted, true, []string{"pods http:9012 grpc:9001"}},
		{"uncounted", ports("grpc", "grpc"), counted, false, []string{"pods http:9012 grpc:9001"}},
		{"uncounted, by a name that is none", ports("rpc", "grpc"), counted, false, []string{"pods http:9012", "activators grpc:20002"}},
		{"one of two uncounted", ports("metrics, x", "grpc", "metrics"), counted, false, []string{"pods http:9012 metrics:9002", "activators grpc:20002"}},
		{"nobody counts at the pod", ports("metrics", "grpc", "metrics"), nil, false, []string{"pods metrics:9002", "activators http:20001 grpc:20002"}},
	} {
		r := newRig(t)
		r.mirror.ports.read(&configMap{data: map[string]string{"20001": "default/hello/http", "20002": "default/hello/grpc", "20003": "default/hello/metrics"}, version: "2"})
		r.deployment(1)
		r.service(helloService(tc.service))
		r.pod(podObject("a", tc.pod))
		if !tc.none {
			r.activators = []Activator{activatorAt(1, 20001, 20002, 20003)}
		}
		var got []string
		for _, g := range r.publisher.want(r.hello(), mode{serve: true}, nil) {
			text := string(g.Backend)
			for _, p := range g.Ports {
				text += fmt.Sprintf(" %s:%d", p.Name, p.Number)
			}
			got = append(got, text)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestOptingOutKeepsThePods: the Service of a workload that is not opted in any more has no selector.
func TestOptingOutKeepsThePods(t *testing.T) {
	r := newRig(t)
	r.deployment(1)
	r.service(helloService(nil))
	r.pod(podObject("a", nil))
	h := r.hello()
	r.slices.put(key{"default", "hello-0"}, &slice{service: key{"default", "hello"}, name: "hello-0", writer: managedBy, version: "1"})
	out := *r.deployments.get(key{"default", "hello"})
	out.Annotations = nil
	r.deployments.put(key{"default", "hello"}, &out)
	left := r.hello()
	if left == nil || !left.leaving || !slices.Equal(r.left, []identity.Revision{h.rev}) || len(r.mirror.keys()) != 0 {
		t.Fatalf("left %+v, out of control %v", left, r.left)
	}
	if got := addressesOf(r.publisher.want(left, mode{}, nil)); !slices.Equal(got, []string{"pods 10.88.0.2:8080"}) {
		t.Errorf("behind the Service: %v, want its pods", got)
	}
	r.hello()
	if len(r.left) != 1 || len(r.removed) != 0 || len(r.mirror.reporter.out) != 1 {
		t.Errorf("left %d times, removed %d times, %d Events, want one, none, one", len(r.left), len(r.removed), len(r.mirror.reporter.out))
	}
	r.deployment(1)
	if back := r.hello(); back.leaving || len(r.puts) != 2 {
		t.Errorf("opted in again: %+v after %d puts", back, len(r.puts))
	}
}

// TestReleasedWorkloadLingersInActivators: clients hold connections to activators when the Service leads elsewhere.
func TestReleasedWorkloadLingersInActivators(t *testing.T) {
	r := newRig(t)
	r.deployment(1)
	r.service(helloService(nil))
	r.pod(podObject("a", nil))
	h := r.hello()
	r.service(helloService(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "hello"} }))
	now := r.hello()
	if now == nil || len(r.left) != 1 || len(r.removed)+len(r.muted) != 0 {
		t.Fatalf("released: %+v, left %v, removed %v", now, r.left, r.removed)
	}
	r.pod(podObject("b", nil))
	r.hello()
	if n := len(r.mirror.book.Snapshot(h.rev).Endpoints); n != 2 {
		t.Errorf("activators know %d pods, want both", n)
	}
	r.mirror.get(key{"default", "hello"}).left = time.Now().Add(-listenOn)
	r.hello()
	r.hello()
	if len(r.muted) != 1 || len(r.removed) != 0 {
		t.Errorf("later: told to close ports %d times, removed %d times, want once and never", len(r.muted), len(r.removed))
	}
	r.mirror.get(key{"default", "hello"}).left = time.Now().Add(-lingerOn)
	r.hello()
	r.hello()
	if len(r.removed) != 1 || r.mirror.get(key{"default", "hello"}) != nil || len(r.left) != 1 {
		t.Errorf("in the end: removed %d times, still %+v", len(r.removed), r.mirror.get(key{"default", "hello"}))
	}
}

// TestAnotherOwnersModeIsForgotten: who waits for it hears so at once, and when the workload is ours again its slices stay
// where they lead until somebody asks for something else.
func TestAnotherOwnersModeIsForgotten(t *testing.T) {
	for name, tc := range map[string]struct {
		lose func(*rig)
		want string
	}{
		"another owner":        {func(r *rig) { r.publisher.owns = func(identity.Revision) bool { return false } }, "another instance of control owns it"},
		"the workload is gone": {func(r *rig) { r.deployments.put(key{"default", "hello"}, nil); r.hello() }, ErrNotThere.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.deployment(1)
				r.service(helloService(nil))
				rev, k, p := r.hello().rev, key{"default", "hello"}, r.publisher
				p.queue, p.modes = newQueue(), map[key]*mode{}
				var asking sync.WaitGroup
				errs := make(chan error, 2)
				for _, serve := range []bool{true, false} {
					asking.Go(func() { errs <- p.SetMode(t.Context(), rev, serve, 2) })
				}
				synctest.Wait()
				tc.lose(r)
				if err := p.one(t.Context(), k); err != nil {
					t.Error(err)
				}
				asking.Wait()
				for range 2 {
					if err := <-errs; err == nil || !strings.Contains(err.Error(), tc.want) {
						t.Errorf("SetMode = %v, want %s", err, tc.want)
					}
				}
				for _, to := range []sliceplan.Backend{sliceplan.Pods, sliceplan.Activators} {
					if m := p.intent(k, rev, []*slice{{contents: sliceplan.Slice{Backend: to}}}); m.serve != (to == sliceplan.Pods) {
						t.Errorf("slices that lead to %s are to lead to pods: %t", to, m.serve)
					}
				}
			})
		})
	}
}

// TestATakeoverKeepsTheActivators: before its first decision an instance leaves as many behind a Service as there are.
func TestATakeoverKeepsTheActivators(t *testing.T) {
	for name, families := range map[string][]corev1.IPFamily{"one family": {corev1.IPv4Protocol}, "both": {corev1.IPv4Protocol, corev1.IPv6Protocol}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.deployment(5)
			r.service(helloService(func(s *corev1.Service) { s.Spec.IPFamilies = families }))
			for i := 1; i <= 8; i++ {
				r.activators = append(r.activators, activatorAt(i, 20001))
				r.pod(systemPod(fmt.Sprint("activator-", i), 0, func(p *corev1.Pod) {
					p.Status.PodIPs = []corev1.PodIP{{IP: r.activators[i-1].Addr.String()}}
					if i != 3 { // that one was there before the cluster became dual-stack
						p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: fmt.Sprint("fd00::", i)})
					}
				}))
			}
			h, p := r.hello(), r.publisher
			p.modes = map[key]*mode{}
			var ours []*slice
			for _, s := range sliceplan.Make("hello", p.want(h, mode{activators: 8}, nil), nil, 3).Create {
				ours = append(ours, &slice{name: s.Name, writer: managedBy, contents: s})
			}
			before := addressesOf(p.want(h, mode{activators: 8}, ours))
			if got := addressesOf(p.want(h, p.intent(key{"default", "hello"}, h.rev, ours), ours)); !slices.Equal(got, before) {
				t.Errorf("after a takeover: %v, want as before %v", got, before)
			}
		})
	}
}

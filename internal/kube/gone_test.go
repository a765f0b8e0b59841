package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/workload"
)

// live is a rig whose mirror and publisher run, and whose slices are on a server.
type live struct {
	*rig
	t      *testing.T
	server *fake.Clientset
}

// inLife runs a test in a bubble, with one activator that listens everywhere.
func inLife(t *testing.T, test func(*live)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &live{rig: newRig(t), t: t, server: fake.NewClientset()}
		all := activatorAt(1)
		all.Port = func(uint16) (bool, string) { return true, "" }
		r.activators = []Activator{all}
		p := r.publisher
		p.client, p.owns, p.fence, p.queue, p.log = &Client{core: r.server}, r.mirror.owns, func() error { return nil }, newQueue(), slog.New(slog.DiscardHandler)
		p.modes, p.gone, p.reporter = map[key]*mode{}, map[key]time.Time{}, r.mirror.reporter
		r.mirror.touched = p.queue.Add
		r.deployments.synced.Store(true)
		r.sets.synced.Store(true)
		r.Cluster.onWorkload = r.mirror.queue.Add
		r.Cluster.onService = func(k key) {
			if s := r.services.get(k); s != nil {
				r.mirror.queue.Add(key{k.namespace, s.target()})
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.mirror.run(ctx) })
		wg.Go(func() { p.run(ctx) })
		defer wg.Wait()
		defer cancel()
		test(r)
	})
}

// settle lets a time pass and everything be done, and then lets the watch of slices say what the server has.
func (r *live) settle(after time.Duration) {
	r.t.Helper()
	time.Sleep(after)
	synctest.Wait()
	there := map[key]bool{}
	for _, s := range r.listed() {
		there[key{s.Namespace, s.Name}] = true
		r.slices.put(key{s.Namespace, s.Name}, sliceOf(&s))
	}
	var gone []key
	r.slices.all(func(k key, _ *slice) {
		if !there[k] {
			gone = append(gone, k)
		}
	})
	for _, k := range gone {
		r.slices.put(k, nil)
	}
	synctest.Wait()
}

func (r *live) listed() []discoveryv1.EndpointSlice {
	r.t.Helper()
	list, err := r.server.DiscoveryV1().EndpointSlices("default").List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return list.Items
}

// leads is where our slices of a Service lead.
func (r *live) leads(service string) string {
	r.t.Helper()
	var all []string
	for _, s := range r.listed() {
		if s.Labels[discoveryv1.LabelServiceName] == service && s.Labels[discoveryv1.LabelManagedBy] == managedBy {
			for _, e := range s.Endpoints {
				all = append(all, fmt.Sprintf("%s %s", s.Labels[backendLabel], e.Addresses[0]))
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (r *live) expect(what, service, want string) {
	r.t.Helper()
	if got := r.leads(service); got != want {
		r.t.Errorf("%s: Service %s leads to %q, want %q", what, service, got, want)
	}
}

// named is an annotated Deployment, with more annotations in pairs.
func (r *live) named(name, uid string, annotations ...string) {
	o := &opted{}
	o.Kind, o.Namespace, o.Name, o.UID, o.Replicas = "Deployment", "default", name, uid, 1
	o.Annotations, o.PodLabels = map[string]string{class: "kpa.autoscaling.knative.dev"}, map[string]string{"app": name}
	for pair := range slices.Chunk(annotations, 2) {
		o.Annotations[pair[0]] = pair[1]
	}
	r.deployments.put(key{"default", name}, o)
}

func (r *live) front(change func(*corev1.Service)) {
	r.service(helloService(func(s *corev1.Service) {
		s.Name = "front"
		change(s)
	}))
}

func belongsTo(workloadName string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Annotations = map[string]string{workload.ServiceFor: workloadName} }
}

const atActivators, seconds = "activators 10.88.9.1", time.Second

// TestAGoneWorkloadIsWithdrawn: the addresses behind its Service will be others'.
func TestAGoneWorkloadIsWithdrawn(t *testing.T) {
	gone := func(r *live) { r.deployments.put(key{"default", "hello"}, nil) }
	for _, tc := range []struct {
		name   string
		happen func(*live)
		want   string
	}{
		{"deleted", gone, ""},
		{"deleted a moment ago", func(r *live) { time.Sleep(abandonment); gone(r) }, atActivators},
		{"deleted and made anew", func(r *live) { gone(r); time.Sleep(2 * seconds); r.named("hello", "u2") }, atActivators},
		{"made anew, and deleted again", func(r *live) {
			gone(r)
			time.Sleep(4 * seconds)
			r.named("hello", "u2")
			time.Sleep(seconds)
			gone(r)
		}, atActivators},
		{"another instance decides about it", func(r *live) { r.publisher.owns = func(identity.Revision) bool { return false }; gone(r) }, atActivators},
		{"this instance is cut off", func(r *live) { r.publisher.fence = func() error { return errors.New("fenced") }; gone(r) }, atActivators},
		{"StatefulSets were never read", func(r *live) { r.sets.synced.Store(false); gone(r) }, atActivators},
		{"its pods go on", func(r *live) { r.pod(podObject("a", nil)); gone(r) }, atActivators},
		{"its pods went on for a while", func(r *live) {
			r.pod(podObject("a", nil))
			gone(r)
			time.Sleep(seconds)
			r.pods.put(key{"default", "a"}, nil)
		}, ""},
		{"the Service became another's", func(r *live) { gone(r); r.service(helloService(belongsTo("other"))) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inLife(t, func(r *live) {
				r.named("hello", "u1")
				r.service(helloService(nil))
				r.settle(seconds)
				r.expect("before", "hello", atActivators)
				began := time.Now()
				tc.happen(r)
				r.settle(abandonment + seconds - time.Since(began))
				r.expect("afterwards", "hello", tc.want)
			})
		})
	}
}

// TestAGoneWorkloadIsFoundLater: by an instance that starts, or that takes its bucket.
func TestAGoneWorkloadIsFoundLater(t *testing.T) {
	inLife(t, func(r *live) {
		r.named("hello", "u1")
		r.service(helloService(nil))
		r.settle(seconds)
		if found := r.strays(); len(found) != 0 {
			r.t.Errorf("strays %v, want none", found)
		}
		r.Cluster.onWorkload, r.Cluster.onService = func(key) {}, func(key) {} // as while everything is read
		r.deployments.put(key{"default", "hello"}, nil)
		if found := r.strays(); !slices.Equal(found, []key{{"default", "hello"}}) {
			r.t.Errorf("strays %v, want hello", found)
		}
		(&Control{cluster: r.Cluster, mirror: r.mirror}).tidy()
		r.settle(abandonment + seconds)
		r.expect("afterwards", "hello", "")
	})
}

// TestReleaseUnderAnotherName: the last step of a release takes the annotation away that said whose the Service is.
func TestReleaseUnderAnotherName(t *testing.T) {
	inLife(t, func(r *live) {
		r.named("hello", "u1")
		r.front(belongsTo("hello"))
		r.pod(podObject("a", nil))
		r.settle(seconds)
		if r.leads("front") == "" {
			r.t.Fatal("nothing was published")
		}
		theirs := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.88.0.2"}}}}
		theirs.Namespace, theirs.Name, theirs.Labels = "default", "theirs", map[string]string{discoveryv1.LabelServiceName: "front"}
		if _, err := r.server.DiscoveryV1().EndpointSlices("default").Create(r.t.Context(), theirs, metav1.CreateOptions{}); err != nil {
			r.t.Fatal(err)
		}
		r.front(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "hello"} })
		r.settle(seconds)
		r.settle(seconds)
		r.expect("afterwards", "front", "")
		if len(r.muted) > 0 {
			r.t.Error("activators were told to close its ports while routers may still lead there")
		}
	})
}

// TestAServiceThatBecameAnothers: what happens to the workload that it belonged to does not move it any more.
func TestAServiceThatBecameAnothers(t *testing.T) {
	inLife(t, func(r *live) {
		r.named("blue", "u1")
		r.named("green", "u2")
		pod := func(name, of, ip string) {
			r.pod(podObject(name, func(p *corev1.Pod) {
				p.Status.PodIPs[0].IP, p.UID = ip, typesUID("uid-"+name)
				p.OwnerReferences[0].Name = strings.Replace(p.OwnerReferences[0].Name, "hello", of, 1)
			}))
		}
		pod("b", "blue", "10.88.0.2")
		pod("g", "green", "10.88.0.3")
		r.front(belongsTo("blue"))
		r.settle(seconds)
		serve := func(name, uid string) {
			r.t.Helper()
			if err := r.publisher.SetMode(r.t.Context(), identity.Revision{Namespace: "default", Name: name, UID: uid}, true, 0); err != nil {
				r.t.Fatal(err)
			}
		}
		serve("blue", "u1")
		r.expect("before", "front", "pods 10.88.0.2")
		r.front(belongsTo("green"))
		r.settle(seconds)
		serve("green", "u2")
		r.expect("afterwards", "front", "pods 10.88.0.3")
		if len(r.muted) != 1 || r.muted[0].Name != "blue" {
			r.t.Errorf("told to close their ports: %v, want those of blue", r.muted)
		}
		r.server.ClearActions()
		for range 3 {
			r.pods.put(key{"default", "b"}, nil)
			r.settle(seconds)
			r.expect("without a pod of the other", "front", "pods 10.88.0.3")
			pod("b", "blue", "10.88.0.2")
			r.settle(lingerOn)
			r.expect("with one again", "front", "pods 10.88.0.3")
		}
		for _, a := range r.server.Actions() {
			if a.GetVerb() != "list" {
				r.t.Errorf("the Service's slices were written: %s", a.GetVerb())
			}
		}
		if r.mirror.get(key{"default", "blue"}) != nil {
			r.t.Error("blue is kept for ever")
		}
	})
}

// TestARestartWithBadSettings: what was in control stays in it, by the settings that are good.
func TestARestartWithBadSettings(t *testing.T) {
	inLife(t, func(r *live) {
		bad := func() {
			r.named("hello", "u1", "autoscaling.knative.dev/target", "no", "autoscaling.knative.dev/min-scale", "2")
		}
		bad()
		r.service(helloService(nil))
		r.settle(seconds)
		if r.mirror.get(key{"default", "hello"}) != nil {
			r.t.Error("a workload that was never in control is taken with bad settings")
		}
		r.named("hello", "u1")
		r.settle(seconds)
		r.expect("before", "hello", atActivators)
		r.mirror.mu.Lock()
		clear(r.mirror.tracked) // an instance that starts knows nothing
		r.mirror.mu.Unlock()
		bad()
		r.settle(seconds)
		now := r.mirror.get(key{"default", "hello"})
		if now == nil || now.leaving || now.sent.Config.Scaling.MinScale.V != 2 {
			r.t.Fatalf("now %+v, want it in control with min-scale 2", now)
		}
		r.expect("afterwards", "hello", atActivators)
	})
}

// TestSettingsThatAreBadFromTheStart: what is good of the cluster's settings counts.
func TestSettingsThatAreBadFromTheStart(t *testing.T) {
	r := newRig(t)
	about := subject{"v1", "ConfigMap", key{"rouse-system", "config-autoscaler"}, ""}
	r.mirror.configure(map[string]string{"enable-scale-to-zero": "false", "stable-window": "no"}, about)
	if s := r.mirror.settings(); s.EnableScaleToZero.V {
		t.Error("enable-scale-to-zero: false does not count")
	}
	r.mirror.configure(map[string]string{"enable-scale-to-zero": "true", "stable-window": "no"}, about)
	if s := r.mirror.settings(); s.EnableScaleToZero.V {
		t.Error("bad settings changed good ones")
	}
	if e := <-r.mirror.reporter.out; !strings.Contains(e.Message, "stable-window") {
		t.Errorf("said %s", e.Message)
	}
}

// TestNobodyWaitsForAGoneWorkload: its mode will not be carried out, and the next one may be of another.
func TestNobodyWaitsForAGoneWorkload(t *testing.T) {
	for name, gone := range map[string]func(*Publisher){
		"forgotten": func(p *Publisher) { p.forget(key{"default", "hello"}, ErrNotThere) },
		"made anew": func(p *Publisher) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = p.SetMode(ctx, identity.Revision{Namespace: "default", Name: "hello", UID: "u2"}, true, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newRig(t).publisher
				p.queue, p.modes = newQueue(), map[key]*mode{} // all workers are busy
				defer p.queue.close()
				answers := make(chan error, 2)
				for range 2 {
					go func() {
						answers <- p.SetMode(t.Context(), identity.Revision{Namespace: "default", Name: "hello", UID: "u1"}, true, 0)
					}()
				}
				synctest.Wait()
				gone(p)
				synctest.Wait()
				if len(answers) != 2 {
					t.Fatalf("%d of 2 were answered", len(answers))
				}
				for range 2 {
					if err := <-answers; !errors.Is(err, ErrNotThere) {
						t.Errorf("answered %v", err)
					}
				}
			})
		})
	}
}

// TestNothingIsRememberedOfWhatIsGone: preview environments come and go for years.
func TestNothingIsRememberedOfWhatIsGone(t *testing.T) {
	inLife(t, func(r *live) {
		for i := range 20 {
			r.named("hello", fmt.Sprint("u", i))
			r.settle(patience + seconds)
			if n := len(r.mirror.reporter.said[key{"default", "hello"}]); n != 1 {
				r.t.Fatalf("%d objects are complained of, want the one without a Service", n)
			}
			if i%2 == 0 {
				r.deployments.put(key{"default", "hello"}, nil)
				r.settle(seconds)
			}
		}
		r.deployments.put(key{"default", "hello"}, nil)
		r.settle(seconds)
		if n := len(r.mirror.reporter.said); n != 0 {
			r.t.Errorf("%d are remembered", n)
		}
	})
}

// TestNoEmptySetsStay of Services that are gone, whose namespaces nobody uses again.
func TestNoEmptySetsStay(t *testing.T) {
	r := newRig(t)
	for i := range 10 {
		k := key{fmt.Sprint("ci-", i), "web"}
		r.service(helloService(func(s *corev1.Service) {
			s.Namespace, s.Name, s.Spec.Selector = k.namespace, k.name, map[string]string{"app": "web"}
		}))
		r.services.put(k, nil)
	}
	if len(r.serving)+len(r.selectAt) > 0 {
		t.Errorf("there are %d and %d sets of no Service", len(r.serving), len(r.selectAt))
	}
}

// TestAPortThatWentLeavesNoPods in the book of endpoints, whether its workload stayed in control or came back.
func TestAPortThatWentLeavesNoPods(t *testing.T) {
	two := func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "metrics", Port: 9090, TargetPort: intstr.FromInt32(9000)})
	}
	for name, between := range map[string]func(*rig){"it stayed": func(*rig) {}, "it came back": func(r *rig) {
		out := *r.deployments.get(key{"default", "hello"})
		out.Annotations = nil
		r.deployments.put(key{"default", "hello"}, &out)
		r.hello()
	}} {
		r := newRig(t)
		r.deployment(1)
		r.service(helloService(two))
		r.pod(podObject("a", nil))
		x := r.hello().sent.Extra[0].ID
		if n := len(r.mirror.book.Snapshot(x).Endpoints); n != 1 {
			t.Fatalf("%d pods of the further port, want one", n)
		}
		between(r)
		r.service(helloService(nil))
		r.deployment(1)
		h := r.hello()
		if n := len(r.mirror.book.Snapshot(x).Endpoints); n != 0 {
			t.Errorf("%s: the book has %d pods of a port that is gone", name, n)
		}
		if n := len(r.mirror.book.Snapshot(h.rev).Endpoints); n != 1 {
			t.Errorf("%s: the book has %d pods of the workload itself, want one", name, n)
		}
	}
}

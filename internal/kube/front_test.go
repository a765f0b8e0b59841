package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/workload"
)

// fronted gives a pod two ports and a queue-proxy in front of the first, at 8080.
func fronted(p *corev1.Pod) {
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "admin", ContainerPort: 9000}}
	p.Spec.InitContainers = []corev1.Container{sidecarOf(corev1.EnvVar{Name: "USER_PORT", Value: "8080"})}
}

// toSlices says where our slices lead for each port of a Service, sorted.
func (r *live) toSlices() (all []string) {
	r.t.Helper()
	for _, s := range r.listed() {
		if s.Labels[discoveryv1.LabelManagedBy] != managedBy {
			continue
		}
		for _, p := range s.Ports {
			for _, e := range s.Endpoints {
				all = append(all, fmt.Sprintf("%s %s:%d", *p.Name, e.Addresses[0], *p.Port))
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestPortsInAnotherOrder: what the queue-proxy forwards to was decided when the pod was made. The Service's ports lead to the same ports of
// the pod in whatever order they come, and under whatever names, while the workload is awake, asleep, and when it has opted out.
func TestPortsInAnotherOrder(t *testing.T) {
	web := corev1.ServicePort{Name: "web", Port: 80, TargetPort: intstr.FromInt32(8080)}
	admin := corev1.ServicePort{Name: "admin", Port: 9000, TargetPort: intstr.FromString("admin")}
	scrape := corev1.ServicePort{Name: "http-metrics", Port: 9001, TargetPort: intstr.FromString("admin")}
	inLife(t, func(r *live) {
		r.mirror.ports = newPorts(nil, "rouse-system", "rouse-ports", portalloc.DefaultRange, r.mirror.log)
		r.mirror.ports.read(&configMap{data: map[string]string{"20001": "default/hello/web", "20002": "default/hello/admin", "20003": "default/hello/http-metrics"}, version: "2"})
		r.named("hello", "u1")
		expect := func(what string, ports []corev1.ServicePort, complains bool, want ...string) {
			t.Helper()
			r.service(helloService(func(s *corev1.Service) {
				s.Spec.Ports = ports
				s.Annotations = map[string]string{workload.UncountedPorts: "admin, http-metrics"}
			}))
			r.settle(seconds)
			if h := r.mirror.get(key{"default", "hello"}); !h.leaving {
				go func() { _ = r.publisher.SetMode(context.Background(), h.rev, true, 2) }()
				r.settle(seconds)
				if !slices.Equal(h.sent.Ports, []uint16{20001}) {
					t.Errorf("%s: requests are counted at the activators' ports %d, want that of web", what, h.sent.Ports)
				}
			}
			if got := r.toSlices(); !slices.Equal(got, want) {
				t.Errorf("%s: the Service leads to %q, want %q", what, got, want)
			}
			if events := strings.Join(said(r.mirror.reporter), "\n"); strings.Contains(events, string(workload.PortOrder)) != complains {
				t.Errorf("%s: said %q; that the ports' order says otherwise should be among it: %t", what, events, complains)
			}
		}
		r.pod(podObject("a", fronted))
		expect("as it was", []corev1.ServicePort{web, admin}, false, "admin 10.88.0.2:9000", "web 10.88.0.2:9012")
		expect("sorted", []corev1.ServicePort{admin, web}, true, "admin 10.88.0.2:9000", "web 10.88.0.2:9012")
		expect("a port named for HTTP", []corev1.ServicePort{web, scrape}, true, "http-metrics 10.88.0.2:9000", "web 10.88.0.2:9012")
		r.pods.put(key{"default", "a"}, nil)
		expect("asleep", []corev1.ServicePort{admin, web}, true, "admin 10.88.9.1:20002", "web 10.88.9.1:20001")
		r.pod(podObject("b", fronted))
		optOut := *r.deployments.get(key{"default", "hello"})
		optOut.Annotations = nil
		r.deployments.put(key{"default", "hello"}, &optOut)
		expect("opted out", []corev1.ServicePort{web, admin}, false, "admin 10.88.0.2:9000", "web 10.88.0.2:9012")
		expect("opted out and sorted", []corev1.ServicePort{admin, web}, false, "admin 10.88.0.2:9000", "web 10.88.0.2:9012")
	})
}

// TestFrontOf: the queue-proxy says what it forwards to; without one, who wants it injected may.
func TestFrontOf(t *testing.T) {
	userPort := func(value string) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{sidecarOf(corev1.EnvVar{Name: "USER_PORT", Value: value})}
		}
	}
	twice := func(s *corev1.PodSpec) {
		userPort("8081")(s)
		s.Containers = append(s.Containers, corev1.Container{Name: "other", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8081}}})
	}
	for _, tc := range []struct {
		name   string
		change func(*corev1.PodSpec)
		said   string
		want   workload.Front
	}{
		{"no queue-proxy", nil, "", workload.Front{}},
		{"a declared port", userPort("8080"), "", workload.Front{Port: 8080, Name: "web"}},
		{"one that nobody declares", userPort("9000"), "", workload.Front{Port: 9000}},
		{"one whose name is another's first", twice, "", workload.Front{Port: 8081}},
		{"no number", userPort("x"), "", workload.Front{}},
		{"none", func(s *corev1.PodSpec) { s.InitContainers = []corev1.Container{sidecarOf()} }, "9000", workload.Front{}},
		{"it knows better than the annotation", userPort("8080"), "9000", workload.Front{Port: 8080, Name: "web"}},
		{"the annotation, a number", nil, "9000", workload.Front{Port: 9000}},
		{"the annotation, a name", nil, "web", workload.Front{Port: 8080, Name: "web"}},
		{"the annotation, no port", nil, "rpc", workload.Front{}},
	} {
		p := podObject("a", func(p *corev1.Pod) {
			if tc.change != nil {
				tc.change(&p.Spec)
			}
		})
		if got := frontOf(&p.Spec, tc.said); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// TestASleepingWorkloadsFront: the template's queue-proxy counts before there is a pod, and rouse check finds the same port as control.
func TestASleepingWorkloadsFront(t *testing.T) {
	d := workloadObject(workload.Deployment, "hello", ourClass, byLabels(map[string]string{"app": "hello"})).(*appsv1.Deployment)
	fresh := func() *appsv1.Deployment {
		out := d.DeepCopy()
		out.Spec.Template.Spec = podObject("a", fronted).Spec
		return out
	}
	sorted := helloService(func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "admin", Port: 9000}, {Name: "web", Port: 80, TargetPort: intstr.FromString("http")}}
	})
	r := newRig(t)
	r.service(sorted)
	if err := r.deployments.Update(fresh()); err != nil {
		t.Fatal(err)
	}
	if h := r.hello(); h.primary != 1 {
		t.Errorf("requests are counted on port %s, want web", h.service.Ports[h.primary].Name)
	}
	bare := d.DeepCopy()
	for what, objects := range map[string][]any{
		"in the template": {fresh(), sorted},
		"in a pod":        {bare, sorted, podObject("a", func(p *corev1.Pod) { fronted(p); p.Labels["app"] = "hello" })},
	} {
		v := newView()
		for _, o := range objects {
			v.add(o, "")
		}
		s := v.Seen(config.DefaultAutoscaler())[0]
		if s.Ports[0].Scaled || !s.Ports[1].Scaled || len(s.Problems) != 1 || s.Problems[0].Reason != workload.PortOrder {
			t.Errorf("with the queue-proxy %s rouse check sees ports %+v and problems %+v, want web to be counted and said", what, s.Ports, s.Problems)
		}
	}
}

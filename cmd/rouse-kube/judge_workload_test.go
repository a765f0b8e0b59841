package main

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/sliceplan"
	"github.com/rousehq/rouse/internal/workload"
)

func at(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 88, 0, n}) }

func behind(b sliceplan.Backend, port uint16, addrs ...byte) kube.Published {
	p := kube.Published{Ours: true, Writer: "control.rouse.dev", Slice: sliceplan.Slice{Name: "hello-0", Backend: b, Ports: []sliceplan.Port{{Name: "http", Number: port}}}}
	for _, a := range addrs {
		p.Endpoints = append(p.Endpoints, sliceplan.Endpoint{Addr: at(a), UID: "p", Serving: true})
	}
	return p
}

// sound is a workload whose Service leads to one activator, with a policy before its pods.
func sound() *kube.Seen {
	return &kube.Seen{
		Object: workload.Object{Kind: workload.Deployment, Namespace: "default", Name: "hello", Replicas: 1}, Ready: 1, Bound: true,
		Service: &workload.Service{Name: "hello"}, Ports: []kube.ServicePort{{Name: "http", Holder: "default/hello/http", Scaled: true}},
		Slices: []kube.Published{behind(sliceplan.Activators, 20001, 1)},
		Pods:   []kube.SeenPod{{Name: "hello-1", UID: "p", Addrs: []netip.Addr{at(9)}, Takes: true, Answers: []sliceplan.Port{{Name: "http", Number: 8012}}}},
		Guard:  kube.Guard{Known: true, Port: 8080, Policies: []string{"only-rouse"}},
	}
}

// twoPorts gives the workload's Service the further port grpc.
func twoPorts(s *kube.Seen, in *surroundings) {
	s.Ports = append(s.Ports, kube.ServicePort{Name: "grpc", Holder: "default/hello/grpc"})
	s.Pods[0].Answers = append(s.Pods[0].Answers, sliceplan.Port{Name: "grpc", Number: 9000})
	in.book, _ = portalloc.Decode(map[string]string{"20001": "default/hello/http", "20002": "default/hello/grpc"})
	in.activators = []assign.ActivatorState{activatorState(1, true, map[uint16]string{20001: "", 20002: ""})}
}

func TestJudgeWorkload(t *testing.T) {
	book, _ := portalloc.Decode(map[string]string{"20001": "default/hello/http"})
	in := surroundings{book: book, pods: true,
		activators: []assign.ActivatorState{activatorState(1, true, map[uint16]string{20001: ""}), activatorState(2, true, nil), activatorState(3, false, nil)}}
	for _, tc := range []struct {
		name   string
		change func(*kube.Seen, *surroundings)
		part   string
		want   []level
	}{
		{"sound", nil, "1 of 1 pods ready, Service hello leads to 1 activators", []level{good, good}},
		{"not bound", func(s *kube.Seen, _ *surroundings) {
			s.Bound, s.Problems = false, []workload.Problem{{Reason: workload.ServiceSelects, Text: "run rouse adopt"}}
		}, "ServiceHasSelector: run rouse adopt", []level{failed}},
		{"a minor problem", func(s *kube.Seen, _ *surroundings) {
			s.Problems = []workload.Problem{{Reason: workload.UnknownSettings, Text: "nothing reads x", Minor: true}}
		}, "nothing reads x", []level{warned, good, good}},
		{"nothing published", func(s *kube.Seen, _ *surroundings) { s.Slices = nil }, "leads nowhere", []level{failed, good}},
		{"an empty slice", func(s *kube.Seen, _ *surroundings) { s.Slices[0].Endpoints = nil }, "leads nowhere", []level{failed, good}},
		{"a slice of another", func(s *kube.Seen, _ *surroundings) { s.Slices = append(s.Slices, kube.Published{Writer: "kubernetes"}) }, "EndpointSlice of kubernetes is left", []level{failed, good}},
		{"the selector is back", func(s *kube.Seen, _ *surroundings) {
			s.Service.Selector, s.Service.Annotations = map[string]string{"a": "b"}, map[string]string{workload.AdoptedSelector: "{}"}
			s.Slices = append(s.Slices, kube.Published{Writer: "kubernetes"})
			s.Problems = []workload.Problem{{Reason: workload.SelectorIsBack, Text: "take it out", Minor: true}}
		}, "SelectorIsBack: take it out", []level{warned, good, good}},
		{"half released", func(s *kube.Seen, _ *surroundings) {
			s.Service.Selector, s.Service.Annotations = map[string]string{"a": "b"}, map[string]string{workload.AdoptedSelector: "{}", workload.Releasing: "true"}
			s.Slices = append(s.Slices, kube.Published{Writer: "kubernetes"})
		}, "has its selector and is still being released", []level{good, warned, good}},
		{"being released", func(s *kube.Seen, _ *surroundings) {
			s.Service.Annotations = map[string]string{workload.AdoptedSelector: "{}", workload.Releasing: "true"}
		}, "", []level{good, good}},
		{"another's port", func(s *kube.Seen, _ *surroundings) { s.Slices[0].Ports[0].Number = 20002 }, "port 20002 of the activators, which is not its own (20001)", []level{failed, failed, good}},
		{"a port that the Service has not", func(s *kube.Seen, _ *surroundings) { s.Slices[0].Ports[0].Name = "old" }, `the port "old"`, []level{failed, good}},
		{"a closed port", func(s *kube.Seen, _ *surroundings) { s.Slices[0].Endpoints[0].Addr = at(2) }, "port 20001 of activator activator-2, which is not open", []level{failed, good}},
		{"an activator that left", func(s *kube.Seen, _ *surroundings) { s.Slices[0].Endpoints[0].Addr = at(3) }, "leads to 10.88.0.3, where no activator is", []level{failed, good}},
		{"an activator that never was", func(s *kube.Seen, _ *surroundings) { s.Slices[0].Endpoints[0].Addr = at(4) }, "where no activator is", []level{failed, good}},
		{"activators can't be asked", func(s *kube.Seen, in *surroundings) { s.Slices[0].Endpoints[0].Addr, in.activators = at(4), nil }, "", []level{good, good}},
		{"no port yet", func(_ *kube.Seen, in *surroundings) { in.book = &portalloc.Book{} }, "has none on the activators yet", []level{failed, good}},
		{"no port left", func(_ *kube.Seen, in *surroundings) {
			in.book, in.exhausted = &portalloc.Book{}, errors.New("widen ROUSE_ACTIVATOR_PORTS")
		}, "widen ROUSE_ACTIVATOR_PORTS", []level{failed, good}},
		{"the book can't be read", func(_ *kube.Seen, in *surroundings) { in.book = nil }, "", []level{good, good}},
		{"pods", func(s *kube.Seen, _ *surroundings) { s.Slices = []kube.Published{behind(sliceplan.Pods, 8012, 9)} }, "leads to 1 pods", []level{good, good}},
		{"a pod that is gone", func(s *kube.Seen, _ *surroundings) { s.Slices = []kube.Published{behind(sliceplan.Pods, 8012, 8)} }, "leads to 10.88.0.8, where no pod of it is", []level{failed, good}},
		{"a pod that is not ready", func(s *kube.Seen, _ *surroundings) {
			s.Slices, s.Pods[0].Takes = []kube.Published{behind(sliceplan.Pods, 8012, 9)}, false
		}, "pod hello-1, which is not ready", []level{failed, good}},
		{"past the queue-proxy", func(s *kube.Seen, _ *surroundings) { s.Slices = []kube.Published{behind(sliceplan.Pods, 8080, 9)} }, "other ports of pod hello-1", []level{failed, good}},
		{"a further port by activators", func(s *kube.Seen, in *surroundings) {
			twoPorts(s, in)
			s.Slices[0].Ports[0] = sliceplan.Port{Name: "grpc", Number: 20002}
			s.Slices = append(s.Slices, behind(sliceplan.Pods, 8012, 9))
		}, "leads to 1 pods and 1 activators", []level{good, good}},
		{"a further port that leads nowhere", func(s *kube.Seen, in *surroundings) {
			twoPorts(s, in)
			s.Slices = []kube.Published{behind(sliceplan.Pods, 8012, 9)}
		}, "port grpc of Service hello leads nowhere", []level{failed, good}},
		{"pods can't be read", func(s *kube.Seen, in *surroundings) {
			s.Slices, in.pods = []kube.Published{behind(sliceplan.Pods, 8012, 8)}, false
		}, "", []level{good, good}},
		{"nothing guards it", func(s *kube.Seen, _ *surroundings) { s.Guard.Policies = nil }, "nothing keeps pods of the cluster from the application's own port 8080", []level{good, noted}},
		{"everybody may come", func(s *kube.Seen, _ *surroundings) { s.Guard.Open = "open" }, "open lets everybody reach", []level{good, noted}},
		{"policies can't be read", func(s *kube.Seen, _ *surroundings) { s.Guard = kube.Guard{Port: 8080} }, "", []level{good}},
	} {
		s, around := sound(), in
		if tc.change != nil {
			tc.change(s, &around)
		}
		says(t, tc.name, judgeWorkload(s, around), tc.part, tc.want...)
	}
}

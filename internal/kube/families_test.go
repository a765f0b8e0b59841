package kube

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/rousehq/rouse/internal/sliceplan"
)

func withFamilies(families ...corev1.IPFamily) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.IPFamilies = families }
}

func withAddrs(ips ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.PodIPs = nil
		for _, ip := range ips {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
		}
	}
}

// activatorPod makes the pod of activatorAt(i).
func activatorPod(name string, ips ...string) *corev1.Pod {
	return podObject(name, func(p *corev1.Pod) { p.Namespace = "rouse-system"; withAddrs(ips...)(p) })
}

// TestFamilies: each family of a Service is decided by itself, and an activator has the addresses that its pod's status says.
func TestFamilies(t *testing.T) {
	const four, six = corev1.IPv4Protocol, corev1.IPv6Protocol
	withAddrs := func(ips ...string) func(*corev1.Pod) { return func(p *corev1.Pod) { counted(p); withAddrs(ips...)(p) } }
	bothPod := podObject("a", withAddrs("10.88.0.2", "fd00::2"))
	for _, tc := range []struct {
		name       string
		families   []corev1.IPFamily
		serve      bool
		pods       []*corev1.Pod
		activators int
		want       []string
	}{
		{"IPv6 alone, activators", []corev1.IPFamily{six}, false, []*corev1.Pod{activatorPod("x", "10.88.9.1", "fd00::9:1")}, 1, []string{"activators fd00::9:1:20001"}},
		{"IPv6 alone, pods", []corev1.IPFamily{six}, true, []*corev1.Pod{bothPod}, 1, []string{"pods fd00::2:9012"}},
		{"both, activators", []corev1.IPFamily{four, six}, false, []*corev1.Pod{bothPod, activatorPod("x", "10.88.9.1", "fd00::9:1")}, 1,
			[]string{"activators 10.88.9.1:20001", "activators fd00::9:1:20001"}},
		{"both, pods", []corev1.IPFamily{six, four}, true, []*corev1.Pod{bothPod, activatorPod("x", "10.88.9.1", "fd00::9:1")}, 1,
			[]string{"pods 10.88.0.2:9012", "pods fd00::2:9012"}},
		{"IPv4 alone, activators of both", []corev1.IPFamily{four}, false, []*corev1.Pod{activatorPod("x", "10.88.9.1", "fd00::9:1")}, 1, []string{"activators 10.88.9.1:20001"}},
		{"both, the activator's pod has not been seen", []corev1.IPFamily{four, six}, false, []*corev1.Pod{bothPod}, 1,
			[]string{"activators 10.88.9.1:20001", "pods fd00::2:9012"}},
		{"both, a pod of before the cluster was dual-stack", []corev1.IPFamily{four, six}, true,
			[]*corev1.Pod{podObject("a", withAddrs("10.88.0.2")), activatorPod("x", "10.88.9.1", "fd00::9:1")}, 1, []string{"activators fd00::9:1:20001", "pods 10.88.0.2:9012"}},
		{"the same activators in both", []corev1.IPFamily{four, six}, false, []*corev1.Pod{
			activatorPod("x", "10.88.9.1", "fd00::9:3"), activatorPod("y", "10.88.9.2", "fd00::9:2"), activatorPod("z", "10.88.9.3", "fd00::9:1"),
		}, 3, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.deployment(1)
			r.service(helloService(withFamilies(tc.families...)))
			for i := range tc.activators {
				r.activators = append(r.activators, activatorAt(i+1, 20001))
			}
			for _, p := range tc.pods {
				r.pod(p)
			}
			groups := r.publisher.want(r.hello(), mode{serve: tc.serve}, nil)
			if tc.want == nil {
				sameInBoth(t, r, groups)
			} else if got := addressesOf(groups); !slices.Equal(got, tc.want) {
				t.Errorf("behind the Service: %v, want %v", got, tc.want)
			}
		})
	}
}

// sameInBoth says whether as many endpoints of each family belong to the same pods.
func sameInBoth(t *testing.T, r *rig, groups []sliceplan.Group) {
	t.Helper()
	names := map[bool][]string{}
	for _, g := range groups {
		for _, e := range g.Endpoints {
			names[e.Addr.Is6()] = append(names[e.Addr.Is6()], r.podAt(e.Addr).name)
		}
	}
	slices.Sort(names[false])
	slices.Sort(names[true])
	if len(names[true]) != fewest || !slices.Equal(names[false], names[true]) {
		t.Errorf("IPv4 leads to %v, IPv6 to %v, want the same %d", names[false], names[true], fewest)
	}
}

// TestRestartKnowsBothFamilies: published addresses of an activator that has come back are not taken for another's.
func TestRestartKnowsBothFamilies(t *testing.T) {
	r := newRig(t)
	r.deployment(0)
	r.service(helloService(withFamilies(corev1.IPv6Protocol)))
	r.pod(activatorPod("x", "10.88.9.1", "fd00::9:1"))
	r.pod(activatorPod("y", "10.88.9.2", "fd00::9:2"))
	closed := activatorAt(1) // it is back, and has not opened its ports
	r.activators = []Activator{closed}
	ours := []*slice{{contents: sliceplan.Slice{Backend: sliceplan.Activators, IPv6: true, Ports: []sliceplan.Port{{Name: "http", Number: 20001}},
		Endpoints: []sliceplan.Endpoint{{Addr: netip.MustParseAddr("fd00::9:1")}, {Addr: netip.MustParseAddr("fd00::9:2")}}}}}
	h := r.hello()
	r.publisher.began = time.Now()
	if got, want := addressesOf(r.publisher.want(h, mode{}, ours)), []string{"activators fd00::9:2:20001"}; !slices.Equal(got, want) {
		t.Errorf("after a restart: %v, want %v", got, want)
	}
}

// TestActivatorsPodConcerns: its addresses and its readiness do, nothing else, and no pod of anybody else.
func TestActivatorsPodConcerns(t *testing.T) {
	r := newRig(t)
	r.activators = []Activator{activatorAt(1)}
	before := podOf(activatorPod("x", "10.88.9.1"))
	after := podOf(activatorPod("x", "10.88.9.1", "fd00::9:1"))
	other := podOf(activatorPod("y", "10.88.9.7"))
	unready := podOf(activatorPod("x", "10.88.9.1"))
	unready.ready = false
	for name, tc := range map[string]struct {
		old, now *pod
		want     bool
	}{
		"came": {nil, after, true}, "went": {after, nil, true}, "an address came": {before, after, true}, "became ready": {unready, before, true},
		"nothing of it": {before, before, false}, "another came": {nil, other, false},
	} {
		if got := r.publisher.concerned(tc.old, tc.now); got != tc.want {
			t.Errorf("%s: concerned = %t, want %t", name, got, tc.want)
		}
	}
	heard := 0
	r.onHome = func(_, _ *pod) { heard++ }
	r.pod(activatorPod("x", "10.88.9.1"))
	r.pod(podObject("a", nil))
	if heard != 1 {
		t.Errorf("heard of %d pods of our namespace, want 1", heard)
	}
}

// TestAnswersAtEveryAddress: the last pod stays while a pod, or nobody who says so, is behind one of the addresses.
func TestAnswersAtEveryAddress(t *testing.T) {
	r := newRig(t)
	r.deployment(0)
	answer := map[bool]string{}
	c := &Control{cluster: r.Cluster, mirror: r.mirror, probe: *listening(t, answer)}
	r.service(helloService(func(s *corev1.Service) {
		withFamilies(corev1.IPv4Protocol, corev1.IPv6Protocol)(s)
		s.Spec.ClusterIPs = []string{"10.96.0.9", "fd00:96::9"}
	}))
	h := r.hello()
	for _, tc := range []struct {
		name      string
		four, six string // what answers at each address
		published []bool // families with an endpoint
		want, err bool
	}{
		{"both", "activator", "activator", []bool{false, true}, true, false},
		{"a pod behind IPv6", "activator", "queue", []bool{false, true}, false, false},
		{"a pod behind IPv4", "queue", "activator", []bool{false, true}, false, false},
		{"nothing was ever behind IPv6", "activator", "", []bool{false}, true, false},
		{"nothing is published", "activator", "activator", nil, false, true},
	} {
		answer[false], answer[true] = tc.four, tc.six
		r.slicesOf[key{"default", "hello"}] = map[string]*slice{}
		for _, six := range tc.published {
			r.slicesOf[key{"default", "hello"}][map[bool]string{false: "four", true: "six"}[six]] = &slice{writer: managedBy,
				contents: sliceplan.Slice{IPv6: six, Endpoints: []sliceplan.Endpoint{{}}}}
		}
		if got, err := c.Answers(t.Context(), h.rev); got != tc.want || (err != nil) != tc.err {
			t.Errorf("%s: Answers = %t, %v, want %t", tc.name, got, err, tc.want)
		}
	}
}

// listening is a client for which every address of a family is one server.
func listening(t *testing.T, answer map[bool]string) *http.Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, err := netip.ParseAddrPort(r.Host)
		if err != nil || r.Header.Get("K-Network-Probe") != "activator" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(answer[a.Addr().Is6()]))
	}))
	t.Cleanup(srv.Close)
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil || !slices.Contains([]string{"10.96.0.9", "fd00:96::9"}, host) {
			return nil, &net.AddrError{Err: "unexpected", Addr: addr}
		}
		return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
	}}}
}

// TestOneFamilyIsNotLostWithTheOther: what is published of a family stays while nobody better is known for it.
func TestOneFamilyIsNotLostWithTheOther(t *testing.T) {
	r := newRig(t)
	r.deployment(0)
	r.service(helloService(withFamilies(corev1.IPv4Protocol, corev1.IPv6Protocol)))
	h := r.hello()
	six := &slice{name: "six", writer: managedBy, contents: sliceplan.Slice{Name: "six", IPv6: true, Endpoints: []sliceplan.Endpoint{{}}}}
	four := &slice{name: "four", writer: managedBy, contents: sliceplan.Slice{Name: "four", Endpoints: []sliceplan.Endpoint{{}}}}
	groups := []sliceplan.Group{{Endpoints: []sliceplan.Endpoint{{Addr: netip.MustParseAddr("10.88.9.1")}}}}
	names := func(t *tracked) (all []string) {
		for _, s := range replaceable(t, groups, []*slice{four, six}) {
			all = append(all, s.Name)
		}
		return all
	}
	if got := names(h); !slices.Equal(got, []string{"four"}) {
		t.Errorf("slices that the plan may change: %v, want the one of the family that has somebody", got)
	}
	leaving := *h
	leaving.leaving = true
	if got := names(&leaving); len(got) != 2 {
		t.Errorf("of a workload that leaves: %v, want both", got)
	}
	r.service(helloService(withFamilies(corev1.IPv4Protocol)))
	if got := names(r.hello()); len(got) != 2 {
		t.Errorf("of a Service that lost the family: %v, want both", got)
	}
}

// TestReleaseWaitsForBothFamilies: Kubernetes writes the slices of one family after those of the other.
func TestReleaseWaitsForBothFamilies(t *testing.T) {
	for _, tc := range []struct {
		name    string
		foreign []discoveryv1.AddressType
		pod     []string
		left    int
	}{
		{"nothing yet", nil, []string{"10.88.0.2", "fd00::2"}, 2},
		{"IPv4 alone, the pod has both", []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}, []string{"10.88.0.2", "fd00::2"}, 2},
		{"both", []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}, []string{"10.88.0.2", "fd00::2"}, 0},
		{"IPv4 alone, the pod has no more", []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}, []string{"10.88.0.2"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			client := fake.NewClientset()
			r.publisher.client = &Client{core: client}
			r.deployment(1)
			r.service(helloService(withFamilies(corev1.IPv4Protocol, corev1.IPv6Protocol)))
			svc := r.services.get(key{"default", "hello"})
			r.pod(podObject("a", withAddrs(tc.pod...)))
			api := client.DiscoveryV1().EndpointSlices("default")
			for _, six := range []bool{false, true} {
				s := objectOf(svc, sliceplan.Slice{Name: "ours-" + string(addressType(six)), IPv6: six, Backend: sliceplan.Activators}, "rouse-system")
				if _, err := api.Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range tc.foreign {
				s := &discoveryv1.EndpointSlice{AddressType: f, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"x"}}}}
				s.Name, s.Labels = "theirs-"+string(f), map[string]string{discoveryv1.LabelServiceName: "hello"}
				if _, err := api.Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.publisher.withdraw(t.Context(), svc, r.publisher.readyIn(key{"default", "hello"}, svc)); err != nil {
				t.Fatal(err)
			}
			left, err := api.List(t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelManagedBy + "=" + managedBy})
			if err != nil || len(left.Items) != tc.left {
				t.Errorf("%d slices of ours are left, %v, want %d", len(left.Items), err, tc.left)
			}
		})
	}
}

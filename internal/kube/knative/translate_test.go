package knative

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

func object(spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Revision",
		"metadata": map[string]any{
			"namespace": "shop", "name": "cart-00002", "uid": "u2", "generation": int64(1),
			"labels": map[string]any{labelService: "cart", labelConfiguration: "cart"},
		},
		"spec": spec,
	}}
}

func TestRevisionOf(t *testing.T) {
	base := Revision{
		ID:      identity.Revision{Namespace: "shop", Name: "cart-00002", UID: "u2", Generation: 1},
		Service: "cart", Configuration: "cart", Timeout: defaultTimeout, ProbeEarly: true,
	}
	with := func(edit func(*Revision)) Revision { r := base; edit(&r); return r }
	container := func(fields map[string]any) map[string]any { return map[string]any{"containers": []any{fields}} }
	for name, tc := range map[string]struct {
		spec map[string]any
		want Revision
	}{
		"empty": {map[string]any{}, base},
		"limits": {
			map[string]any{"containerConcurrency": int64(7), "timeoutSeconds": int64(60), "responseStartTimeoutSeconds": int64(30), "idleTimeoutSeconds": int64(5)},
			with(func(r *Revision) {
				r.ContainerConcurrency, r.Timeout, r.ResponseStart, r.Idle = 7, time.Minute, 30*time.Second, 5*time.Second
			}),
		},
		"http readiness": {container(map[string]any{"readinessProbe": map[string]any{"httpGet": map[string]any{}}}), base},
		"exec readiness": {container(map[string]any{"readinessProbe": map[string]any{"exec": map[string]any{}}}),
			with(func(r *Revision) { r.ProbeEarly = false })},
		"start-up probe": {container(map[string]any{"startupProbe": map[string]any{"tcpSocket": map[string]any{}}}),
			with(func(r *Revision) { r.ProbeEarly = false })},
	} {
		u := object(tc.spec)
		if got := revisionOf(u); got != tc.want {
			t.Errorf("%s: revisionOf = %+v, want %+v", name, got, tc.want)
		}
		stripped, err := strip(u)
		if err != nil {
			t.Fatal(err)
		}
		if got := revisionOf(stripped.(*unstructured.Unstructured)); got != tc.want {
			t.Errorf("%s: stripped, revisionOf = %+v, want %+v", name, got, tc.want)
		}
	}
}

func address(ip, uid string) corev1.EndpointAddress {
	return corev1.EndpointAddress{IP: ip, TargetRef: &corev1.ObjectReference{Kind: "Pod", UID: types.UID(uid)}}
}

func pod(ip, uid string, port uint16, protocol endpoint.Protocol, state endpoint.State) endpoint.Endpoint {
	return endpoint.Endpoint{Pod: identity.Pod{UID: uid, Addr: netip.AddrPortFrom(netip.MustParseAddr(ip), port)},
		Protocol: protocol, State: state, Sidecar: true}
}

func TestPodsOf(t *testing.T) {
	web := []corev1.EndpointPort{{Name: "http-usermetric", Port: 9091}, {Name: "http", Port: 8012}}
	h2 := []corev1.EndpointPort{{Name: "http2", Port: 8013}}
	for name, tc := range map[string]struct {
		subsets []corev1.EndpointSubset
		want    []endpoint.Endpoint
	}{
		"none": {nil, nil},
		"ready and starting": {
			[]corev1.EndpointSubset{{Ports: web, Addresses: []corev1.EndpointAddress{address("10.0.0.2", "b")}, NotReadyAddresses: []corev1.EndpointAddress{address("10.0.0.1", "a")}}},
			[]endpoint.Endpoint{pod("10.0.0.1", "a", 8012, endpoint.H1, endpoint.Starting), pod("10.0.0.2", "b", 8012, endpoint.H1, endpoint.Ready)},
		},
		"h2c over IPv6": {
			[]corev1.EndpointSubset{{Ports: h2, Addresses: []corev1.EndpointAddress{address("fd00::1", "a")}}},
			[]endpoint.Endpoint{pod("fd00::1", "a", 8013, endpoint.H2C, endpoint.Ready)},
		},
		"metrics alone":          {[]corev1.EndpointSubset{{Ports: web[:1], Addresses: []corev1.EndpointAddress{address("10.0.0.1", "a")}}}, nil},
		"an address of nonsense": {[]corev1.EndpointSubset{{Ports: web, Addresses: []corev1.EndpointAddress{address("nonsense", "a")}}}, nil},
		"by hand, without a pod": {
			[]corev1.EndpointSubset{{Ports: web, Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}}}},
			[]endpoint.Endpoint{pod("10.0.0.1", "10.0.0.1", 8012, endpoint.H1, endpoint.Ready)},
		},
		"twice, the ready state counts": {
			[]corev1.EndpointSubset{
				{Ports: web, NotReadyAddresses: []corev1.EndpointAddress{address("10.0.0.1", "a")}},
				{Ports: web, Addresses: []corev1.EndpointAddress{address("10.0.0.1", "a")}},
			},
			[]endpoint.Endpoint{pod("10.0.0.1", "a", 8012, endpoint.H1, endpoint.Ready)},
		},
	} {
		got := podsOf(&corev1.Endpoints{Subsets: tc.subsets})
		if d := cmp.Diff(tc.want, got, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: podsOf (-want +got):\n%s", name, d)
		}
	}
}

// TestShareKeepsToTheLimit: over all activators no pod has more slots than its limit, or than one per sharer, no pod is
// left out, and no activator is without a slot in a pod that is ready, when there is one, nor in one that starts.
func TestShareKeepsToTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 12).Draw(t, "limit")
		states, pods := map[string]endpoint.State{}, []endpoint.Endpoint{}
		for i := range rapid.IntRange(1, 15).Draw(t, "pods") {
			ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String()
			states[ip] = rapid.SampledFrom([]endpoint.State{endpoint.Ready, endpoint.Starting}).Draw(t, "state")
			pods = append(pods, pod(ip, ip, 8012, endpoint.H1, states[ip]))
		}
		there := map[endpoint.State]bool{}
		for _, s := range states {
			there[s] = true
		}
		var activators []netip.Addr
		for i := range rapid.IntRange(2, 15).Draw(t, "activators") {
			activators = append(activators, netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}))
		}
		given, sharers := map[string]int{}, map[string]int{}
		for _, a := range activators {
			has := map[endpoint.State]bool{}
			for uid, n := range Share(pods, activators, a, limit) {
				given[uid] += n
				sharers[uid]++
				has[states[uid]] = true
			}
			if d := cmp.Diff(there, has); d != "" {
				t.Fatalf("activator %v: states of the pods that it has slots in (-there are +it has):\n%s", a, d)
			}
		}
		for _, p := range pods {
			if n := given[p.Pod.UID]; n == 0 || n > max(limit, sharers[p.Pod.UID]) || n < limit {
				t.Fatalf("pod %s: %d slots given to %d activators, limit %d", p.Pod.UID, n, sharers[p.Pod.UID], limit)
			}
		}
	})
}

func TestShareWithoutDivision(t *testing.T) {
	pods := []endpoint.Endpoint{pod("10.0.0.1", "a", 8012, endpoint.H1, endpoint.Ready)}
	self, other := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2")
	for name, got := range map[string]map[string]int{
		"no limit": Share(pods, []netip.Addr{self, other}, self, 0),
		"alone":    Share(pods, []netip.Addr{self}, self, 5),
		"unlisted": Share(pods, []netip.Addr{other, netip.MustParseAddr("10.1.0.3")}, self, 5),
	} {
		if got != nil {
			t.Errorf("%s: Share = %v, want nil", name, got)
		}
	}
}

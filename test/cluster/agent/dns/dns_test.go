package dns

import (
	"fmt"
	"math"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func newServer(t *testing.T, endpoints int) *Server {
	t.Helper()
	six := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: "db-2", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
		AddressType: discoveryv1.AddressTypeIPv6,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"fd00::2"}, Hostname: new("db-2")}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: "db-1", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for i := range endpoints {
		ready, host := i != 1, fmt.Sprintf("db-%d", i)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()}, Hostname: &host,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	s := New(netip.AddrPort{}, fake.NewClientset(
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "both"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.8", ClusterIPs: []string{"10.96.0.8", "fd00::8"}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}},
		slice, six))
	s.factory.Start(t.Context().Done())
	s.factory.WaitForCacheSync(t.Context().Done())
	return s
}

func ask(t *testing.T, s *Server, name string, kind dnsmessage.Type, limit int) dnsmessage.Message {
	t.Helper()
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	packet, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(s.answer(packet, limit)); err != nil || m.ID != 7 {
		t.Fatalf("answer to %s: %v", name, err)
	}
	return m
}

func TestAnswers(t *testing.T) {
	s := newServer(t, 3)
	for _, tc := range []struct {
		name  string
		kind  dnsmessage.Type
		code  dnsmessage.RCode
		addrs string
	}{
		{"web.ns.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "[10.96.0.7]"},
		{"WEB.ns.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "[10.96.0.7]"},
		{"web.ns.svc.cluster.local.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, "[]"},
		{"both.ns.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "[10.96.0.8]"},
		{"both.ns.svc.cluster.local.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, "[fd00::8]"},
		{"both.ns.svc.cluster.local.", dnsmessage.TypeTXT, dnsmessage.RCodeSuccess, "[]"},
		{"web.other.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "[]"},
		{"db.ns.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "[10.0.0.0 10.0.0.2]"},
		{"db-2.db.ns.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "[10.0.0.2]"},
		{"db.ns.svc.cluster.local.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, "[fd00::2]"},
		{"db-2.db.ns.svc.cluster.local.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, "[fd00::2]"},
		{"db-1.db.ns.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "[]"},
		{"example.com.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "[]"},
		{"svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, "[]"},
	} {
		m := ask(t, s, tc.name, tc.kind, maxUDP)
		addrs := []netip.Addr{}
		for _, a := range m.Answers {
			switch body := a.Body.(type) {
			case *dnsmessage.AResource:
				addrs = append(addrs, netip.AddrFrom4(body.A))
			case *dnsmessage.AAAAResource:
				addrs = append(addrs, netip.AddrFrom16(body.AAAA))
			}
		}
		if m.RCode != tc.code || fmt.Sprint(addrs) != tc.addrs {
			t.Errorf("%s %v = %v %v, want %v %v", tc.name, tc.kind, m.RCode, addrs, tc.code, tc.addrs)
		}
	}
}

func TestManyAddressesGoByTCP(t *testing.T) {
	s := newServer(t, 300)
	if m := ask(t, s, "db.ns.svc.cluster.local.", dnsmessage.TypeA, maxUDP); !m.Truncated || len(m.Answers) != 0 {
		t.Errorf("by UDP: truncated %t, %d answers, want a hint to use TCP", m.Truncated, len(m.Answers))
	}
	if m := ask(t, s, "db.ns.svc.cluster.local.", dnsmessage.TypeA, math.MaxUint16); m.Truncated || len(m.Answers) != 299 {
		t.Errorf("by TCP: truncated %t, %d answers, want 299", m.Truncated, len(m.Answers))
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x02ns\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01"))
	s := New(netip.AddrPort{}, fake.NewClientset())
	f.Fuzz(func(t *testing.T, packet []byte) {
		if out := s.answer(packet, maxUDP); len(out) > maxUDP {
			t.Errorf("%d bytes by UDP", len(out))
		}
	})
}

// Package dns answers for the names of Services and of their pods, from informers:
//
//	SERVICE.NAMESPACE.svc.cluster.local           the ClusterIPs, or, headless, the ready endpoints' addresses
//	HOSTNAME.SERVICE.NAMESPACE.svc.cluster.local  an endpoint with that host name (StatefulSets)
//
// Everything else is NXDOMAIN: there is no outside. A and AAAA over UDP and TCP; the family that a Service hasn't is answered with nothing, so that
// clients go on at once. The rules are those of Kubernetes' DNS specification 1.1.0, sections 2.3 and 2.4, without SRV and PTR.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
)

const (
	zone = "svc.cluster.local"
	ttl  = 5 // seconds, as CoreDNS has it
	// maxUDP is the largest answer without TCP: RFC 1035, section 4.2.1. Clients that may have more by EDNS lose nothing but a round trip.
	maxUDP = 512
)

// Server answers questions. It is safe for concurrent use; Run starts and ends everything.
type Server struct {
	addr     netip.AddrPort
	factory  informers.SharedInformerFactory
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
}

// New returns a server that has not started.
func New(addr netip.AddrPort, client kubernetes.Interface) *Server {
	f := informers.NewSharedInformerFactory(client, 0)
	return &Server{addr: addr, factory: f, services: f.Core().V1().Services().Lister(), slices: f.Discovery().V1().EndpointSlices().Lister()}
}

// Run serves until ctx is done. It fails when the address is taken.
func (s *Server) Run(ctx context.Context) error {
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(s.addr))
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(s.addr))
	if err != nil {
		return errors.Join(fmt.Errorf("dns: %w", err), udp.Close())
	}
	s.factory.Start(ctx.Done())
	stop := context.AfterFunc(ctx, func() {
		udp.Close()
		tcp.Close()
	})
	defer stop()
	defer s.factory.Shutdown()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serveTCP(tcp)
	}()
	s.serveUDP(udp)
	<-done
	return nil
}

func (s *Server) serveUDP(conn *net.UDPConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		if answer := s.answer(buf[:n], maxUDP); answer != nil {
			_, _ = conn.WriteToUDPAddrPort(answer, from) // who asked will ask again
		}
	}
}

// answer returns nil for what is not a question.
func (s *Server) answer(packet []byte, limit int) []byte {
	var m dnsmessage.Message
	if m.Unpack(packet) != nil || m.Response || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	out := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true},
		Questions: m.Questions,
	}
	addrs, known := s.lookup(q.Name.String())
	if !known {
		out.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addrs {
		if body := record(q.Type, a); body != nil {
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: ttl}, Body: body})
		}
	}
	return pack(out, limit)
}

// record returns nil when an address is not what was asked for.
func record(kind dnsmessage.Type, a netip.Addr) dnsmessage.ResourceBody {
	switch {
	case kind == dnsmessage.TypeA && a.Is4():
		return &dnsmessage.AResource{A: a.As4()}
	case kind == dnsmessage.TypeAAAA && a.Is6():
		return &dnsmessage.AAAAResource{AAAA: a.As16()}
	}
	return nil
}

func pack(m dnsmessage.Message, limit int) []byte {
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	if len(b) > limit {
		m.Truncated, m.Answers = true, nil
		b, _ = m.Pack() // smaller than what was packed
	}
	return b
}

// lookup returns the addresses of both families behind a name, and whether the name exists.
func (s *Server) lookup(name string) (addrs []netip.Addr, known bool) {
	host, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), "."+zone)
	if !ok {
		return nil, false
	}
	parts := strings.Split(host, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, false
	}
	svc, err := s.services.Services(parts[len(parts)-1]).Get(parts[len(parts)-2])
	if err != nil {
		return nil, false
	}
	if len(parts) == 3 {
		addrs = s.endpoints(svc, parts[0])
		return addrs, len(addrs) > 0
	}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return s.endpoints(svc, ""), true
	}
	for _, text := range svc.Spec.ClusterIPs {
		if ip, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, ip)
		}
	}
	return addrs, true
}

// endpoints lists a Service's ready addresses, of one host name when it isn't empty.
func (s *Server) endpoints(svc *corev1.Service, hostname string) (addrs []netip.Addr) {
	list, err := s.slices.EndpointSlices(svc.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: svc.Name}))
	if err != nil {
		return nil
	}
	for _, slice := range list {
		for _, e := range slice.Endpoints {
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready
			if (!ready && !svc.Spec.PublishNotReadyAddresses) || (hostname != "" && (e.Hostname == nil || *e.Hostname != hostname)) {
				continue
			}
			// An address of type FQDN is not parsed.
			if a, err := netip.ParseAddr(e.Addresses[0]); err == nil {
				addrs = append(addrs, a)
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

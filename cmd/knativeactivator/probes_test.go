package main

import (
	"testing"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/forward/forwardtest"
	"github.com/rousehq/rouse/internal/identity"
)

func TestProbes(t *testing.T) {
	known, unknown := make(chan struct{}), make(chan struct{})
	close(known)
	kubelet := map[string]string{"user-agent": "kube-probe/1.36"}
	for name, tc := range map[string]struct {
		headers  map[string]string
		ready    chan struct{}
		draining bool
		status   int
		body     string
	}{
		"a request":            {nil, known, false, 299, "next"},
		"a request, too early": {nil, unknown, false, 299, "next"},
		"kubelet":              {kubelet, known, false, 200, "ok\n"},
		"kubelet by header":    {map[string]string{"k-kubelet-probe": "queue"}, known, false, 200, "ok\n"},
		"kubelet, draining":    {kubelet, known, true, 500, "draining\n"},
		"the autoscaler's":     {map[string]string{"k-network-probe": "activator"}, unknown, true, 200, "activator"},
		"an ingress's":         {map[string]string{"k-network-probe": "probe", "k-network-hash": "h"}, known, false, 200, ""},
		"without a hash":       {map[string]string{"k-network-probe": "probe"}, known, false, 400, "a network probe needs the header K-Network-Hash\n"},
		"somebody else's":      {map[string]string{"k-network-probe": "queue"}, known, false, 400, "unexpected probe header value: queue\n"},
	} {
		p := &probes{ready: tc.ready, next: forward.HandlerFunc(func(x forward.Exchange) { x.Reply(299, "", "next") })}
		p.draining.Store(tc.draining)
		x := forwardtest.New("cart.example.com")
		for k, v := range tc.headers {
			x.Headers[k] = v
		}
		p.ServeExchange(x)
		if x.Status != tc.status || x.Body != tc.body {
			t.Errorf("%s: answered %d %q, want %d %q", name, x.Status, x.Body, tc.status, tc.body)
		}
		if x.Probe != (tc.headers != nil) {
			t.Errorf("%s: marked as a probe %t", name, x.Probe)
		}
	}
}

func TestHosts(t *testing.T) {
	for host, want := range map[string]identity.Key{
		"cart-00001.shop.svc.cluster.local":    {Namespace: "shop", Name: "cart-00001"},
		"cart-00001.shop.svc.cluster.local:80": {Namespace: "shop", Name: "cart-00001"},
		"cart-00001.shop.svc":                  {Namespace: "shop", Name: "cart-00001"},
		"cart.example.com":                     {},
		"":                                     {},
		".shop.svc":                            {},
	} {
		x := forwardtest.New(host)
		got, ok := hosts{}.Route(x)
		if ok != (want != identity.Key{}) || got.Revision != want {
			t.Errorf("Route(%q) = %v %t, want %v", host, got.Revision, ok, want)
		}
	}
	var _ activator.Router = hosts{}
}

package main

import (
	"strings"
	"sync/atomic"

	"github.com/rousehq/rouse/activator"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
)

const (
	probeHeader    = "K-Network-Probe"
	probeActivator = "activator"
	probeNetwork   = "probe"
	hashHeader     = "K-Network-Hash"
	kubeletHeader  = "K-Kubelet-Probe"
	kubeletAgent   = "kube-probe/"
)

// probes answers what is asked of the activator itself and hands on the rest.
type probes struct {
	next     forward.Handler
	ready    <-chan struct{} // closed once revisions and pods are known
	draining atomic.Bool
}

// ServeExchange implements forward.Handler.
func (p *probes) ServeExchange(x forward.Exchange) {
	asked := x.Header(probeHeader)
	kubelet := x.Header(kubeletHeader) != nil || strings.HasPrefix(string(x.Header("User-Agent")), kubeletAgent)
	if !kubelet && asked == nil {
		p.next.ServeExchange(x)
		return
	}
	x.MarkProbe() // who asks for the activator's own state does not keep it from ending
	switch {
	case kubelet:
		p.kubelet(x)
	case string(asked) == probeActivator:
		x.Reply(200, "text/plain; charset=utf-8", probeActivator)
	case string(asked) == probeNetwork:
		network(x)
	default:
		x.Reply(400, "text/plain; charset=utf-8", "unexpected probe header value: "+string(asked)+"\n")
	}
}

// kubelet is told whether requests can be served: the autoscaler's absence is no reason to be restarted or left out.
func (p *probes) kubelet(x forward.Exchange) {
	if p.draining.Load() {
		x.Reply(500, "text/plain; charset=utf-8", "draining\n")
		return
	}
	select {
	case <-p.ready:
		x.Reply(200, "text/plain; charset=utf-8", "ok\n")
	default:
		x.Reply(500, "text/plain; charset=utf-8", "revisions and pods are not known yet: is the API server reachable, with the right to list "+
			"revisions.serving.knative.dev and endpoints?\n")
	}
}

// network answers an ingress that asks whether its routing leads here.
func network(x forward.Exchange) {
	hash := x.Header(hashHeader)
	if len(hash) == 0 {
		x.Reply(400, "text/plain; charset=utf-8", "a network probe needs the header "+hashHeader+"\n")
		return
	}
	x.SetResponse(hashHeader, string(hash))
	x.Reply(200, "", "")
}

// hosts routes requests without revision headers by the name of the revision's Service: NAME.NAMESPACE.svc….
type hosts struct{}

// Route implements activator.Router. A name that no revision bears is answered 404 by the activator.
func (hosts) Route(x forward.Exchange) (activator.Route, bool) {
	host, _, _ := strings.Cut(string(x.Host()), ":")
	parts := strings.Split(host, ".")
	if len(parts) < 3 || parts[2] != "svc" || parts[0] == "" || parts[1] == "" {
		return activator.Route{}, false
	}
	return activator.Route{Revision: identity.Key{Namespace: parts[1], Name: parts[0]}}, true
}

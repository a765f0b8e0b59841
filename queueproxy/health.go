package queueproxy

import (
	"time"

	"github.com/rousehq/rouse/internal/forward"
)

// Probes: how they are known, and what queue-proxies are asked.
const (
	probeHeader    = "K-Network-Probe"
	probeQueue     = "queue"
	probeNetwork   = "probe"
	hashHeader     = "K-Network-Hash"
	kubeletHeader  = "K-Kubelet-Probe"
	kubeletAgent   = "kube-probe/"
	activatorAgent = "Knative-Activator-Probe"
	scalerAgent    = "Knative-Autoscaling-Probe"
)

// isProbe knows a probe by its User-Agent or by the header that kubelet is configured to send.
func isProbe(x forward.Exchange) bool {
	agent := x.Header("User-Agent")
	return hasPrefix(agent, kubeletAgent) || hasPrefix(agent, activatorAgent) || hasPrefix(agent, scalerAgent) ||
		x.Header(kubeletHeader) != nil
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

func (p *Proxy) serveProbe(x forward.Exchange, answer func(forward.Exchange) (status int, body string)) {
	status, body := answer(x)
	x.Reply(status, "text/plain; charset=utf-8", body)
	if p.deps.Log != nil && p.deps.Log.Probes() {
		p.deps.Log.Record(x, status, int64(len(body)), time.Since(x.Received()))
	}
}

// network answers an ingress that asks whether its routing leads here: by what it sent, whether the application is
// ready or not.
func (p *Proxy) network(x forward.Exchange) (status int, body string) {
	hash := x.Header(hashHeader)
	switch {
	case p.unready():
		return 503, "draining\n"
	case len(hash) == 0:
		return 400, "a network probe needs the header " + hashHeader + "\n"
	}
	x.SetResponse(hashHeader, string(hash))
	return 200, ""
}

// health says whether the pod may be given requests.
func (p *Proxy) health(x forward.Exchange) (status int, body string) {
	asked := x.Header(probeHeader)
	switch {
	case asked != nil && string(asked) != probeQueue:
		return 400, "unexpected probe header value: " + string(asked) + "\n"
	case p.another(x):
		return 503, "this is a pod of another revision\n"
	case p.unready():
		return 503, "draining\n"
	case p.deps.Ready != nil && !p.deps.Ready(p.probing):
		return 503, "queue not ready\n"
	case p.unready(): // it began while the application was asked
		return 503, "draining\n"
	default:
		return 200, probeQueue
	}
}

// another says that a question is for a pod of another revision, which had this address before. Whoever asks for none in
// particular means this one.
func (p *Proxy) another(x forward.Exchange) bool {
	differs := func(asked []byte, own string) bool { return len(asked) > 0 && own != "" && string(asked) != own }
	return differs(x.Header(headerNamespace), p.cfg.Revision.Namespace) || differs(x.Header(headerRevision), p.cfg.Revision.Name)
}

func (p *Proxy) unready() bool { return p.Draining() || p.paused.Load() > 0 }

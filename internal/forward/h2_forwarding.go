package forward

import (
	"net/http"
	"net/netip"
	"strings"
)

// apply adds the forwarding headers to a request that net/http sends. Forwarded is built first, out of what the
// client sent: that is the order in which Knative's queue-proxy does it.
func (f Forwarding) apply(h http.Header, client netip.Addr, host string, tls bool) {
	if f.Forwarded && len(h["Forwarded"]) == 0 {
		if v := buildForwarded(strings.Join(h["X-Forwarded-For"], ", "), h.Get("X-Forwarded-Host"), h.Get("X-Forwarded-Proto")); v != "" {
			h["Forwarded"] = []string{v}
		}
	}
	if f.appendsClient() && client.IsValid() {
		h["X-Forwarded-For"] = []string{strings.Join(append(h["X-Forwarded-For"][:len(h["X-Forwarded-For"]):len(h["X-Forwarded-For"])], client.String()), ", ")}
	}
	if !f.XForwarded {
		return
	}
	if len(h["X-Forwarded-Host"]) == 0 {
		h["X-Forwarded-Host"] = []string{host}
	}
	if len(h["X-Forwarded-Proto"]) == 0 {
		h["X-Forwarded-Proto"] = []string{scheme(tls)}
	}
}

func scheme(tls bool) string {
	if tls {
		return "https"
	}
	return "http"
}

// buildForwarded makes a Forwarded header (RFC 7239) out of the X-Forwarded-* headers.
func buildForwarded(xff, host, proto string) string {
	var b strings.Builder
	for node := range strings.SplitSeq(xff, ",") {
		if node = strings.TrimSpace(node); node == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		first := b.Len() == 0
		b.WriteString("for=" + forwardedNode(node))
		if first {
			b.WriteString(hostAndProto(";", host, proto))
		}
	}
	if b.Len() == 0 {
		return strings.TrimPrefix(hostAndProto(";", host, proto), ";")
	}
	return b.String()
}

func hostAndProto(sep, host, proto string) string {
	s := ""
	if host != "" {
		s += sep + "host=" + host
	}
	if proto != "" {
		s += sep + "proto=" + proto
	}
	return s
}

// forwardedNode quotes an IPv6 address, in brackets.
func forwardedNode(node string) string {
	if a, err := netip.ParseAddr(strings.Trim(node, "[]")); err == nil && a.Is6() {
		return `"[` + strings.Trim(node, "[]") + `]"`
	}
	return node
}

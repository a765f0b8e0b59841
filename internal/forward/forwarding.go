package forward

import "bytes"

// This file adds Forwarded and X-Forwarded-* by the rules of [Forwarding].

// keepForwarding says whether a forwarding field stays where it is; X-Forwarded-For fields are joined at the end of
// the head when our client's address is added to them, and an empty Forwarded is replaced.
func (c *conn) keepForwarding(f *field) bool {
	rules := c.srv.cfg.Forwarding
	switch {
	case f.drop:
		return false
	case f.kind == kindXFF:
		return !rules.appendsClient()
	case f.kind == kindForwarded:
		return f.end > f.value || !rules.Forwarded
	}
	return true
}

// appendForwarding adds the fields that the request lacks.
func (c *conn) appendForwarding(out []byte) []byte {
	rules := c.srv.cfg.Forwarding
	if !rules.appendsClient() && !rules.Forwarded {
		return out
	}
	var chain [128]byte // small: a larger frame doubles the stack of every connection
	nodes := c.appendChain(chain[:0])
	if rules.Forwarded && find(c.edits.req, forwardedName) == nil && len(c.firstOf(kindForwarded)) == 0 {
		out = c.appendForwarded(out, nodes)
	}
	if rules.appendsClient() {
		if c.remote.IsValid() {
			nodes = c.remote.Addr().AppendTo(separated(nodes))
		}
		if find(c.edits.req, xffName) == nil && len(nodes) > 0 {
			out = append(append(append(out, "X-Forwarded-For: "...), nodes...), "\r\n"...)
		}
	}
	if rules.XForwarded {
		if !c.req.has(kindXFProto) && find(c.edits.req, xfProtoName) == nil {
			out = append(append(append(out, "X-Forwarded-Proto: "...), c.scheme()...), "\r\n"...)
		}
		if host := c.Host(); !c.req.has(kindXFHost) && find(c.edits.req, xfHostName) == nil && len(host) > 0 {
			out = append(append(append(out, "X-Forwarded-Host: "...), host...), "\r\n"...)
		}
	}
	return out
}

var (
	xffName       = []byte("X-Forwarded-For")
	xfProtoName   = []byte("X-Forwarded-Proto")
	xfHostName    = []byte("X-Forwarded-Host")
	forwardedName = []byte("Forwarded")
)

func (c *conn) scheme() string {
	if c.tls {
		return "https"
	}
	return "http"
}

// firstOf returns the value of the first field of a kind that is not dropped.
func (c *conn) firstOf(k kind) []byte {
	if !c.req.has(k) {
		return nil
	}
	for i := range c.req.fields {
		if f := &c.req.fields[i]; f.kind == k && !f.drop {
			return f.val(c.in.b)
		}
	}
	return nil
}

// appendChain writes the nodes of all X-Forwarded-For fields.
func (c *conn) appendChain(out []byte) []byte {
	if c.req.has(kindXFF) {
		for i := range c.req.fields {
			if f := &c.req.fields[i]; f.kind == kindXFF && !f.drop && f.end > f.value {
				out = append(separated(out), f.val(c.in.b)...)
			}
		}
	}
	return out
}

func separated(out []byte) []byte {
	if len(out) > 0 {
		out = append(out, ", "...)
	}
	return out
}

// appendForwarded writes a Forwarded field built from the X-Forwarded-* fields that came with the request, as
// Knative does: the first node gets host and proto.
func (c *conn) appendForwarded(out, nodes []byte) []byte {
	start := len(out)
	out = append(out, "Forwarded: "...)
	empty := len(out)
	host, proto := c.firstOf(kindXFHost), c.firstOf(kindXFProto)
	var node []byte
	node, nodes = nextToken(nodes)
	out = appendNode(out, node)
	out = appendPair(out, empty, "host=", host)
	out = appendPair(out, empty, "proto=", proto)
	for len(nodes) > 0 {
		node, nodes = nextToken(nodes)
		out = appendNode(append(out, ", "...), node)
	}
	if len(out) == empty {
		return out[:start]
	}
	return append(out, "\r\n"...)
}

func appendNode(out, node []byte) []byte {
	if len(node) == 0 {
		return out
	}
	out = append(out, "for="...)
	if bytes.IndexByte(node, ':') < 0 {
		return append(out, node...)
	}
	return append(append(append(out, `"[`...), node...), `]"`...)
}

func appendPair(out []byte, empty int, key string, value []byte) []byte {
	if len(value) == 0 {
		return out
	}
	if len(out) > empty {
		out = append(out, ';')
	}
	return append(append(out, key...), value...)
}

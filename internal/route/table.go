package route

import (
	"bytes"
	"net/netip"
)

// Hot path: one lookup per request. Budget: 100 ns and no allocation for a host with a weighted split
// (BenchmarkLookup). Map lookups by string(bytes) in index position do not copy; that is why keys are never kept in
// a variable. Lost: one radix tree over reversed hosts (slower than a map for exact hosts, which nearly all are).

// Table routes requests. It is immutable and safe for concurrent use.
type Table struct {
	exact map[string]*entry // by host
	wild  map[string]*entry // by suffix, its dot in front
	any   *entry            // "*", or nil
	seqs  map[string]*sequence
}

// entry is what stands under one host pattern.
type entry struct {
	answers []*answer          // of this pattern and of all that cover it
	root    []*rule            // of path "/"
	paths   map[string][]*rule // of other prefixes
	longest int                // prefix in paths
}

// rule is one route under one path, most header matches first among its equals.
type rule struct {
	name    string
	headers []HeaderMatch
	split   split
}

// answer is an Answer with its path cleaned.
type answer struct {
	Answer
	path string // without final slash; empty is every path
}

// Lookup finds what answers a request. header returns a header's first value, nil when there is none. pick chooses
// among the backends of a split as a fraction of 2^64: the hash of a session keeps a client on one revision. Use
// [Table.Next] to have the percentages kept instead. It reports false when nothing matches.
func (t *Table) Lookup(host, path []byte, header func(name string) []byte, pick uint64) (Target, bool) {
	r, a := t.match(host, path, header)
	if r == nil {
		return unrouted(a)
	}
	return target(r, r.split.at(pick), a), true
}

// Next is Lookup with the next point of the split's own sequence.
func (t *Table) Next(host, path []byte, header func(name string) []byte) (Target, bool) {
	r, a := t.match(host, path, header)
	if r == nil {
		return unrouted(a)
	}
	b := &r.split.to[0]
	if len(r.split.to) > 1 {
		b = r.split.at(r.split.seq.next())
	}
	return target(r, b, a), true
}

func target(r *rule, b *Backend, a *answer) Target {
	t := Target{Route: r.name, Revision: b.Revision, Tag: b.Tag}
	if a != nil {
		t.Answer = &a.Answer
	}
	return t
}

// unrouted is a request that no route takes: only an answer that needs no revision helps.
func unrouted(a *answer) (Target, bool) {
	if a == nil || a.Mode != Always {
		return Target{}, false
	}
	return Target{Route: a.Name, Answer: &a.Answer}, true
}

// match walks the patterns that cover the host, narrowest first. The first of them knows every answer that can
// apply; routes may be found at any.
func (t *Table) match(host, path []byte, header func(string) []byte) (*rule, *answer) {
	var buf hostBuf
	h := normalize(&buf, host)
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	m := matcher{path: path, header: header}
	t.walk(h, &m)
	if m.first == nil {
		return m.rule, nil
	}
	return m.rule, m.first.answerTo(&m)
}

// walk visits the patterns that cover the host until one has a route.
func (t *Table) walk(h []byte, m *matcher) {
	if m.at(t.exact[string(h)]) {
		return
	}
	if len(t.wild) > 0 {
		for i := range h {
			if h[i] == '.' && i > 0 && m.at(t.wild[string(h[i:])]) {
				return
			}
		}
	}
	if bytes.IndexByte(h, ':') >= 0 && m.at(t.exact[canonical(h)]) {
		return
	}
	m.at(t.any)
}

// canonical returns an IPv6 address in the form that tables hold; it is reached only by addresses that were not
// found as written, so it may allocate.
func canonical(h []byte) string {
	addr, err := netip.ParseAddr(string(h))
	if err != nil {
		return ""
	}
	return addr.String()
}

// matcher carries one lookup along the patterns.
type matcher struct {
	path   []byte
	header func(string) []byte
	first  *entry // the narrowest pattern that covers the host
	rule   *rule
}

// at tries one pattern and reports whether it has a route.
func (m *matcher) at(e *entry) bool {
	if e == nil {
		return false
	}
	if m.first == nil {
		m.first = e
	}
	m.rule = e.ruleFor(m.path, m.header)
	return m.rule != nil
}

func (e *entry) answerTo(m *matcher) *answer {
	for _, a := range e.answers {
		ofRoute := a.Route == "" || (m.rule != nil && m.rule.name == a.Route)
		if ofRoute && a.takes(m.path) && allMatch(a.Headers, m.header) {
			return a
		}
	}
	return nil
}

func (a *answer) takes(path []byte) bool {
	if a.PathExact {
		return string(path) == a.Path
	}
	n := len(a.path)
	return n == 0 || (len(path) >= n && string(path[:n]) == a.path && (len(path) == n || path[n] == '/'))
}

// ruleFor tries the prefixes of the path that end with a segment, longest first.
func (e *entry) ruleFor(path []byte, header func(string) []byte) *rule {
	if len(e.paths) > 0 {
		for end := e.firstEnd(path); end > 0; end = bytes.LastIndexByte(path[:end], '/') {
			if r := first(e.paths[string(path[:end])], header); r != nil {
				return r
			}
		}
	}
	return first(e.root, header)
}

// firstEnd is the end of the longest prefix of whole segments that can be in paths.
func (e *entry) firstEnd(path []byte) int {
	if len(path) <= e.longest {
		return len(path)
	}
	return bytes.LastIndexByte(path[:e.longest+1], '/')
}

func first(rules []*rule, header func(string) []byte) *rule {
	for _, r := range rules {
		if allMatch(r.headers, header) {
			return r
		}
	}
	return nil
}

func allMatch(ms []HeaderMatch, header func(string) []byte) bool {
	for i := range ms {
		if !ms[i].matches(header(ms[i].Name)) {
			return false
		}
	}
	return true
}

func (m *HeaderMatch) matches(v []byte) bool {
	switch m.Kind {
	case Present:
		return v != nil
	case Prefix:
		return len(v) >= len(m.Value) && string(v[:len(m.Value)]) == m.Value && v != nil
	case Contains:
		return v != nil && containsString(v, m.Value)
	}
	return v != nil && string(v) == m.Value
}

// containsString is bytes.Contains without converting the needle, which would allocate.
func containsString(v []byte, s string) bool {
	for i := 0; i+len(s) <= len(v); i++ {
		if string(v[i:i+len(s)]) == s {
			return true
		}
	}
	return false
}

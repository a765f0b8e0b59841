package forward

// This file is fast on purpose: one pass over a head finds its end, validates it and indexes its fields, without
// copying. Budget: 0.4 µs for ten fields, where fasthttp takes 0.6 and net/http 3.7 (BenchmarkScanRequest). Its
// oracle in tests is what net/http and fasthttp accept: the scanner accepts nothing that both refuse.

import (
	"bytes"

	"github.com/rousehq/rouse/internal/fault"
)

// kind names the header fields that the engine acts on.
type kind uint8

const (
	other kind = iota
	hopByHop
	kindHost
	kindConnection
	kindContentLength
	kindTransferEncoding
	kindUpgrade
	kindTE
	kindTrailer
	kindExpect
	kindContentType
	kindXFF
	kindXFProto
	kindXFHost
	kindForwarded
	kindNotAdmitted
)

// field is one header line. Offsets count from the start of the head, so that the head can move.
type field struct {
	start      uint32 // of the name
	value, end uint32 // the value without surrounding white space
	name       uint16 // length of the name
	kind       kind
	drop       bool // not forwarded
}

// maxFields bounds the index of a head, and maxTokens the names in its Connection fields, so that a hostile head
// costs no more than its bytes.
const (
	maxFields = 1000
	maxTokens = 64
)

// head is an indexed message head.
type head struct {
	fields []field
	line   uint32 // length of the first line, with its line end
	size   uint32 // length of the head, with the empty line
	pos    uint32 // scan position: start of the line that is being looked at
	from   uint32 // bytes before this one hold no line end

	major1     bool // not 1.0
	chunked    bool
	length     int64 // Content-Length; -1 when there is none
	close      bool  // Connection: close
	keepAlive  bool  // Connection: keep-alive
	upgrade    bool  // Connection: upgrade
	te         bool  // Connection: TE
	extra      bool  // Connection names other fields
	seen       uint32
	method     uint32 // request: length of the method
	targetFrom uint32 // request: start and end of the target
	targetTo   uint32
	status     int  // response
	twice      bool // Content-Length was repeated
	tokens     int  // in Connection fields
	host       field
}

func (h *head) reset() {
	f := h.fields
	if cap(f) > 64 {
		f = nil
	}
	*h = head{fields: f[:0], length: -1}
}

func (h *head) has(k kind) bool { return h.seen&(1<<k) != 0 }

// scanRequest continues with b, which begins with the head. It returns true when the head is complete. cause is not
// None when the request must be refused.
func (h *head) scanRequest(b []byte, maxHead, maxTarget int) (done bool, cause fault.Cause) {
	for {
		line, ok := h.nextLine(b)
		if line == nil {
			if !ok {
				return false, fault.BadRequest
			}
			return false, h.tooLong(b, maxHead, maxTarget)
		}
		switch {
		case h.line == 0:
			h.line = h.pos
			if c := h.requestLine(line, maxTarget); c != fault.None {
				return false, c
			}
		case len(line) == 0:
			h.size = h.pos
			if int(h.size) > maxHead {
				return false, fault.HeadTooLarge
			}
			cause = h.checkRequest(b)
			return cause == fault.None, cause
		case len(h.fields) == maxFields:
			return false, fault.HeadTooLarge
		case !h.field(b, line):
			return false, fault.BadRequest
		}
	}
}

// nextLine returns the next line without its line end; nil when it is not complete (ok) or not valid (!ok).
func (h *head) nextLine(b []byte) (line []byte, ok bool) {
	i := bytes.IndexByte(b[h.from:], '\n')
	if i < 0 {
		h.from = uint32(len(b))
		return nil, true
	}
	eol := int(h.from) + i
	start := int(h.pos)
	if eol == start || b[eol-1] != '\r' {
		return nil, false
	}
	h.pos = uint32(eol + 1)
	h.from = h.pos
	return b[start : eol-1 : eol-1], true
}

// tooLong decides about an incomplete head.
func (h *head) tooLong(b []byte, maxHead, maxTarget int) fault.Cause {
	const method = 64 // room for method and version
	switch {
	case h.line == 0 && len(b) > maxTarget+method:
		return fault.TargetTooLong
	case len(b) > maxHead:
		return fault.HeadTooLarge
	}
	return fault.None
}

func (h *head) requestLine(line []byte, maxTarget int) fault.Cause {
	sp := bytes.IndexByte(line, ' ')
	last := len(line) - len(" HTTP/1.1")
	if sp <= 0 || last <= sp || !isToken(line[:sp]) {
		return fault.BadRequest
	}
	switch string(line[last:]) {
	case " HTTP/1.1":
		h.major1 = true
	case " HTTP/1.0":
	default:
		return fault.BadRequest
	}
	h.method, h.targetFrom, h.targetTo = uint32(sp), uint32(sp+1), uint32(last)
	target := line[sp+1 : last]
	if len(target) > maxTarget {
		return fault.TargetTooLong
	}
	if !validTarget(line[:sp], target) {
		return fault.BadRequest
	}
	return fault.None
}

// validTarget accepts the origin form, the absolute form and, for OPTIONS, the asterisk.
func validTarget(method, target []byte) bool {
	if len(target) == 0 {
		return false
	}
	for _, c := range target {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	switch target[0] {
	case '/':
		return string(method) != "CONNECT"
	case '*':
		return len(target) == 1 && string(method) == "OPTIONS"
	}
	return string(method) != "CONNECT" && len(authority(target)) > 0
}

// authority returns the authority of a target in absolute form, nil for the other forms.
func authority(target []byte) []byte {
	var rest []byte
	switch {
	case len(target) > 7 && fold(target[:7], "http://"):
		rest = target[7:]
	case len(target) > 8 && fold(target[:8], "https://"):
		rest = target[8:]
	default:
		return nil
	}
	if i := bytes.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	if bytes.IndexByte(rest, '@') >= 0 {
		return nil
	}
	return rest
}

// field indexes a header line. line is part of b.
func (h *head) field(b, line []byte) bool {
	n := 0
	for n < len(line) && tokens[line[n]] {
		n++
	}
	if n == 0 || n == len(line) || line[n] != ':' || n > 0xffff {
		return false // also an obs-fold, which begins with white space
	}
	v, e := n+1, len(line)
	for v < e && (line[v] == ' ' || line[v] == '\t') {
		v++
	}
	for e > v && (line[e-1] == ' ' || line[e-1] == '\t') {
		e--
	}
	if hasControl(line[v:e]) {
		return false
	}
	start := int(h.pos) - len(line) - 2
	f := field{start: uint32(start), value: uint32(start + v), end: uint32(start + e), name: uint16(n)}
	f.kind = classify(line[:n])
	if f.kind != other {
		if !h.known(&f, line[v:e]) {
			return false
		}
	}
	h.fields = append(h.fields, f)
	return true
}

// known notes what a field that the engine acts on says.
func (h *head) known(f *field, v []byte) bool {
	twice := h.has(f.kind)
	h.seen |= 1 << f.kind
	switch f.kind {
	case kindHost:
		h.host = *f
		return !twice
	case kindContentLength:
		n, ok := parseLength(v)
		if twice && n != h.length {
			return false
		}
		f.drop = twice
		if twice {
			h.twice = true // responses may repeat it, requests may not
		}
		h.length = n
		return ok
	case kindTransferEncoding:
		h.chunked = true
		return !twice && len(v) == 7 && fold(v, "chunked")
	case kindConnection:
		f.drop = true
		return h.connection(v)
	case hopByHop, kindUpgrade, kindTE, kindNotAdmitted:
		f.drop = true
	}
	return true
}

// connection reads the tokens of a Connection field.
func (h *head) connection(v []byte) bool {
	for len(v) > 0 {
		var t []byte
		if t, v = nextToken(v); len(t) == 0 {
			continue
		}
		if h.tokens++; h.tokens > maxTokens {
			return false
		}
		switch {
		case fold(t, "close"):
			h.close = true
		case fold(t, "keep-alive"):
			h.keepAlive = true
		case fold(t, "upgrade"):
			h.upgrade = true
		case fold(t, "te"):
			h.te = true
		default:
			h.extra = true
		}
	}
	return true
}

// checkRequest decides what follows from all fields together.
func (h *head) checkRequest(b []byte) fault.Cause {
	switch {
	case h.chunked && (h.length >= 0 || !h.major1),
		h.twice,
		!h.has(kindHost) && h.major1,
		h.has(kindHost) && !validHost(b[h.host.value:h.host.end]):
		return fault.BadRequest
	}
	if h.extra {
		h.dropNamed(b)
	}
	return fault.None
}

// dropNamed drops the fields that Connection names. Framing and Host cannot be dropped so.
func (h *head) dropNamed(b []byte) {
	for i := range h.fields {
		if h.fields[i].kind != kindConnection {
			continue
		}
		for v := h.fields[i].val(b); len(v) > 0; {
			var t []byte
			t, v = nextToken(v)
			for j := range h.fields {
				f := &h.fields[j]
				switch f.kind {
				case kindHost, kindContentLength, kindTransferEncoding:
				default:
					if len(t) == int(f.name) && bytes.EqualFold(t, f.nameOf(b)) {
						f.drop = true
					}
				}
			}
		}
	}
}

func (f *field) val(b []byte) []byte    { return b[f.value:f.end] }
func (f *field) nameOf(b []byte) []byte { return b[f.start : f.start+uint32(f.name)] }

// nextToken cuts the next element off a comma-separated list.
func nextToken(v []byte) (token, rest []byte) {
	if i := bytes.IndexByte(v, ','); i >= 0 {
		return bytes.Trim(v[:i], " \t"), v[i+1:]
	}
	return bytes.Trim(v, " \t"), nil
}

// scanResponse continues with b. It returns true when the head is complete; ok is false when it is not valid.
func (h *head) scanResponse(b []byte) (done, ok bool) {
	for {
		line, ok := h.nextLine(b)
		switch {
		case line == nil:
			return false, ok
		case h.line == 0:
			h.line = h.pos
			if !h.statusLine(line) {
				return false, false
			}
		case len(line) == 0:
			h.size = h.pos
			if h.extra {
				h.dropNamed(b)
			}
			return true, true
		case len(h.fields) == maxFields, !h.field(b, line):
			return false, false
		}
	}
}

func (h *head) statusLine(line []byte) bool {
	if len(line) < len("HTTP/1.1 200") || hasControl(line) {
		return false
	}
	switch string(line[:9]) {
	case "HTTP/1.1 ":
		h.major1 = true
	case "HTTP/1.0 ":
	default:
		return false
	}
	if len(line) > 12 && line[12] != ' ' {
		return false
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return false
		}
		h.status = h.status*10 + int(c-'0')
	}
	return h.status >= 100
}

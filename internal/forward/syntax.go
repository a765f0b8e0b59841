package forward

// This file is the grammar of single elements of a head: tokens, values, lengths, hosts, and the names that matter.

import "encoding/binary"

// parseLength reads a Content-Length: digits only.
func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// validHost accepts what RFC 3986 lets stand in an authority, without user information.
func validHost(v []byte) bool {
	for _, c := range v {
		if !hostBytes[c] {
			return false
		}
	}
	return true
}

// isToken reports that b is an RFC 9110 token.
func isToken(b []byte) bool {
	for _, c := range b {
		if !tokens[c] {
			return false
		}
	}
	return len(b) > 0
}

// hasControl reports a control character other than a tab. Eight bytes at a time are tested for one below 0x20
// or equal to 0x7f; a hit is looked at again, because a tab is one.
func hasControl(b []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		del := x ^ (0x7f * ones)
		if ((x-0x20*ones)&^x|(del-ones)&^del)&high != 0 && controlIn(b[:8]) {
			return true
		}
		b = b[8:]
	}
	return controlIn(b)
}

func controlIn(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// fold reports that b is lower but for the case of letters. lower holds lower-case letters and characters that
// setting bit 0x20 does not change; b holds no control characters.
func fold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c|0x20 != lower[i] {
			return false
		}
	}
	return true
}

// classify returns what a field name means to the engine.
func classify(n []byte) kind {
	switch len(n) {
	case 2:
		return when(n, "te", kindTE)
	case 4:
		return when(n, "host", kindHost)
	case 6:
		return when(n, "expect", kindExpect)
	case 7:
		if n[0]|0x20 == 'u' {
			return when(n, "upgrade", kindUpgrade)
		}
		return when(n, "trailer", kindTrailer)
	case 9:
		return when(n, "forwarded", kindForwarded)
	case 10:
		if n[0]|0x20 == 'k' {
			return when(n, "keep-alive", hopByHop)
		}
		return when(n, "connection", kindConnection)
	case 12:
		return when(n, "content-type", kindContentType)
	case 14:
		if n[0]|0x20 == 'h' {
			return when(n, "http2-settings", hopByHop)
		}
		return when(n, "content-length", kindContentLength)
	case 15:
		return when(n, "x-forwarded-for", kindXFF)
	case 16:
		if n[0]|0x20 == 'p' {
			return when(n, "proxy-connection", hopByHop)
		}
		return when(n, "x-forwarded-host", kindXFHost)
	}
	return classifyLong(n)
}

func classifyLong(n []byte) kind {
	switch len(n) {
	case 17:
		if n[0]|0x20 == 't' {
			return when(n, "transfer-encoding", kindTransferEncoding)
		}
		return when(n, "x-forwarded-proto", kindXFProto)
	case 18:
		if n[0]|0x20 == 'p' {
			return when(n, "proxy-authenticate", hopByHop)
		}
		return when(n, "rouse-not-admitted", kindNotAdmitted)
	case 19:
		return when(n, "proxy-authorization", hopByHop)
	}
	return other
}

func when(n []byte, lower string, k kind) kind {
	if fold(n, lower) {
		return k
	}
	return other
}

// tokens are the characters of an RFC 9110 token; hostBytes those of an authority.
var (
	tokens    = charset("!#$%&'*+-.^_`|~")
	hostBytes = charset("-._~!$&'()*+;=:[]%")
)

func charset(punctuation string) (t [256]bool) {
	for c := '0'; c <= 'z'; c++ {
		t[c] = c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a'
	}
	for _, c := range []byte(punctuation) {
		t[c] = true
	}
	return t
}

package route

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
)

// maxHost is the longest host name (RFC 1035).
const maxHost = 253

// hostBuf holds a host name in lower case.
type hostBuf [maxHost]byte

// normalize returns the host in lower case without port, brackets and final dot: in place when nothing is upper
// case, else in buf. Too long a host gives nil.
func normalize(buf *hostBuf, host []byte) []byte {
	host = bytes.TrimSuffix(withoutPort(host), []byte{'.'})
	if len(host) > maxHost {
		return nil
	}
	for i, c := range host {
		if c-'A' < 26 {
			return lower(buf, host, i)
		}
	}
	return host
}

func lower(buf *hostBuf, host []byte, from int) []byte {
	out := buf[:copy(buf[:], host)]
	for i := from; i < len(out); i++ {
		if c := out[i]; c-'A' < 26 {
			out[i] = c + ('a' - 'A')
		}
	}
	return out
}

// withoutPort cuts :port off. More than one colon without brackets is a bare IPv6 address.
func withoutPort(host []byte) []byte {
	if len(host) > 0 && host[0] == '[' {
		if end := bytes.IndexByte(host, ']'); end > 0 {
			return host[1:end]
		}
		return host
	}
	i := bytes.IndexByte(host, ':')
	if i < 0 || bytes.IndexByte(host[i+1:], ':') >= 0 {
		return host
	}
	return host[:i]
}

var (
	errEmptyHost = errors.New("is empty, must be a host name, *.suffix or *")
	errLongHost  = errors.New("is longer than 253 bytes")
	errHost      = errors.New("must be a host name or address without port, *.suffix or *; a star stands alone in front")
)

// pattern checks a configured host and returns it as tables hold it: lower case, an address in its canonical form.
func pattern(host string) (string, error) {
	if host == "*" {
		return host, nil
	}
	h := strings.ToLower(strings.TrimSuffix(host, "."))
	name, wild := strings.CutPrefix(h, "*.")
	switch {
	case name == "":
		return "", errEmptyHost
	case len(name) > maxHost:
		return "", errLongHost
	}
	if strings.IndexByte(name, ':') >= 0 && !wild {
		addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
		if err != nil {
			return "", errHost
		}
		return addr.String(), nil
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", errHost
		}
	}
	return h, nil
}

// covers reports whether every host that the narrow pattern matches is matched by the wide one too.
func covers(wide, narrow string) bool {
	if wide == "*" || wide == narrow {
		return true
	}
	suffix, wild := strings.CutPrefix(wide, "*")
	return wild && strings.HasSuffix(strings.TrimPrefix(narrow, "*"), suffix) && len(narrow) > len(suffix)
}

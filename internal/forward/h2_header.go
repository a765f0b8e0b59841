package forward

import (
	"net/http"
	"net/textproto"
	"slices"

	"golang.org/x/net/http/httpguts"
)

// connectionHeaders are the headers that concern one connection only (RFC 9110, section 7.6.1), besides those that
// Connection names. Te is handled apart: "trailers" goes on.
var connectionHeaders = [...]string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	"Proxy-Authenticate", "Proxy-Authorization",
}

// copyEndToEnd copies the headers of src that concern both ends into dst.
func copyEndToEnd(dst, src http.Header) {
	named := src["Connection"]
	for name, values := range src {
		if !connectionHeader(name) && !namedBy(named, name) {
			dst[name] = values
		}
	}
	for _, v := range src["Te"] {
		if httpguts.HeaderValuesContainsToken([]string{v}, "trailers") {
			dst["Te"] = []string{"trailers"}
		}
	}
}

func connectionHeader(name string) bool {
	for _, h := range connectionHeaders {
		if name == h {
			return true
		}
	}
	return false
}

// namedBy reports whether a Connection header names the header.
func namedBy(connection []string, name string) bool {
	return len(connection) > 0 && httpguts.HeaderValuesContainsToken(connection, name)
}

// announced returns the names of the trailers that a message says it will have.
func announced(trailer http.Header) []string {
	names := make([]string, 0, len(trailer))
	for name := range trailer {
		names = append(names, name)
	}
	return names
}

func applyEdits(h http.Header, edits []edit) {
	for _, e := range edits {
		name := textproto.CanonicalMIMEHeaderKey(e.name)
		switch {
		case e.beside:
			h[name] = append(slices.Clip(h[name]), e.value) // the slice may be another header's
		case e.remove:
			delete(h, name)
		default:
			h[name] = []string{e.value}
		}
	}
}

// quiet keeps net/http from adding headers that the sender did not send.
func quiet(h http.Header, names ...string) {
	for _, name := range names {
		if _, ok := h[name]; !ok {
			h[name] = nil
		}
	}
}

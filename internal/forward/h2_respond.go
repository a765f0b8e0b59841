package forward

import (
	"net/http"
	"strings"

	"github.com/rousehq/rouse/internal/fault"
)

// This file is the [responder] of an HTTP/2 stream.

func (x *h2Exchange) informational(status int, h http.Header) {
	out := x.w.Header()
	for name, values := range h {
		out[name] = values
	}
	x.w.WriteHeader(status)
	clear(out)
}

func (x *h2Exchange) begin(status int, h http.Header, length int64, trailers []string) error {
	out := x.w.Header()
	for name, values := range h {
		out[name] = values
	}
	quiet(out, "Content-Type", "Content-Length", "Date")
	if len(trailers) > 0 {
		out["Trailer"] = []string{strings.Join(trailers, ", ")}
	}
	x.head(status, out)
	if length == 0 || x.r.Method == http.MethodHead || !bodyAllowed(status) {
		return nil // the head ends the stream: flushing it apart would make it begin one
	}
	return x.rc.Flush()
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

func (x *h2Exchange) write(p []byte, flush bool) error {
	if _, err := x.w.Write(p); err != nil {
		return err
	}
	if !flush {
		return nil
	}
	return x.rc.Flush()
}

// finish leaves the trailers where net/http looks for them when the handler has returned: the announced ones under
// their names, the others under a prefix.
func (x *h2Exchange) finish(trailer http.Header) error {
	out := x.w.Header()
	said := make(map[string]bool)
	for _, v := range out["Trailer"] {
		for name := range strings.SplitSeq(v, ", ") {
			said[name] = true
		}
	}
	for name, values := range trailer {
		if !said[name] {
			name = http.TrailerPrefix + name
		}
		out[name] = values
	}
	return nil
}

func (x *h2Exchange) fail(c fault.Cause) int {
	x.Fail(c, "", 0)
	if c == fault.ClientGone {
		return 0
	}
	if x.GRPC() {
		return http.StatusOK
	}
	return fault.Of(c).Status
}

// abort resets the stream when the handler has returned: serveStream panics with http.ErrAbortHandler.
func (x *h2Exchange) abort() { x.answered, x.aborted = true, true }

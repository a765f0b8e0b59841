// Package requestlog writes one line per request, shaped by the Go template that Knative's operators configure.
//
// The template sees .Request (Method, RequestURI, URL, Host, RemoteAddr, Proto, ProtoMajor, ProtoMinor, ContentLength,
// TransferEncoding, TLS, Header, UserAgent, Referer, FormValue), .Response (Code, Size, Latency in seconds), .Revision (Name,
// Namespace, Service, Configuration, PodName, PodIP) and .TraceID, with the control structures and functions of text/template
// except call. Headers are looked up by name; they cannot be listed.
//
// Templates are parsed by text/template/parse and run here: text/template itself looks methods up by name at run time,
// which keeps every method of every type in the binary, 1.5 MB of a sidecar that stands in every pod. The tests hold
// both to the same output.
//
// Promises: a line is one write, so that lines do not mix. A template that fails on a request still leaves a line that
// says so. Nothing is copied of a request but what the template asks for. When it is off there is no [Log], and no cost.
package requestlog

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/forward"
)

// Revision is who served the request.
type Revision struct {
	Name, Namespace, Service, Configuration, PodName, PodIP string
}

// response is what the client was sent.
type response struct {
	code    int
	size    int     // body, in bytes
	latency float64 // seconds
}

// line is what a template sees.
type line struct {
	x        forward.Exchange
	response response
	revision *Revision
}

// Log writes requests. It is safe for concurrent use.
type Log struct {
	tmpl   *tmpl
	rev    Revision
	probes bool

	mu  sync.Mutex // guards the following
	w   io.Writer
	buf bytes.Buffer
}

// New parses the template. Lines go to w; probes says whether probes are written too. It fails when the template does
// not parse.
func New(text string, rev Revision, probes bool, w io.Writer) (*Log, error) {
	t, err := parseTemplate(text)
	if err != nil {
		return nil, fmt.Errorf("request log template: %w", err)
	}
	return &Log{tmpl: t, rev: rev, probes: probes, w: w}, nil
}

// Probes says whether probes are written too.
func (l *Log) Probes() bool { return l.probes }

// Record writes the line of one request. x must still be valid.
func (l *Log) Record(x forward.Exchange, status int, responseBytes int64, took time.Duration) {
	data := &line{x: x, response: response{status, int(responseBytes), took.Seconds()}, revision: &l.rev}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
	if err := l.tmpl.execute(&l.buf, data); err != nil {
		l.buf.Reset()
		fmt.Fprintf(&l.buf, "request log template failed: %v; method: %s, response code: %d, latency: %v, url: %s",
			err, x.Method(), status, took.Seconds(), x.Target())
	}
	if b := l.buf.Bytes(); len(b) == 0 || b[len(b)-1] != '\n' {
		l.buf.WriteByte('\n')
	}
	_, _ = l.w.Write(l.buf.Bytes()) // a log that cannot be written must not end a request
}

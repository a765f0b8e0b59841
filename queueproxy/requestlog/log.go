// Package requestlog writes one line per request, shaped by the Go template that Knative's operators configure.
//
// The template sees .Request, .Response (Code, Size, Latency in seconds), .Revision (Name, Namespace, Service,
// Configuration, PodName, PodIP) and .TraceID. .Request is an *http.Request, made for the template alone: it has the
// request line, host, address and length, and of the headers the well-known ones and those that the template names in
// quotes. A template that ranges over all headers sees no others.
//
// Promises: a line is one write, so that lines do not mix. A template that fails on a request still leaves a line that
// says so. It costs tens of microseconds per request, and nothing when it is off: then there is no Log.
package requestlog

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/rousehq/rouse/internal/forward"
)

// Revision is who served the request.
type Revision struct {
	Name, Namespace, Service, Configuration, PodName, PodIP string
}

// Response is what the client was sent.
type Response struct {
	Code    int
	Size    int     // body, in bytes
	Latency float64 // seconds
}

// Line is what a template sees.
type Line struct {
	Request  *http.Request
	Response *Response
	Revision *Revision
	TraceID  string
}

// Log writes requests. It is safe for concurrent use.
type Log struct {
	tmpl    *template.Template
	rev     Revision
	probes  bool
	headers []string // canonical names that a line needs

	mu  sync.Mutex // guards the following
	w   io.Writer
	buf bytes.Buffer
}

// New parses the template. Lines go to w; probes says whether probes are written too. It fails when the template does
// not parse.
func New(text string, rev Revision, probes bool, w io.Writer) (*Log, error) {
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	tmpl, err := template.New("request log").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("request log template: %w", err)
	}
	return &Log{tmpl: tmpl, rev: rev, probes: probes, headers: headersOf(tmpl), w: w}, nil
}

// headersOf returns the headers that http.Request's own methods read, and whatever the template has in quotes: a
// header's name can only come from there.
func headersOf(tmpl *template.Template) []string {
	wanted := map[string]bool{
		"User-Agent": true, "Referer": true, "Cookie": true, "Authorization": true, "Content-Type": true,
		"X-Forwarded-For": true, "X-Forwarded-Proto": true, "Forwarded": true, "X-Request-Id": true,
	}
	for _, t := range tmpl.Templates() {
		literals(t.Root, func(s string) { wanted[http.CanonicalHeaderKey(s)] = true })
	}
	names := make([]string, 0, len(wanted))
	for n := range wanted {
		names = append(names, n)
	}
	return names
}

// literals calls f with every string constant below n.
func literals(n parse.Node, f func(string)) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, c := range n.Nodes {
			literals(c, f)
		}
	case *parse.ActionNode:
		literals(n.Pipe, f)
	case *parse.PipeNode:
		if n == nil {
			return
		}
		for _, c := range n.Cmds {
			literals(c, f)
		}
	case *parse.CommandNode:
		for _, c := range n.Args {
			literals(c, f)
		}
	case *parse.StringNode:
		f(n.Text)
	case *parse.IfNode:
		branch(&n.BranchNode, f)
	case *parse.RangeNode:
		branch(&n.BranchNode, f)
	case *parse.WithNode:
		branch(&n.BranchNode, f)
	case *parse.ChainNode:
		literals(n.Node, f)
	case *parse.TemplateNode:
		literals(n.Pipe, f)
	}
}

func branch(n *parse.BranchNode, f func(string)) {
	literals(n.Pipe, f)
	literals(n.List, f)
	literals(n.ElseList, f)
}

// Probes says whether probes are written too.
func (l *Log) Probes() bool { return l.probes }

// Record writes the line of one request. x must still be valid.
func (l *Log) Record(x forward.Exchange, status int, responseBytes int64, took time.Duration) {
	line := Line{
		Request:  l.request(x),
		Response: &Response{Code: status, Size: int(responseBytes), Latency: took.Seconds()},
		Revision: &l.rev,
		TraceID:  traceID(x),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
	if err := l.tmpl.Execute(&l.buf, line); err != nil {
		l.buf.Reset()
		fmt.Fprintf(&l.buf, "request log template failed: %v; method: %s, response code: %d, latency: %v, url: %s\n",
			err, line.Request.Method, status, took.Seconds(), line.Request.RequestURI)
	}
	_, _ = l.w.Write(l.buf.Bytes()) // a log that cannot be written must not end a request
}

// request copies what a template may ask for.
func (l *Log) request(x forward.Exchange) *http.Request {
	r := &http.Request{
		Method: string(x.Method()), RequestURI: string(x.Target()), Host: string(x.Host()),
		RemoteAddr: x.RemoteAddr().String(), Header: make(http.Header, len(l.headers)),
		ContentLength: -1,
	}
	switch x.Proto() {
	case forward.HTTP2:
		r.Proto, r.ProtoMajor = "HTTP/2.0", 2
	case forward.HTTP10:
		r.Proto, r.ProtoMajor = "HTTP/1.0", 1
	default:
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	}
	var err error
	if r.URL, err = url.ParseRequestURI(r.RequestURI); err != nil {
		r.URL = &url.URL{Opaque: r.RequestURI}
	}
	for _, name := range l.headers {
		if v := x.Header(name); v != nil {
			r.Header[name] = []string{string(v)}
		}
	}
	r.ContentLength = contentLength(x)
	return r
}

// contentLength is -1 when a body of unknown length was announced, as in net/http.
func contentLength(x forward.Exchange) int64 {
	if v := x.Header("Content-Length"); v != nil {
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
	}
	if x.Header("Transfer-Encoding") != nil {
		return -1
	}
	return 0
}

// traceID reads the trace that the request belongs to, from W3C's header or from B3's.
func traceID(x forward.Exchange) string {
	// version "-" trace-id "-" parent-id "-" flags
	if v := x.Header("Traceparent"); len(v) >= 55 && v[2] == '-' && v[35] == '-' {
		return string(v[3:35])
	}
	if v := x.Header("X-B3-Traceid"); v != nil {
		return string(v)
	}
	if v := x.Header("B3"); v != nil {
		id, _, _ := bytes.Cut(v, []byte("-"))
		return string(id)
	}
	return ""
}

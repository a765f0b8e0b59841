package requestlog

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"

	"github.com/rousehq/rouse/internal/forward"
)

// request and header are views of an exchange; each is as valid as it.
type (
	request struct{ x forward.Exchange }
	header  struct{ x forward.Exchange }
	// encrypted stands for the connection's TLS state, of which a template can tell whether there is one.
	encrypted bool
)

// field returns what a template means by .name on v: a field, or a method called with args.
func field(v any, name string, args []any) (any, error) {
	switch v := v.(type) {
	case *line:
		return v.field(name)
	case request:
		if name == "FormValue" {
			return v.formValue(args)
		}
		return v.field(name)
	case response:
		return v.field(name)
	case *Revision:
		return v.field(name)
	case header:
		return v.method(name, args)
	case *url.URL:
		return urlField(v, name)
	case url.Values:
		return valuesMethod(v, name, args)
	}
	return nil, fmt.Errorf("%T has no .%s", v, name)
}

func unknown(of, name, known string) error {
	return fmt.Errorf("%s has no .%s: it has %s", of, name, known)
}

func (l *line) field(name string) (any, error) {
	switch name {
	case "Request":
		return request{l.x}, nil
	case "Response":
		return l.response, nil
	case "Revision":
		return l.revision, nil
	case "TraceID":
		return traceID(l.x), nil
	}
	return nil, unknown("a line", name, "Request, Response, Revision and TraceID")
}

func (r response) field(name string) (any, error) {
	switch name {
	case "Code":
		return r.code, nil
	case "Size":
		return r.size, nil
	case "Latency":
		return r.latency, nil
	}
	return nil, unknown(".Response", name, "Code, Size and Latency")
}

func (r *Revision) field(name string) (any, error) {
	switch name {
	case "Name":
		return r.Name, nil
	case "Namespace":
		return r.Namespace, nil
	case "Service":
		return r.Service, nil
	case "Configuration":
		return r.Configuration, nil
	case "PodName":
		return r.PodName, nil
	case "PodIP":
		return r.PodIP, nil
	}
	return nil, unknown(".Revision", name, "Name, Namespace, Service, Configuration, PodName and PodIP")
}

func (r request) field(name string) (any, error) {
	switch name {
	case "Method":
		return string(r.x.Method()), nil
	case "RequestURI":
		return string(r.x.Target()), nil
	case "URL":
		return r.url(), nil
	case "Host":
		return string(r.x.Host()), nil
	case "RemoteAddr":
		return r.x.RemoteAddr().String(), nil
	case "Proto":
		major, minor := r.version()
		return fmt.Sprintf("HTTP/%d.%d", major, minor), nil
	case "ProtoMajor":
		major, _ := r.version()
		return major, nil
	case "ProtoMinor":
		_, minor := r.version()
		return minor, nil
	case "ContentLength":
		return r.contentLength(), nil
	case "Header":
		return header(r), nil
	case "UserAgent":
		return string(r.x.Header("User-Agent")), nil
	case "Referer":
		return string(r.x.Header("Referer")), nil
	case "TransferEncoding":
		return r.transferEncoding(), nil
	case "TLS":
		return encrypted(r.x.TLS()), nil
	}
	return nil, unknown(".Request", name, "Method, RequestURI, URL, Host, RemoteAddr, Proto, ProtoMajor, ProtoMinor, ContentLength, "+
		"TransferEncoding, TLS, Header, UserAgent, Referer and FormValue")
}

// formValue looks a name up in the query: the body is the application's.
func (r request) formValue(args []any) (any, error) {
	key, err := oneString(".Request.FormValue", args)
	if err != nil {
		return nil, err
	}
	return r.url().Query().Get(key), nil
}

// transferEncoding is chunked or nothing, since nothing else is let in.
func (r request) transferEncoding() []string {
	if r.x.Header("Transfer-Encoding") == nil {
		return nil
	}
	return []string{"chunked"}
}

// String stands where a template prints the state.
func (e encrypted) String() string {
	if e {
		return "TLS"
	}
	return "<nil>"
}

func (r request) version() (major, minor int) {
	switch r.x.Proto() {
	case forward.HTTP2:
		return 2, 0
	case forward.HTTP10:
		return 1, 0
	default:
		return 1, 1
	}
}

func (r request) url() *url.URL {
	target := string(r.x.Target())
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return &url.URL{Opaque: target}
	}
	return u
}

// contentLength is -1 when a body of unknown length was announced, as in net/http.
func (r request) contentLength() int64 {
	if v := r.x.Header("Content-Length"); v != nil {
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
	}
	if r.x.Header("Transfer-Encoding") != nil {
		return -1
	}
	return 0
}

// values returns the header's values as a map of headers would: nil when absent.
func (h header) values(name string) []string {
	var all []string
	for _, v := range h.x.Values(name) {
		all = append(all, string(v))
	}
	return all
}

func (h header) method(name string, args []any) (any, error) {
	key, err := oneString(".Header."+name, args)
	if err != nil {
		return nil, err
	}
	switch name {
	case "Get":
		return string(h.x.Header(key)), nil
	case "Values":
		return h.values(key), nil
	}
	return nil, unknown(".Header", name, "Get and Values")
}

// String stands where a template prints all headers.
func (header) String() string { return "(headers: name one)" }

func oneString(who string, args []any) (string, error) {
	if len(args) == 1 {
		if s, ok := args[0].(string); ok {
			return s, nil
		}
	}
	return "", fmt.Errorf("%s takes one name in quotes", who)
}

func urlField(u *url.URL, name string) (any, error) {
	switch name {
	case "Path":
		return u.Path, nil
	case "RawPath":
		return u.RawPath, nil
	case "EscapedPath":
		return u.EscapedPath(), nil
	case "RawQuery":
		return u.RawQuery, nil
	case "Query":
		return u.Query(), nil
	case "Host":
		return u.Host, nil
	case "Scheme":
		return u.Scheme, nil
	case "RequestURI":
		return u.RequestURI(), nil
	case "String":
		return u.String(), nil
	}
	return nil, unknown(".URL", name, "Path, RawPath, EscapedPath, RawQuery, Query, Host, Scheme, RequestURI and String")
}

func valuesMethod(v url.Values, name string, args []any) (any, error) {
	key, err := oneString(".Query."+name, args)
	if err != nil {
		return nil, err
	}
	switch name {
	case "Get":
		return v.Get(key), nil
	case "Has":
		return v.Has(key), nil
	}
	return nil, unknown(".Query", name, "Get and Has")
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

package requestlog

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"text/template"
	"time"

	"pgregory.net/rapid"

	"github.com/rousehq/rouse/internal/forward/forwardtest"
)

// knativeTemplate is the default of Knative's config-observability: the one that nearly everybody runs.
const knativeTemplate = `{"httpRequest": {"requestMethod": "{{.Request.Method}}", "requestUrl": "{{js .Request.RequestURI}}", ` +
	`"requestSize": "{{.Request.ContentLength}}", "status": {{.Response.Code}}, "responseSize": "{{.Response.Size}}", ` +
	`"userAgent": "{{js .Request.UserAgent}}", "remoteIp": "{{js .Request.RemoteAddr}}", "serverIp": "{{.Revision.PodIP}}", ` +
	`"referer": "{{js .Request.Referer}}", "latency": "{{.Response.Latency}}s", "protocol": "{{.Request.Proto}}"}, ` +
	`"traceId": "{{.TraceID}}", "old": "{{index .Request.Header "X-B3-Traceid"}}"}`

var rev = Revision{Name: "hello-00001", Namespace: "default", Service: "hello", Configuration: "hello", PodName: "hello-1", PodIP: "10.0.0.7"}

func exchange() *forwardtest.Exchange {
	x := forwardtest.New("hello.example.com")
	x.MethodV, x.TargetV = "POST", "/a%20b?q=<script>&x=1"
	x.Headers = map[string]string{
		"user-agent": `curl "8"`, "content-length": "12", "referer": "http://x/", "x-b3-traceid": "abc",
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-a": "1",
	}
	x.More = map[string][]string{"x-a": {"2"}}
	return x
}

// oracle runs the template by text/template over a real request.
func oracle(text string, x *forwardtest.Exchange) (string, error) {
	u, err := url.ParseRequestURI(x.TargetV)
	if err != nil {
		return "", err
	}
	r := &http.Request{
		Method: x.MethodV, RequestURI: x.TargetV, URL: u, Host: x.HostV, RemoteAddr: x.RemoteAddr().String(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: 12, Header: http.Header{},
	}
	for k, v := range x.Headers {
		r.Header.Set(k, v)
	}
	for k, more := range x.More {
		for _, v := range more {
			r.Header.Add(k, v)
		}
	}
	if x.Headers["transfer-encoding"] != "" {
		r.TransferEncoding, r.ContentLength = []string{"chunked"}, -1
	}
	if x.TLSV {
		r.TLS = &tls.ConnectionState{}
	}
	t, err := template.New("oracle").Parse(text)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		Request  *http.Request
		Response any
		Revision Revision
		TraceID  string
	}{r, struct {
		Code, Size int
		Latency    float64
	}{404, 1234, 0.25}, rev, "0af7651916cd43dd8448eb211c80319c"})
	return b.String(), err
}

func record(t *testing.T, text string, x *forwardtest.Exchange) string {
	t.Helper()
	var b bytes.Buffer
	l, err := New(text, rev, false, &b)
	if err != nil {
		t.Fatalf("New(%q) = %v", text, err)
	}
	l.Record(x, 404, 1234, 250*time.Millisecond)
	return b.String()
}

func TestSameAsTextTemplate(t *testing.T) {
	for _, text := range []string{
		knativeTemplate,
		"",
		`{{.Request.Host}} {{.Request.URL}} {{.Request.URL.Path}} {{.Request.URL.RawQuery}} {{.Request.URL.Query.Get "x"}}`,
		`{{.Request.ProtoMajor}}.{{.Request.ProtoMinor}} {{.Revision.Name}}/{{.Revision.Namespace}}/{{.Revision.Service}}/{{.Revision.Configuration}}/{{.Revision.PodName}}`,
		`{{if ge .Response.Code 400}}bad{{else if eq .Response.Code 304}}same{{else}}good{{end}}`,
		`{{with .Request.Header.Get "Referer"}}from {{.}}{{else}}direct{{end}} {{$.Response.Size}}`,
		`{{with $ua := .Request.UserAgent}}{{$ua | printf "%q" | html}}{{end}}`,
		`{{$code := .Response.Code}}{{if and (gt $code 399) (lt $code 500)}}{{$code = 0}}{{end}}{{$code}}`,
		`{{range $i, $v := .Request.Header.Values "User-Agent"}}{{$i}}={{$v}};{{else}}none{{end}}`,
		`{{range .Request.Header.Values "None"}}x{{else}}none{{end}}{{range .Request.Header.Values "Referer"}}{{break}}{{end}}`,
		`{{index .Request.Header "None"}} {{len (index .Request.Header "Referer")}} {{index .Request.Header "Referer" 0}}`,
		`{{(.Request.Header).Get "X-B3-Traceid"}} {{not .Request.Referer}} {{or .Request.Referer "-"}} {{and "" "b"}}`,
		`{{define "m"}}<{{.}}>{{end}}{{template "m" .Request.Method}}{{/* a comment */}}{{print 1 2.5 "x" true}}`,
		`{{println .Response.Latency}}{{urlquery .Request.RequestURI}} {{ne .Request.Method "GET"}} {{le .Response.Latency 0.25}}`,
		`{{index .Request.Header "X-A"}} {{index .Request.Header "X-A" 1}} {{.Request.Header.Values "X-A"}} {{.Request.Header.Get "X-A"}}`,
		`{{slice .TraceID 0 8}} {{slice .TraceID 8}} {{slice .TraceID}} {{.TraceID | printf "%.4s"}} {{slice (index .Request.Header "X-A") 1}}`,
		`{{.Request.TransferEncoding}} {{.Request.TLS}} {{if .Request.TLS}}https{{else}}http{{end}} {{.Request.FormValue "x"}}{{.Request.FormValue "none"}}`,
		`{{eq .Request.Method "GET" "POST"}} {{eq .Request.ContentLength 12}} {{"lit" | len}} {{1_000}} {{0x10}}`,
	} {
		want, err := oracle(text, exchange())
		if err != nil {
			t.Fatalf("oracle(%q) = %v", text, err)
		}
		want = strings.TrimSuffix(want, "\n") + "\n"
		if got := record(t, text, exchange()); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

// TestCompositionsSameAsTextTemplate composes templates out of pieces, valid or not: both give the same text, or both
// an error.
func TestCompositionsSameAsTextTemplate(t *testing.T) {
	value := rapid.SampledFrom([]string{".Response.Code", ".Response.Latency", ".Request.Method", ".Request.Referer", ".Request.ContentLength",
		`(index .Request.Header "Referer")`, `(.Request.Header.Get "None")`, "404", "0.25", `"POST"`, "true", "$x", "(len $x)", "(not .Request.Referer)"})
	function := rapid.SampledFrom([]string{"eq", "ne", "lt", "le", "gt", "ge", "and", "or", "print", "println", "js", "html", "index"})
	rapid.Check(t, func(t *rapid.T) {
		a, b, f := value.Draw(t, "a"), value.Draw(t, "b"), function.Draw(t, "f")
		text := `{{$x := "text"}}{{if ` + a + `}}[{{` + f + " " + a + " " + b + `}}]{{else}}{{` + b + ` | printf "%v %v" ` + a + `}}{{end}}`
		want, oracleErr := oracle(text, exchange())
		l, err := New(text, rev, false, nil)
		if err != nil {
			t.Fatalf("New(%q) = %v", text, err)
		}
		var buf bytes.Buffer
		x := exchange()
		err = l.tmpl.execute(&buf, &line{x: x, response: response{404, 1234, 0.25}, revision: &rev})
		if (err != nil) != (oracleErr != nil) || (err == nil && buf.String() != want) {
			t.Fatalf("%s = %q, %v; want %q, %v", text, buf.String(), err, want, oracleErr)
		}
	})
}

// TestEncryptedAndChunked is what a request says of how it came.
func TestEncryptedAndChunked(t *testing.T) {
	x := exchange()
	x.TLSV = true
	delete(x.Headers, "content-length")
	x.Headers["transfer-encoding"] = "chunked"
	const text = `{{if .Request.TLS}}https{{else}}http{{end}} {{.Request.TransferEncoding}} {{.Request.ContentLength}}`
	want, err := oracle(text, x)
	if err != nil {
		t.Fatal(err)
	}
	if got := record(t, text, x); got != want+"\n" {
		t.Errorf("%s\n got %swant %s", text, got, want)
	}
}

func TestTemplateThatFailsLeavesALine(t *testing.T) {
	for _, text := range []string{"{{.Request.Body}}", "{{.None}}", `{{index .Request.Header 1}}`, `{{template "none"}}`, `{{slice .TraceID 2 1}}`,
		`{{slice .TraceID 0 99}}`, `{{slice .Request.Header 0}}`} {
		got := record(t, text, exchange())
		if !strings.HasPrefix(got, "request log template failed") || !strings.Contains(got, "404") || strings.Count(got, "\n") != 1 {
			t.Errorf("Record by %q wrote %q, want one line that says that it failed, with the status", text, got)
		}
	}
	for text, want := range map[string]string{"{{.Request": "unclosed action", `{{call .Request.Body}}`: `function "call" not defined`} {
		if _, err := New(text, rev, false, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%q) = %v, want an error that says %s", text, err, want)
		}
	}
}

func TestTemplateThatIncludesItselfEnds(t *testing.T) {
	got := record(t, `{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`, exchange())
	if !strings.Contains(got, "deep") {
		t.Errorf("Record wrote %q, want the depth's bound", got)
	}
}

func TestTraceID(t *testing.T) {
	for want, headers := range map[string]map[string]string{
		"":                                 {},
		"0af7651916cd43dd8448eb211c80319c": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-b3-traceid": "no"},
		"b3id":                             {"b3": "b3id-span-1"},
		"multi":                            {"x-b3-traceid": "multi", "traceparent": "garbage"},
	} {
		x := exchange()
		x.Headers = headers
		if got := traceID(x); got != want {
			t.Errorf("traceID(%v) = %q, want %q", headers, got, want)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	x := exchange()
	l, err := New(knativeTemplate, rev, false, &bytes.Buffer{})
	if err != nil {
		b.Fatal(err)
	}
	var sink bytes.Buffer
	l.w = &sink
	b.ReportAllocs()
	for b.Loop() {
		sink.Reset()
		l.Record(x, 200, 10, time.Millisecond)
	}
}

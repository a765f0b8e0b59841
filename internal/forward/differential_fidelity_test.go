package forward

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rousehq/rouse/internal/endpoint"
)

// message is what a request or response means, whatever its bytes.
type message struct {
	Line    string // method, target, host; or status
	Header  map[string][]string
	Body    string
	Length  int64
	Trailer map[string][]string
}

// observed keeps the last request that an application saw, and what it answers. The two are swapped whole: a handler
// may still be running when its client has the answer.
type observed struct {
	last   atomic.Pointer[message]
	answer atomic.Pointer[script]
}

// script is what the application answers.
type script struct {
	status  int
	header  http.Header
	parts   []string
	known   bool // with Content-Length
	trailer http.Header
}

func (o *observed) app() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer := o.answer.Load()
		b, err := io.ReadAll(r.Body)
		last := &message{Line: r.Method + " " + r.RequestURI + " " + r.Host, Header: maps.Clone(r.Header), Body: string(b), Length: r.ContentLength}
		if err != nil {
			last.Body = "error: " + err.Error()
		}
		o.last.Store(last)
		h := w.Header()
		maps.Copy(h, answer.header)
		h["Date"] = nil
		for name := range answer.trailer {
			h.Add("Trailer", name)
		}
		if answer.known {
			h.Set("Content-Length", fmt.Sprint(len(strings.Join(answer.parts, ""))))
		}
		w.WriteHeader(answer.status)
		for _, p := range answer.parts {
			_, _ = io.WriteString(w, p)
			_ = http.NewResponseController(w).Flush()
		}
		maps.Copy(h, answer.trailer)
	}
}

// TestFidelityAgainstReverseProxy sends generated requests through the engine and through httputil.ReverseProxy, by
// every combination of protocols, and compares what the application and the client understood.
func TestFidelityAgainstReverseProxy(t *testing.T) {
	for _, x := range append(crossings, struct {
		name     string
		inbound2 bool
		upstream endpoint.Protocol
	}{"h1 to h1", false, endpoint.H1}) {
		t.Run(x.name, func(t *testing.T) {
			var seen observed
			a := goApp(t, seen.app())
			p := newProxy(t, a, proxyOptions{server: Config{Forwarding: Forwarding{XForwarded: true}}, pool: PoolConfig{Protocol: x.upstream}})
			oracle := reverseProxy(t, a, x.upstream)
			c := p.client(x.inbound2)
			rapid.Check(t, func(rt *rapid.T) {
				answer := drawScript(rt)
				seen.answer.Store(&answer)
				send := drawRequest(rt)
				want := exchange(rt, c, oracle, send)
				wantSeen := seen.last.Load()
				got := exchange(rt, c, p.addr, send)
				if diff := cmp.Diff(wantSeen, seen.last.Load()); diff != "" {
					rt.Errorf("the application saw another request (-ReverseProxy +engine):\n%s", diff)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					rt.Errorf("the client saw another response (-ReverseProxy +engine):\n%s", diff)
				}
			})
		})
	}
}

// reverseProxy is the oracle, with the engine's rules for forwarding headers.
func reverseProxy(t *testing.T, a *app, upstream endpoint.Protocol) string {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(upstream == endpoint.H1)
	protocols.SetUnencryptedHTTP2(upstream == endpoint.H2C)
	tr := &http.Transport{Protocols: protocols, DisableCompression: true}
	rp := &httputil.ReverseProxy{
		Transport: tr,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = &url.URL{Scheme: "http", Host: a.addr().String(), Opaque: pr.In.RequestURI} // raw, as the engine sends it
			pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
			pr.SetXForwarded()
			for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v := pr.In.Header[name]; v != nil {
					pr.Out.Header[name] = v
				}
			}
			for _, v := range pr.In.Header["Forwarded"] {
				pr.Out.Header.Add("Forwarded", v)
			}
		},
	}
	srv := httptest.NewUnstartedServer(rp)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(func() {
		srv.Close()
		tr.CloseIdleConnections()
	})
	return srv.Listener.Addr().String()
}

type sent struct {
	method, target string
	header         http.Header
	body           string
	known          bool
}

func drawRequest(t *rapid.T) sent {
	s := sent{
		method: rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"}).Draw(t, "method"),
		target: "/" + rapid.StringMatching(`([a-z.]|%2[0-9F]|;|:|@){1,12}(/[a-z]{0,3}){0,3}(\?[a-z=&%2B+;]{0,10})?`).Draw(t, "target"),
		header: drawHeader(t, "header"),
		known:  rapid.Bool().Draw(t, "length known"),
	}
	if slices.Contains([]string{"POST", "PUT", "PATCH"}, s.method) {
		s.body = rapid.StringN(0, 3000, -1).Draw(t, "body")
	}
	if rapid.Bool().Draw(t, "hop-by-hop") {
		s.header["X-Hop"] = []string{"1"}
		s.header["Keep-Alive"] = []string{"timeout=1"}
		s.header["Proxy-Authorization"] = []string{"Basic eA=="}
		s.header["Te"] = []string{"trailers"}
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"} {
		if rapid.IntRange(0, 3).Draw(t, name) == 0 {
			s.header[name] = []string{rapid.SampledFrom([]string{"1.2.3.4", "https", "h.test"}).Draw(t, "value")}
		}
	}
	return s
}

func drawHeader(t *rapid.T, label string) http.Header {
	h := make(http.Header)
	names := []string{"X-A", "X-B", "Cookie", "Accept", "Etag", "X-Empty", "Authorization", "Set-Cookie", "Cache-Control"}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 5, rapid.ID).Draw(t, label) {
		values := rapid.SliceOfN(rapid.StringMatching(`[!-~]([ -~]{0,20}[!-~])?`), 1, 3).Draw(t, name)
		if name == "Cookie" {
			values = values[:1]
		}
		h[name] = values
	}
	return h
}

func drawScript(t *rapid.T) script {
	s := script{
		status: rapid.SampledFrom([]int{200, 201, 204, 206, 301, 304, 404, 500, 503}).Draw(t, "status"),
		header: drawHeader(t, "response header"),
		known:  rapid.Bool().Draw(t, "response length known"),
	}
	s.header.Set("Content-Type", "text/x-test")
	if s.status == 204 || s.status == 304 {
		s.known = false
		s.header.Del("Content-Type") // net/http takes it away from a 304
		return s
	}
	s.parts = rapid.SliceOfN(rapid.StringN(0, 2000, -1), 0, 4).Draw(t, "parts")
	if !s.known && rapid.Bool().Draw(t, "has trailers") {
		s.parts = append(s.parts, "x") // net/http gives an empty body a length, which leaves no room for trailers
		s.trailer = http.Header{"X-Trailer": {"a", "b"}}
	}
	return s
}

// exchange sends s to a proxy and returns what the client understood.
func exchange(t *rapid.T, c *http.Client, proxy string, s sent) message {
	body := io.Reader(http.NoBody)
	if s.body != "" {
		if body = bytes.NewReader([]byte(s.body)); !s.known {
			body = io.MultiReader(body)
		}
	}
	req, err := http.NewRequest(s.method, "http://"+proxy+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = s.target
	req.Host = "app.test"
	req.Header = s.header.Clone()
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", s.target, err)
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		t.Fatalf("body: %v", err)
	}
	delete(res.Header, "Date") // ReverseProxy's server adds one
	if len(b) == 0 && res.Header.Get("Content-Length") == "0" || res.ContentLength < 0 && len(b) == 0 {
		delete(res.Header, "Content-Length") // no body, said in one way or the other
		res.ContentLength = 0
	}
	delete(res.Header, "Trailer") // what came counts, not what was announced
	return message{Line: fmt.Sprint(res.StatusCode), Header: res.Header, Body: string(b), Length: res.ContentLength, Trailer: res.Trailer}
}

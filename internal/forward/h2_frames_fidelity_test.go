package forward

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/fault"
)

// framed is an HTTP/2 client connection whose frames the test writes and reads itself.
type framed struct {
	*http2.Framer
	t    testing.TB
	hbuf bytes.Buffer
	henc *hpack.Encoder
}

func (p *proxy) framed() *framed {
	p.t.Helper()
	c := p.dial()
	c.send(http2.ClientPreface)
	f := &framed{Framer: http2.NewFramer(c.c, c.br), t: p.t}
	f.henc = hpack.NewEncoder(&f.hbuf)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := f.WriteSettings(); err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (f *framed) request(stream uint32, end bool, fields ...string) {
	f.t.Helper()
	f.hbuf.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := f.henc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			f.t.Fatal(err)
		}
	}
	err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.hbuf.Bytes(), EndStream: end, EndHeaders: true})
	if err != nil {
		f.t.Fatal(err)
	}
}

// next returns the next frame that is not about settings, windows or pings.
func (f *framed) next() http2.Frame {
	f.t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			f.t.Fatalf("read frame: %v", err)
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				if err := f.WriteSettingsAck(); err != nil {
					f.t.Fatal(err)
				}
			}
		case *http2.PingFrame:
			if !fr.IsAck() {
				if err := f.WritePing(true, fr.Data); err != nil {
					f.t.Fatal(err)
				}
			}
		case *http2.WindowUpdateFrame:
		default:
			return fr
		}
	}
}

func (f *framed) wantHeaders(stream uint32, end bool, fields ...string) *http2.MetaHeadersFrame {
	f.t.Helper()
	fr := f.next()
	h, ok := fr.(*http2.MetaHeadersFrame)
	if !ok || h.StreamID != stream || h.StreamEnded() != end {
		f.t.Fatalf("frame = %v, want headers of stream %d with end %v", fr, stream, end)
	}
	for i := 0; i < len(fields); i += 2 {
		got := ""
		for _, hf := range h.Fields {
			if hf.Name == fields[i] {
				got = hf.Value
			}
		}
		if got != fields[i+1] {
			f.t.Fatalf("%s = %q, want %q in %v", fields[i], got, fields[i+1], h.Fields)
		}
	}
	return h
}

// TestFidelityH2ContinueIsThePods checks, frame by frame, that the client hears 100 only when the pod says so.
func TestFidelityH2ContinueIsThePods(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	f := p.framed()
	f.request(1, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/", "expect", "100-continue", "content-length", "5")
	pod := a.accept()
	pod.want("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	pod.send("HTTP/1.1 100 Continue\r\n\r\n")
	f.wantHeaders(1, false, ":status", "100")
	if err := f.WriteData(1, true, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	pod.want("hello")
	pod.send(response("ok"))
	f.wantHeaders(1, false, ":status", "200", "content-length", "2")
	d, ok := f.next().(*http2.DataFrame)
	if !ok || string(d.Data()) != "ok" || !d.StreamEnded() {
		t.Fatalf("data = %v", d)
	}

	f.request(3, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/", "expect", "100-continue", "content-length", "5")
	pod.wantHead("POST / HTTP/1.1\r\n")
	pod.send("HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	f.wantHeaders(3, true, ":status", "417")
}

// TestFidelityH2GRPC checks gRPC's shapes frame by frame: trailers-only from the pod, and from the proxy.
func TestFidelityH2GRPC(t *testing.T) {
	app := func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/grpc")
		if r.URL.Path == "/only" {
			h.Set("Grpc-Status", "5")
			h["Content-Length"], h["Date"] = nil, nil
			w.WriteHeader(200)
			return
		}
		w.WriteHeader(200)
		_, _ = w.Write([]byte{0, 0, 0, 0, 0})
		_ = http.NewResponseController(w).Flush()
		h.Set(http.TrailerPrefix+"Grpc-Status", "0")
	}
	grpc := []string{":method", "POST", ":scheme", "http", ":authority", "a", "content-type", "application/grpc", "te", "trailers"}
	call := func(path string) []string { return append([]string{":path", path}, grpc...) }
	p := newProxy(t, goApp(t, app), proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}})
	f := p.framed()
	f.request(1, false, sorted(call("/unary"))...)
	if err := f.WriteData(1, true, []byte{0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	f.wantHeaders(1, false, ":status", "200", "content-type", "application/grpc", "content-length", "")
	if d, ok := f.next().(*http2.DataFrame); !ok || len(d.Data()) != 5 || d.StreamEnded() {
		t.Fatalf("data = %v", d)
	}
	f.wantHeaders(1, true, "grpc-status", "0")
	f.request(3, true, sorted(call("/only"))...)
	f.wantHeaders(3, true, ":status", "200", "grpc-status", "5", "content-length", "", "date", "")

	refused := newProxy(t, closedApp(t), proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}})
	f = refused.framed()
	f.request(1, true, sorted(call("/x"))...)
	f.wantHeaders(1, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "14", "grpc-message", "no connection to the pod", "content-length", "")
	if r := refused.wantCause(fault.ConnectFailed); !r.Retryable {
		t.Errorf("result = %+v", r)
	}
}

// sorted puts pseudo headers first.
func sorted(fields []string) []string {
	var pseudo, rest []string
	for i := 0; i < len(fields); i += 2 {
		if fields[i][0] == ':' {
			pseudo = append(pseudo, fields[i], fields[i+1])
		} else {
			rest = append(rest, fields[i], fields[i+1])
		}
	}
	return append(pseudo, rest...)
}

// closedApp has an address at which nobody listens.
func closedApp(t testing.TB) *app {
	a := &app{t: t, ln: listen(t, false)}
	a.ln.Close()
	return a
}

func TestFidelityH2Refusals(t *testing.T) {
	p := newProxy(t, newApp(t), proxyOptions{})
	f := p.framed()
	f.request(1, true, ":method", "CONNECT", ":authority", "a:80")
	f.wantHeaders(1, false, ":status", "400")
	f = p.framed()
	f.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"+strings.Repeat("x", 17_000))
	f.wantHeaders(1, false, ":status", "414")
}

// TestFidelityH2Reset resets a stream in the middle; its neighbour on the connection goes on.
func TestFidelityH2Reset(t *testing.T) {
	started, gone := make(chan struct{}), make(chan struct{})
	app := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/reset" {
			close(started)
			<-r.Context().Done()
			close(gone)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}
	p := newProxy(t, goApp(t, app), proxyOptions{pool: PoolConfig{Protocol: endpoint.H2C}})
	f := p.framed()
	f.request(1, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/reset")
	f.request(3, false, ":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/echo")
	<-started
	if err := f.WriteRSTStream(1, http2.ErrCodeCancel); err != nil {
		t.Fatal(err)
	}
	<-gone
	p.wantCause(fault.ClientGone)
	if err := f.WriteData(3, true, []byte("still")); err != nil {
		t.Fatal(err)
	}
	f.wantHeaders(3, false, ":status", "200")
	if d, ok := f.next().(*http2.DataFrame); !ok || string(d.Data()) != "still" {
		t.Fatalf("data = %v", d)
	}
	p.wantCause(fault.None)
}

// TestFidelityH2Drain checks GOAWAY on present and later connections but not after Resume, and that streams that are open
// finish.
func TestFidelityH2Drain(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	app := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(started)
			<-release
		}
	}
	p := newProxy(t, goApp(t, app), proxyOptions{})
	f := p.framed()
	f.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/slow")
	<-started
	p.srv.Drain()
	if g, ok := f.next().(*http2.GoAwayFrame); !ok || g.ErrCode != http2.ErrCodeNo || g.LastStreamID != 1 {
		t.Fatalf("frame = %v, want GOAWAY", g)
	}
	late := p.framed()
	late.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/fast")
	wantGoAwayAnd200(t, late)
	p.srv.Resume()
	again := p.framed()
	for _, id := range []uint32{1, 3} {
		again.request(id, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/fast")
		again.wantHeaders(id, true, ":status", "200")
	}
	shut := make(chan error, 1)
	go func() { shut <- p.srv.Shutdown(context.Background()) }()
	close(release)
	f.wantHeaders(1, true, ":status", "200")
	if err := <-shut; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if st := p.srv.Stats(); st.Open != 0 || st.Active != 0 {
		t.Errorf("stats = %+v", st)
	}
}

func wantGoAwayAnd200(t *testing.T, f *framed) {
	t.Helper()
	answered, away := false, false
	for !answered || !away {
		switch fr := f.next().(type) {
		case *http2.GoAwayFrame:
			away = true
		case *http2.MetaHeadersFrame:
			answered = fr.PseudoValue("status") == "200"
		default:
			t.Fatalf("frame = %v", fr)
		}
	}
}

// TestFidelityH2Downgrade sends over HTTP/2 what would be something else in an HTTP/1 head. The pod must see nothing.
func TestFidelityH2Downgrade(t *testing.T) {
	good := map[string]string{":method": "GET", ":scheme": "http", ":authority": "a", ":path": "/"}
	for name, bad := range map[string][2]string{
		"space in the path":         {":path", "/a b"},
		"request line in the path":  {":path", "/ HTTP/1.1\r\nHost: b\r\n\r\nGET /"},
		"version in the path":       {":path", "/ HTTP/1.1"},
		"tab in the path":           {":path", "/\tx"},
		"NUL in the path":           {":path", "/\x00"},
		"relative path":             {":path", "a"},
		"absolute path":             {":path", "http://b/"},
		"asterisk with GET":         {":path", "*"},
		"empty path":                {":path", ""},
		"space in the method":       {":method", "GET /x HTTP/1.1"},
		"line end in the method":    {":method", "GET\r\nX: y"},
		"empty method":              {":method", ""},
		"space in the authority":    {":authority", "a b"},
		"path in the authority":     {":authority", "a/b"},
		"line end in the authority": {":authority", "a\r\nX: y"},
		"user in the authority":     {":authority", "u@a"},
		"line end in a value":       {"x-a", "1\r\nX-B: 2"},
		"bare LF in a value":        {"x-a", "1\nX-B: 2"},
		"bare CR in a value":        {"x-a", "1\rX-B: 2"},
		"NUL in a value":            {"x-a", "1\x002"},
		"line end in a name":        {"x-a\r\nx-b", "1"},
		"colon in a name":           {"x-a: 1", "1"},
		"space in a name":           {"x a", "1"},
		"upper case in a name":      {"X-A", "1"},
		"unknown pseudo header":     {":x", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			f := p.framed()
			fields := []string{}
			for _, n := range []string{":method", ":scheme", ":authority", ":path"} {
				if n == bad[0] {
					fields = append(fields, n, bad[1])
				} else {
					fields = append(fields, n, good[n])
				}
			}
			if good[bad[0]] == "" {
				fields = append(fields, bad[0], bad[1])
			}
			f.request(1, true, fields...)
			if what := f.refusal(); what == "" {
				t.Error("the request was not refused")
			}
			select {
			case c := <-a.conns:
				b := make([]byte, 1000)
				n, _ := c.Read(b)
				c.Close()
				if n > 0 {
					t.Errorf("the pod saw %q", b[:n])
				}
			default:
			}
		})
	}
}

// refusal waits for an end of stream 1 or of the connection, and says how it was refused; empty when it was served.
func (f *framed) refusal() string {
	f.t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return err.Error()
		}
		switch fr := fr.(type) {
		case *http2.RSTStreamFrame:
			return fr.ErrCode.String()
		case *http2.GoAwayFrame:
			return fr.ErrCode.String()
		case *http2.MetaHeadersFrame:
			if status := fr.PseudoValue("status"); status != "200" {
				return status
			}
			return ""
		}
	}
}

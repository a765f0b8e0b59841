package forward

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rousehq/rouse/internal/fault"
	"github.com/valyala/fasthttp"
	"pgregory.net/rapid"
)

const testHead, testTarget = 64 << 10, 16 << 10

func scan(b []byte) (h head, done bool, cause fault.Cause) {
	h.reset()
	done, cause = h.scanRequest(b, testHead, testTarget)
	return h, done, cause
}

// requestCases are heads with what becomes of them. They seed the fuzz targets as well.
var requestCases = []struct {
	name, head string
	want       fault.Cause
}{
	{"plain", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", fault.None},
	{"1.0 without host", "GET / HTTP/1.0\r\n\r\n", fault.None},
	{"absolute form", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", fault.None},
	{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", fault.None},
	{"raw path", "GET /%2e%2E//a;b?c=%zz HTTP/1.1\r\nHost: a\r\n\r\n", fault.None},
	{"tab in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n", fault.None},
	{"obs-text in value", "GET / HTTP/1.1\r\nHost: a\r\nX: caf\xe9\r\n\r\n", fault.None},
	{"empty value", "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", fault.None},
	{"no space after colon", "GET / HTTP/1.1\r\nHost:a\r\n\r\n", fault.None},
	{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", fault.None},
	{"chunked", "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n\r\n", fault.None},
	{"length 0", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", fault.None},

	{"no host", "GET / HTTP/1.1\r\n\r\n", fault.BadRequest},
	{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"host with space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", fault.BadRequest},
	{"host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", fault.BadRequest},
	{"TE and CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", fault.BadRequest},
	{"CL and TE", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", fault.BadRequest},
	{"TE in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", fault.BadRequest},
	{"two TE", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", fault.BadRequest},
	{"TE list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", fault.BadRequest},
	{"TE identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", fault.BadRequest},
	{"TE with junk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", fault.BadRequest},
	{"two equal CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", fault.BadRequest},
	{"two CL", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", fault.BadRequest},
	{"CL list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", fault.BadRequest},
	{"CL plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", fault.BadRequest},
	{"CL minus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", fault.BadRequest},
	{"CL hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n", fault.BadRequest},
	{"CL empty", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", fault.BadRequest},
	{"CL overflow", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\n", fault.BadRequest},
	{"obs-fold", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", fault.BadRequest},
	{"fold of the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", fault.BadRequest},
	{"bare LF", "GET / HTTP/1.1\nHost: a\n\n", fault.BadRequest},
	{"bare LF in head", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", fault.BadRequest},
	{"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", fault.BadRequest},
	{"bare CR in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", fault.BadRequest},
	{"CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"NUL in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", fault.BadRequest},
	{"NUL in name", "GET / HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n", fault.BadRequest},
	{"DEL in a long value", "GET / HTTP/1.1\r\nHost: a\r\nX: 0123456789\x7f0123456789\r\n\r\n", fault.BadRequest},
	{"space before colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", fault.BadRequest},
	{"tab before colon", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 3\r\n\r\n", fault.BadRequest},
	{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", fault.BadRequest},
	{"empty name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", fault.BadRequest},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"space in target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"version 1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"version 2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"no version", "GET /\r\n\r\n", fault.BadRequest},
	{"method with brace", "G{T / HTTP/1.1\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"connect", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", fault.BadRequest},
	{"connect in absolute form", "CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"user in target", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", fault.BadRequest},
	{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", fault.BadRequest},
	{"many connection tokens", "GET / HTTP/1.1\r\nHost: a\r\nConnection: " + strings.Repeat("a,", maxTokens) + "b\r\n\r\n", fault.BadRequest},

	{"long target", "GET /" + strings.Repeat("a", testTarget) + " HTTP/1.1\r\nHost: a\r\n\r\n", fault.TargetTooLong},
	{"endless target", "GET /" + strings.Repeat("a", 2*testTarget), fault.TargetTooLong},
	{"long head", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", testHead) + "\r\n\r\n", fault.HeadTooLarge},
	{"endless head", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", testHead), fault.HeadTooLarge},
	{"many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("a:\r\n", maxFields) + "\r\n", fault.HeadTooLarge},
}

func TestScanRequest(t *testing.T) {
	for _, tc := range requestCases {
		t.Run(tc.name, func(t *testing.T) {
			h, done, cause := scan([]byte(tc.head))
			if cause != tc.want || done != (tc.want == fault.None) {
				t.Fatalf("scanRequest(%q) = %v, %v, want %v", tc.head, done, cause, tc.want)
			}
			if done && int(h.size) != len(tc.head) {
				t.Errorf("size = %d, want %d", h.size, len(tc.head))
			}
		})
	}
}

// TestScanInPieces shows that it does not matter how a head arrives.
func TestScanInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tc := requestCases[rapid.IntRange(0, len(requestCases)-1).Draw(t, "case")]
		if len(tc.head) > 1000 {
			return // limits are checked when bytes arrive, so there the piece decides which one strikes
		}
		whole, wantDone, wantCause := scan([]byte(tc.head))
		var h head
		h.reset()
		done, cause, n := false, fault.None, 0
		for n < len(tc.head) && !done && cause == fault.None {
			n = min(len(tc.head), n+rapid.IntRange(1, 20).Draw(t, "piece"))
			done, cause = h.scanRequest([]byte(tc.head[:n]), testHead, testTarget)
		}
		if done != wantDone || cause != wantCause {
			t.Fatalf("%s: in pieces %v, %v, at once %v, %v", tc.name, done, cause, wantDone, wantCause)
		}
		if done && !slices.Equal(h.fields, whole.fields) {
			t.Fatalf("%s: in pieces %+v, at once %+v", tc.name, h.fields, whole.fields)
		}
	})
}

func TestScanFields(t *testing.T) {
	const text = "POST /p?q HTTP/1.1\r\nHost: a.example:80\r\nX-One:  1 \r\nx-one: 2\r\nConnection: X-Two, close, Content-Length\r\n" +
		"X-Two: gone\r\nContent-Length: 12\r\nKeep-Alive: 5\r\n\r\n"
	h, done, cause := scan([]byte(text))
	if !done || cause != fault.None {
		t.Fatalf("scanRequest = %v, %v", done, cause)
	}
	type line struct {
		name, value string
		drop        bool
	}
	want := []line{
		{"Host", "a.example:80", false}, {"X-One", "1", false}, {"x-one", "2", false},
		{"Connection", "X-Two, close, Content-Length", true}, {"X-Two", "gone", true},
		{"Content-Length", "12", false}, {"Keep-Alive", "5", true},
	}
	var got []line
	for i := range h.fields {
		f := &h.fields[i]
		got = append(got, line{string(f.nameOf([]byte(text))), string(f.val([]byte(text))), f.drop})
	}
	if !slices.Equal(got, want) {
		t.Errorf("fields:\n%v\nwant\n%v", got, want)
	}
	if h.length != 12 || !h.close || h.keepAlive || h.chunked {
		t.Errorf("length %d, close %v, keep-alive %v, chunked %v", h.length, h.close, h.keepAlive, h.chunked)
	}
}

func TestScanResponse(t *testing.T) {
	for _, tc := range []struct {
		name, head string
		ok         bool
		status     int
	}{
		{"plain", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, 200},
		{"no reason", "HTTP/1.1 404 \r\n\r\n", true, 404},
		{"no reason, no space", "HTTP/1.1 404\r\n\r\n", true, 404},
		{"1.0", "HTTP/1.0 200 OK\r\n\r\n", true, 200},
		{"early hints", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", true, 103},
		{"equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", true, 200},
		{"chunked and length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", true, 200},
		{"different lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", false, 0},
		{"odd coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", false, 0},
		{"odd length", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n", false, 0},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", false, 0},
		{"status below 100", "HTTP/1.1 099 OK\r\n\r\n", false, 0},
		{"version 2", "HTTP/2.0 200 OK\r\n\r\n", false, 0},
		{"obs-fold", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", false, 0},
		{"bare LF", "HTTP/1.1 200 OK\n\n", false, 0},
		{"control in reason", "HTTP/1.1 200 O\x00K\r\n\r\n", false, 0},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n", false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var h head
			h.reset()
			done, ok := h.scanResponse([]byte(tc.head))
			if ok != tc.ok || ok && (!done || h.status != tc.status) {
				t.Errorf("scanResponse(%q) = %v, %v with status %d, want %v with %d", tc.head, done, ok, h.status, tc.ok, tc.status)
			}
		})
	}
}

func TestHasControl(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "b")
		if got, want := hasControl(b), controlIn(b); got != want {
			t.Fatalf("hasControl(%q) = %v, want %v", b, got, want)
		}
	})
}

// FuzzScanRequest holds that the scanner accepts nothing that both net/http and fasthttp refuse, and that it agrees
// with net/http about where the body lies and whom the request is for.
func FuzzScanRequest(f *testing.F) {
	for _, tc := range requestCases {
		if len(tc.head) < 2000 {
			f.Add([]byte(tc.head))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, done, cause := scan(b)
		if !done || cause != fault.None {
			return
		}
		text := b[:h.size]
		std, stdErr := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(text), 1<<17))
		var fast fasthttp.RequestHeader
		fast.DisableNormalizing()
		fastErr := fast.Read(bufio.NewReaderSize(bytes.NewReader(text), 1<<17))
		var path *url.Error // net/http wants to understand the target, which is passed on raw
		if stdErr != nil && fastErr != nil && !errors.As(stdErr, &path) {
			t.Fatalf("accepted %q, which net/http (%v) and fasthttp (%v) refuse", text, stdErr, fastErr)
		}
		if stdErr == nil {
			agree(t, &h, text, std)
		}
	})
}

func agree(t *testing.T, h *head, text []byte, std *http.Request) {
	length := max(0, h.length)
	if h.chunked {
		length = -1
	}
	if std.ContentLength != length {
		t.Fatalf("%q: length %d, net/http says %d", text, length, std.ContentLength)
	}
	if got := string(text[:h.method]); got != std.Method {
		t.Fatalf("%q: method %q, net/http says %q", text, got, std.Method)
	}
	if got := string(text[h.targetFrom:h.targetTo]); got != std.RequestURI {
		t.Fatalf("%q: target %q, net/http says %q", text, got, std.RequestURI)
	}
	host := string(authority(text[h.targetFrom:h.targetTo]))
	if host == "" && h.has(kindHost) {
		host = string(h.host.val(text))
	}
	if std.Host != host {
		t.Fatalf("%q: host %q, net/http says %q", text, host, std.Host)
	}
}

// FuzzScanResponse holds that the scanner accepts no response head that both refuse.
func FuzzScanResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 404 Not Found\r\nConnection: close, x\r\nX: y\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h head
		h.reset()
		if done, ok := h.scanResponse(b); !done || !ok {
			return
		}
		text := b[:h.size]
		res, stdErr := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(text), 1<<17), nil)
		var fast fasthttp.ResponseHeader
		fastErr := fast.Read(bufio.NewReaderSize(bytes.NewReader(text), 1<<17))
		if stdErr != nil && fastErr != nil {
			t.Fatalf("accepted %q, which net/http (%v) and fasthttp (%v) refuse", text, stdErr, fastErr)
		}
		if stdErr == nil && res.StatusCode != h.status {
			t.Fatalf("%q: status %d, net/http says %d", text, h.status, res.StatusCode)
		}
	})
}

func BenchmarkScanRequest(b *testing.B) {
	text := []byte("GET /index.html?a=b HTTP/1.1\r\nHost: app.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0)\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
		"X-Request-Id: 7f9c24e5-5e2b-4a3b-9b7e-0123456789ab\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n" +
		"X-Forwarded-For: 10.0.0.1\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n\r\n")
	b.Run("onepass", func(b *testing.B) {
		var h head
		b.ReportAllocs()
		for b.Loop() {
			h.reset()
			if done, _ := h.scanRequest(text, testHead, testTarget); !done {
				b.Fatal("not done")
			}
		}
	})
	b.Run("fasthttp", func(b *testing.B) {
		var h fasthttp.RequestHeader
		r := bytes.NewReader(text)
		br := bufio.NewReader(r)
		b.ReportAllocs()
		for b.Loop() {
			r.Reset(text)
			br.Reset(r)
			if err := h.Read(br); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net-http", func(b *testing.B) {
		r := bytes.NewReader(text)
		br := bufio.NewReader(r)
		b.ReportAllocs()
		for b.Loop() {
			r.Reset(text)
			br.Reset(r)
			if _, err := http.ReadRequest(br); err != nil {
				b.Fatal(err)
			}
		}
	})
}

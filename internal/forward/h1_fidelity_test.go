package forward

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"

	"github.com/rousehq/rouse/internal/fault"
)

// TestFidelityHTTP1 sends exact bytes through the proxy and compares the exact bytes on the other side, in both
// directions.
func TestFidelityHTTP1(t *testing.T) {
	const plain = "GET / HTTP/1.1\nHost: a\n\n"
	const ok = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"
	for _, tc := range []struct {
		name            string
		send, up        string // request from the client, and as the pod must see it
		reply, down     string // response from the pod, and as the client must see it
		clientConnEnds  bool
		podConnUnusable bool
	}{
		{
			name:  "header case, order and repetition, raw target",
			send:  "GET /a%2Fb/../c;d?x=%20&y=[1]&& HTTP/1.1\nhOsT: Example.test:8080\nX-b: 1\nx-A: 2\nX-b: 3\ncookie: a=b\nACCEPT: */*\n\n",
			up:    "GET /a%2Fb/../c;d?x=%20&y=[1]&& HTTP/1.1\nhOsT: Example.test:8080\nX-b: 1\nx-A: 2\nX-b: 3\ncookie: a=b\nACCEPT: */*\n\n",
			reply: "HTTP/1.1 200 Fine thanks\nset-cookie: a=1\nX-z: 0\nSET-cookie: b=2\ncontent-length: 2\nx-y: 1\n\nok",
			down:  "HTTP/1.1 200 Fine thanks\nset-cookie: a=1\nX-z: 0\nSET-cookie: b=2\ncontent-length: 2\nx-y: 1\n\nok",
		},
		{
			name:  "path that begins with two slashes",
			send:  "GET //evil.test/%zz HTTP/1.1\nHost: a\n\n",
			up:    "GET //evil.test/%zz HTTP/1.1\nHost: a\n\n",
			reply: ok, down: ok,
		},
		{
			name:  "nothing is added to a bare request or response",
			send:  plain,
			up:    plain,
			reply: "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
			down:  "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		},
		{
			name:  "hop-by-hop headers of the request",
			send:  "GET / HTTP/1.1\nHost: a\nKeep-Alive: timeout=5\nConnection: keep-alive, x-secret\nX-Secret: 1\nProxy-Connection: keep-alive\nX-Kept: 1\nConnection: X-Other\nx-other: 2\nUpgrade-Insecure-Requests: 1\n\n",
			up:    "GET / HTTP/1.1\nHost: a\nX-Kept: 1\nUpgrade-Insecure-Requests: 1\n\n",
			reply: ok, down: ok,
		},
		{
			name: "hop-by-hop headers of the response, and the private header",
			send: plain, up: plain,
			reply: "HTTP/1.1 200 OK\nConnection: X-Int\nx-int: 1\nKeep-Alive: timeout=5\nrouse-not-admitted: 1\nProxy-Connection: x\nX-Kept: 1\nContent-Length: 2\n\nok",
			down:  "HTTP/1.1 200 OK\nX-Kept: 1\nContent-Length: 2\n\nok",
		},
		{
			name:  "an upgrade that nobody asked for by Connection is dropped",
			send:  "GET / HTTP/1.1\nHost: a\nUpgrade: websocket\n\n",
			up:    "GET / HTTP/1.1\nHost: a\n\n",
			reply: ok, down: ok,
		},
		{
			name:  "body by length",
			send:  "POST /p HTTP/1.1\nHost: a\ncontent-LENGTH: 5\n\nhello",
			up:    "POST /p HTTP/1.1\nHost: a\ncontent-LENGTH: 5\n\nhello",
			reply: ok, down: ok,
		},
		{
			name:  "POST without a body keeps its zero length",
			send:  "POST /p HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
			up:    "POST /p HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
			reply: ok, down: ok,
		},
		{
			name:  "HEAD",
			send:  "HEAD / HTTP/1.1\nHost: a\n\n",
			up:    "HEAD / HTTP/1.1\nHost: a\n\n",
			reply: "HTTP/1.1 200 OK\nContent-Length: 500\n\n",
			down:  "HTTP/1.1 200 OK\nContent-Length: 500\n\n",
		},
		{
			name:  "OPTIONS * without added length",
			send:  "OPTIONS * HTTP/1.1\nHost: a\n\n",
			up:    "OPTIONS * HTTP/1.1\nHost: a\n\n",
			reply: "HTTP/1.1 204 No Content\nAllow: GET\n\n",
			down:  "HTTP/1.1 204 No Content\nAllow: GET\n\n",
		},
		{
			name: "304 with the length of what it does not carry",
			send: plain, up: plain,
			reply: "HTTP/1.1 304 Not Modified\nContent-Length: 500\nETag: \"x\"\n\n",
			down:  "HTTP/1.1 304 Not Modified\nContent-Length: 500\nETag: \"x\"\n\n",
		},
		{
			name:  "unknown method and status",
			send:  "BREW /pot HTTP/1.1\nHost: a\n\n",
			up:    "BREW /pot HTTP/1.1\nHost: a\n\n",
			reply: "HTTP/1.1 799 \nContent-Length: 2\n\nno",
			down:  "HTTP/1.1 799 \nContent-Length: 2\n\nno",
		},
		{
			name: "103 passes before the response",
			send: plain, up: plain,
			reply: "HTTP/1.1 103 Early Hints\nlink: </a.css>; rel=preload\n\nHTTP/1.1 103 Early Hints\nLink: </b.css>\n\n" + ok,
			down:  "HTTP/1.1 103 Early Hints\nlink: </a.css>; rel=preload\n\nHTTP/1.1 103 Early Hints\nLink: </b.css>\n\n" + ok,
		},
		{
			name:  "the client's wish to close is its own",
			send:  "GET / HTTP/1.1\nHost: a\nConnection: close\n\n",
			up:    plain[:len(plain)-1] + "\n",
			reply: ok,
			down:  "HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nok", clientConnEnds: true,
		},
		{
			name: "the pod's wish to close is its own",
			send: plain, up: plain,
			reply: "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 2\n\nok",
			down:  "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", podConnUnusable: true,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			client := p.dial()
			client.send(crlf(tc.send))
			pod := a.accept()
			pod.want(crlf(tc.up))
			pod.send(crlf(tc.reply))
			client.want(crlf(tc.down))
			p.wantCause(fault.None)
			if tc.clientConnEnds {
				if rest := client.wantEnd(); rest != "" {
					t.Fatalf("after the response came %q", rest)
				}
				return
			}
			if tc.podConnUnusable {
				if rest := pod.wantEnd(); rest != "" {
					t.Fatalf("on a connection that is over the proxy sent %q", rest)
				}
			}
			// Keep-alive on both sides: the next request takes the same connections.
			client.send(crlf("GET /next HTTP/1.1\nHost: a\n\n"))
			if tc.podConnUnusable {
				pod = a.accept()
			}
			pod.want(crlf("GET /next HTTP/1.1\nHost: a\n\n"))
			pod.send(crlf(ok))
			client.want(crlf(ok))
		})
	}
}

// readRequest parses a request off p, body and trailers included.
func readRequest(p *peer) (*http.Request, string) {
	p.t.Helper()
	r, err := http.ReadRequest(p.br)
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return r, string(b)
}

func readResponse(p *peer, method string) (*http.Response, string) {
	p.t.Helper()
	r, err := http.ReadResponse(p.br, &http.Request{Method: method})
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return r, string(b)
}

func TestFidelityChunkedRequest(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	client := p.dial()
	client.send(crlf("POST / HTTP/1.1\nHost: a\nX-b: 1\nTransfer-Encoding: chunked\nTrailer: x-Sum\nx-A: 2\n\n" +
		"5;ext=1;q=\"a;b\"\nhello\n06 ; y\n world\n0;last\nx-Sum: abc\nX-Extra: 1\n\n"))
	pod := a.accept()
	r, body := readRequest(pod)
	if body != "hello world" {
		t.Errorf("body = %q", body)
	}
	if got := r.Trailer.Get("X-Sum"); got != "abc" {
		t.Errorf("trailer X-Sum = %q, want abc; trailers %v", got, r.Trailer)
	}
	pod.send(response("ok"))
	client.want(response("ok"))
	if r := p.wantCause(fault.None); r.RequestBytes != 11 || r.ResponseBytes != 2 {
		t.Errorf("result counts %d and %d body bytes, want 11 and 2", r.RequestBytes, r.ResponseBytes)
	}
}

func TestFidelityChunkedResponse(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	client := p.dial()
	client.send(crlf("GET / HTTP/1.1\nHost: a\nTE: trailers\nConnection: TE\n\n"))
	pod := a.accept()
	pod.head()
	pod.send(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: x-sum\n\n3;a=b\nabc\nA\n0123456789\n0\nx-sum: 1\nX-more: 2\n\n"))
	res, body := readResponse(client, "GET")
	if body != "abc0123456789" || res.Trailer.Get("X-Sum") != "1" {
		t.Fatalf("body %q, trailers %v", body, res.Trailer)
	}
	if !slices.Equal(res.TransferEncoding, []string{"chunked"}) {
		t.Errorf("transfer encoding = %v", res.TransferEncoding)
	}
	p.wantCause(fault.None)
	client.send(crlf("GET /2 HTTP/1.1\nHost: a\n\n"))
	pod.wantHead("GET /2 ")
	pod.send(response("ok"))
	client.want(response("ok"))
}

// TestFidelityTE says what becomes of TE: only "trailers" means something beyond one connection.
func TestFidelityTE(t *testing.T) {
	for _, tc := range []struct {
		te   string
		want bool
	}{{"trailers", true}, {"gzip, trailers", true}, {"gzip;q=0.5", false}} {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf("GET / HTTP/1.1\nHost: a\nTE: " + tc.te + "\nConnection: TE\n\n"))
		pod := a.accept()
		r, _ := readRequest(pod)
		if got := r.Header.Get("Te"); (got == "trailers") != tc.want || (got == "") == tc.want {
			t.Errorf("TE: %s reached the pod as %q, want trailers: %v", tc.te, got, tc.want)
		}
		pod.send(response("ok"))
		client.want(response("ok"))
	}
}

func TestFidelityContinueIsThePods(t *testing.T) {
	const head = "POST / HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 5\n\n"
	t.Run("granted", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf(head))
		pod := a.accept()
		pod.want(crlf(head))
		pod.send(crlf("HTTP/1.1 100 Continue\nX-c: 1\n\n"))
		client.want(crlf("HTTP/1.1 100 Continue\nX-c: 1\n\n"))
		client.send("hello")
		pod.want("hello")
		pod.send(response("ok"))
		client.want(response("ok"))
	})
	t.Run("refused", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf(head))
		pod := a.accept()
		pod.want(crlf(head))
		pod.send(crlf("HTTP/1.1 417 Expectation Failed\nContent-Length: 2\n\nno"))
		client.wantHead("HTTP/1.1 417 ")
		client.want("no")
		p.wantCause(fault.None)
	})
}

func TestFidelityHTTP10(t *testing.T) {
	t.Run("closes after the response", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf("GET / HTTP/1.0\nX-a: 1\n\n"))
		pod := a.accept()
		if h := pod.head(); !strings.Contains(h, "X-a: 1\r\n") {
			t.Fatalf("head = %q", h)
		}
		pod.send(crlf("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"))
		res, body := readResponse(client, "GET")
		if body != "ok" || res.ContentLength != 2 {
			t.Fatalf("body %q, length %d", body, res.ContentLength)
		}
		if rest := client.wantEnd(); rest != "" {
			t.Fatalf("rest = %q", rest)
		}
	})
	t.Run("a chunked response is sent unchunked, its end is the connection's", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf("GET / HTTP/1.0\nHost: a\nConnection: keep-alive\n\n"))
		pod := a.accept()
		pod.head()
		pod.send(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n2\nde\n0\n\n"))
		h := client.wantHead("HTTP/1.")
		if strings.Contains(strings.ToLower(h), "transfer-encoding") {
			t.Fatalf("head = %q", h)
		}
		if rest := client.wantEnd(); rest != "abcde" {
			t.Fatalf("body = %q", rest)
		}
	})
	t.Run("keep-alive", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		var pod *peer
		for range 2 {
			client.send(crlf("GET / HTTP/1.0\nHost: a\nConnection: keep-alive\n\n"))
			if pod == nil {
				pod = a.accept()
			}
			pod.head()
			pod.send(response("ok"))
			res, body := readResponse(client, "GET")
			if body != "ok" || !strings.EqualFold(res.Header.Get("Connection"), "keep-alive") {
				t.Fatalf("body %q, header %v", body, res.Header)
			}
		}
	})
	t.Run("a pod that speaks HTTP/1.0", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf("GET / HTTP/1.1\nHost: a\n\n"))
		pod := a.accept()
		pod.head()
		pod.send(crlf("HTTP/1.0 200 OK\nX-a: 1\n\nbody until the end"))
		pod.close()
		res, body := readResponse(client, "GET")
		if body != "body until the end" || res.Header.Get("X-A") != "1" {
			t.Fatalf("body %q, header %v", body, res.Header)
		}
		p.wantCause(fault.None)
	})
}

func TestFidelityPipelining(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	client := p.dial()
	client.send(crlf("GET /1 HTTP/1.1\nHost: a\n\nPOST /2 HTTP/1.1\nHost: a\nContent-Length: 3\n\nabcPOST /3 HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n3\nxyz\n0\n\nGET /4 HTTP/1.1\nHost: a\n\n"))
	pod := a.accept()
	for _, want := range []struct{ path, body string }{{"/1", ""}, {"/2", "abc"}, {"/3", "xyz"}, {"/4", ""}} {
		r, body := readRequest(pod)
		if r.RequestURI != want.path || body != want.body {
			t.Fatalf("pod saw %s %q, want %s %q", r.RequestURI, body, want.path, want.body)
		}
		pod.send(response(want.path))
		client.want(response(want.path))
	}
}

// TestFidelityStreams sends the parts of a stream one after the other, each only once the one before has arrived.
func TestFidelityStreams(t *testing.T) {
	t.Run("server-sent events arrive at once", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf("GET /events HTTP/1.1\nHost: a\nAccept: text/event-stream\n\n"))
		pod := a.accept()
		pod.head()
		pod.send(crlf("HTTP/1.1 200 OK\nContent-Type: text/event-stream\nTransfer-Encoding: chunked\n\n"))
		client.wantHead("HTTP/1.1 200 OK\r\n")
		body := bufio.NewReader(httputil.NewChunkedReader(client.br))
		for _, event := range []string{"data: 1\n\n", "data: 2\n\n", "data: 3\n\n"} {
			pod.send("9\r\n" + event + "\r\n")
			got := make([]byte, len(event))
			if _, err := io.ReadFull(body, got); err != nil || string(got) != event {
				t.Fatalf("event = %q (%v), want %q", got, err, event)
			}
		}
		pod.send("0\r\n\r\n")
		if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
			t.Fatalf("end = %q, %v", rest, err)
		}
	})
	t.Run("known length arrives at once too", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf("GET / HTTP/1.1\nHost: a\n\n"))
		pod := a.accept()
		pod.head()
		pod.send(crlf("HTTP/1.1 200 OK\nContent-Length: 6\n\n"))
		client.head()
		for _, part := range []string{"ab", "cd", "ef"} {
			pod.send(part)
			client.want(part)
		}
	})
	t.Run("request and response at the same time", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf("POST /duplex HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n"))
		pod := a.accept()
		pod.head()
		pod.send(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"))
		client.wantHead("HTTP/1.1 200 OK\r\n")
		up := httputil.NewChunkedReader(pod.br)
		down := httputil.NewChunkedReader(client.br)
		for _, part := range []string{"one", "two", "six"} {
			client.send("3\r\n" + part + "\r\n")
			wantRead(t, up, part)
			pod.send("3\r\n" + part + "\r\n")
			wantRead(t, down, part)
		}
		client.send("0\r\n\r\n")
		if _, err := up.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("request end = %v", err)
		}
		pod.send("0\r\n\r\n")
		if _, err := down.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("response end = %v", err)
		}
		p.wantCause(fault.None)
	})
	t.Run("an answer before the request's end", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		client.send(crlf("POST / HTTP/1.1\nHost: a\nContent-Length: 1000000\n\nabc"))
		pod := a.accept()
		pod.head()
		pod.want("abc")
		pod.send(crlf("HTTP/1.1 413 Too Large\nConnection: close\nContent-Length: 2\n\nno"))
		client.wantHead("HTTP/1.1 413 Too Large\r\n")
		client.want("no")
	})
}

func wantRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q (%v), want %q", got, err, want)
	}
}

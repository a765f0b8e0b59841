package forward

import (
	"strings"
	"testing"

	"github.com/rousehq/rouse/internal/fault"
)

// TestFidelitySmuggling sends what two parsers could read differently. Each must be answered 400, the connection must
// close, and no pod may see a byte of it: in every case a second request stands behind the first.
func TestFidelitySmuggling(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a\r\n"
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	const chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
	for name, head := range map[string]string{
		"TE with CL":                      post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"CL with TE":                      post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two equal CL":                    post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"two different CL":                post + "Content-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
		"CL list":                         post + "Content-Length: 3, 3\r\n\r\nabc",
		"CL with plus":                    post + "Content-Length: +3\r\n\r\nabc",
		"CL negative":                     post + "Content-Length: -3\r\n\r\nabc",
		"CL hexadecimal":                  post + "Content-Length: 0x3\r\n\r\nabc",
		"CL empty":                        post + "Content-Length:\r\n\r\nabc",
		"CL with space inside":            post + "Content-Length: 1 0\r\n\r\nabc",
		"CL over 63 bits":                 post + "Content-Length: 99999999999999999999\r\n\r\nabc",
		"CL with underscore":              post + "Content-Length: 1_0\r\n\r\nabc",
		"TE twice":                        post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"TE unknown":                      post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"TE identity":                     post + "Transfer-Encoding: identity\r\n\r\n",
		"TE gzip, chunked":                post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"TE chunked, identity":            post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"TE quoted":                       post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
		"TE with vertical tab":            post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"TE in HTTP/1.0":                  "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"obs-fold":                        get + "X-A: 1\r\n 2\r\n\r\n",
		"obs-fold with tab":               get + "X-A: 1\r\n\t2\r\n\r\n",
		"obs-fold of TE":                  post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
		"first header folded":             "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
		"bare CR in a value":              get + "X-A: 1\r2\r\n\r\n",
		"bare CR in a name":               get + "X\r-A: 1\r\n\r\n",
		"bare CR in the target":           "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
		"bare LF between headers":         "GET / HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n",
		"bare LF after the request line":  "GET / HTTP/1.1\nHost: a\r\n\r\n",
		"bare LF at the end":              get + "\n",
		"LF LF":                           "GET / HTTP/1.1\nHost: a\n\n",
		"space before the colon":          get + "X-A : 1\r\n\r\n",
		"space before the colon of CL":    post + "Content-Length : 3\r\n\r\nabc",
		"tab before the colon of TE":      post + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
		"no colon":                        get + "X-A\r\n\r\n",
		"empty name":                      get + ": 1\r\n\r\n",
		"name with a control character":   get + "X\x01A: 1\r\n\r\n",
		"name that is not ASCII":          get + "X-\xc3\xa4: 1\r\n\r\n",
		"NUL in a value":                  get + "X-A: a\x00b\r\n\r\n",
		"NUL in a name":                   get + "X\x00A: ab\r\n\r\n",
		"NUL in the target":               "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
		"DEL in a value":                  get + "X-A: a\x7fb\r\n\r\n",
		"two Hosts":                       get + "Host: b\r\n\r\n",
		"two equal Hosts":                 get + "Host: a\r\n\r\n",
		"no Host":                         "GET / HTTP/1.1\r\n\r\n",
		"Host with a space":               "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
		"Host with a path":                "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
		"Host with user information":      "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
		"space in the target":             "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
		"two spaces before the target":    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
		"no target":                       "GET HTTP/1.1\r\nHost: a\r\n\r\n",
		"tab in the request line":         "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"HTTP/0.9":                        "GET /\r\n\r\n",
		"version 1.2":                     "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
		"version 2.0":                     "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
		"lower-case version":              "GET / http/1.1\r\nHost: a\r\n\r\n",
		"method with a separator":         "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
		"relative target":                 "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT":                         "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
		"CONNECT in absolute form":        "CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT to a path":               "CONNECT /a HTTP/1.1\r\nHost: a:80\r\n\r\n",
		"asterisk with GET":               "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
		"user information in the target":  "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"chunk size not hexadecimal":      chunked + "g\r\nabc\r\n0\r\n\r\n",
		"chunk size empty":                chunked + "\r\nabc\r\n0\r\n\r\n",
		"chunk size negative":             chunked + "-1\r\nabc\r\n0\r\n\r\n",
		"chunk size with 0x":              chunked + "0x3\r\nabc\r\n0\r\n\r\n",
		"chunk size with a space before":  chunked + " 3\r\nabc\r\n0\r\n\r\n",
		"chunk size over 64 bits":         chunked + "10000000000000003\r\nabc\r\n0\r\n\r\n",
		"chunk size ended by LF":          chunked + "3\nabc\r\n0\r\n\r\n",
		"chunk extension with LF":         chunked + "3;a\nabc\r\n0\r\n\r\n",
		"chunk extension with CR":         chunked + "3;a\rb\r\nabc\r\n0\r\n\r\n",
		"chunk longer than its size":      chunked + "3\r\nabcd\r\n0\r\n\r\n",
		"chunk data ended by LF":          chunked + "3\r\nabc\n0\r\n\r\n",
		"trailer that sets framing":       chunked + "0\r\nContent-Length: 5\r\n\r\n",
		"trailer that sets TE":            chunked + "0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"trailer that sets Host":          chunked + "0\r\nHost: b\r\n\r\n",
		"trailer with space before colon": chunked + "0\r\nX-A : 1\r\n\r\n",
		"trailer folded":                  chunked + "0\r\nX-A: 1\r\n 2\r\n\r\n",
		"trailer ended by LF":             chunked + "0\r\nX-A: 1\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			client := p.dial()
			client.send(head + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
			client.wantHead("HTTP/1.1 400 Bad Request\r\n")
			rest := client.wantEnd()
			if strings.Contains(rest, "HTTP/1.1") {
				t.Errorf("a second answer came: %q", rest)
			}
			select {
			case c := <-a.conns:
				b := make([]byte, 1000)
				n, _ := c.Read(b)
				t.Errorf("the pod saw %q", b[:n])
			default:
			}
		})
	}
}

// TestFidelitySmugglingInPieces sends each byte of a smuggled framing on its own: where a read ends decides nothing.
func TestFidelitySmugglingInPieces(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	client := p.dial()
	for _, b := range []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n") {
		if _, err := client.c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	client.wantHead("HTTP/1.1 400 ")
	client.wantEnd()
}

// TestFidelityMalformedBodyLater breaks the framing once the request is on its way: the pod must not take what it has
// for a complete request.
func TestFidelityMalformedBodyLater(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{})
	client := p.dial()
	client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	pod := a.accept()
	pod.head()
	pod.want("3\r\nabc\r\n")
	client.send("zz\r\n")
	if rest := pod.wantEnd(); strings.Contains(rest, "0\r\n\r\n") {
		t.Fatalf("the pod was sent an end: %q", rest)
	}
	client.wantHead("HTTP/1.1 400 ")
	client.wantEnd()
	p.wantCause(fault.BadRequest)
}

// TestFidelityBadResponses has pods answer what cannot be passed on.
func TestFidelityBadResponses(t *testing.T) {
	for name, reply := range map[string]string{
		"not HTTP":          "SSH-2.0-OpenSSH_9\r\n\r\n",
		"status of letters": "HTTP/1.1 abc OK\r\n\r\n",
		"TE and CL apart":   "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"obs-fold":          "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
		"NUL":               "HTTP/1.1 200 OK\r\nX-A: \x00\r\nContent-Length: 0\r\n\r\n",
		"unasked upgrade":   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			client := p.dial()
			client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			pod := a.accept()
			pod.head()
			pod.send(reply)
			client.wantHead("HTTP/1.1 502 ")
			p.wantCause(fault.UpstreamProtocol)
			if rest := pod.wantEnd(); rest != "" {
				t.Errorf("the pod's connection was used again: %q", rest)
			}
		})
	}
}

func TestFidelityLimits(t *testing.T) {
	long := strings.Repeat("x", 20_000)
	for _, tc := range []struct{ name, send, want string }{
		{"target", "GET /" + long + " HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 414 "},
		{"target without an end", "GET /" + long + long + long + long, "HTTP/1.1 414 "},
		{"one header", "GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat(long, 4) + "\r\n\r\n", "HTTP/1.1 431 "},
		{"many headers", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: 123456789\r\n", 5000) + "\r\n", "HTTP/1.1 431 "},
		{"head without an end", "GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat(long, 4), "HTTP/1.1 431 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{})
			client := p.dial()
			client.send(tc.send)
			client.wantHead(tc.want)
			client.wantEnd()
		})
	}
	t.Run("below the limits", func(t *testing.T) {
		a := newApp(t)
		p := newProxy(t, a, proxyOptions{})
		client := p.dial()
		head := "GET /" + long[:16_000] + " HTTP/1.1\r\nHost: a\r\nX-A: " + long + long[:10_000] + "\r\n\r\n"
		client.send(head)
		pod := a.accept()
		pod.want(head)
		pod.send(response("ok"))
		client.want(response("ok"))
	})
}

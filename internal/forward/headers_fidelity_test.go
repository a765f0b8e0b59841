package forward

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
)

func TestFidelityForwardingHeaders(t *testing.T) {
	both := Forwarding{XForwarded: true, Forwarded: true}
	for _, tc := range []struct {
		name  string
		rules Forwarding
		send  string
		want  map[string]string // "" is absent
	}{
		{"off", Forwarding{}, "", map[string]string{"X-Forwarded-For": "", "Forwarded": "", "X-Forwarded-Host": "", "X-Forwarded-Proto": ""}},
		{"added", Forwarding{XForwarded: true}, "", map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "app.test", "X-Forwarded-Proto": "http", "Forwarded": "",
		}},
		{"appended and kept", Forwarding{XForwarded: true}, "X-Forwarded-For: 1.1.1.1\nX-Forwarded-Host: h\nX-Forwarded-Proto: https\n", map[string]string{
			"X-Forwarded-For": "1.1.1.1, 127.0.0.1", "X-Forwarded-Host": "h", "X-Forwarded-Proto": "https",
		}},
		{"the address alone", Forwarding{XForwardedFor: true}, "X-Forwarded-For: 1.1.1.1\n", map[string]string{
			"X-Forwarded-For": "1.1.1.1, 127.0.0.1", "X-Forwarded-Host": "", "X-Forwarded-Proto": "",
		}},
		{"Forwarded out of X-Forwarded", Forwarding{Forwarded: true}, "X-Forwarded-For: 1.1.1.1, 2001:db8::1\nX-Forwarded-Host: h\nX-Forwarded-Proto: https\n", map[string]string{
			"Forwarded": `for=1.1.1.1;host=h;proto=https, for="[2001:db8::1]"`, "X-Forwarded-For": "1.1.1.1, 2001:db8::1",
		}},
		{"Forwarded without addresses", Forwarding{Forwarded: true}, "X-Forwarded-Host: h\nX-Forwarded-Proto: https\n", map[string]string{
			"Forwarded": `host=h;proto=https`,
		}},
		{"Forwarded is kept", both, "Forwarded: for=9.9.9.9\nX-Forwarded-For: 1.1.1.1\n", map[string]string{
			"Forwarded": "for=9.9.9.9", "X-Forwarded-For": "1.1.1.1, 127.0.0.1",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newApp(t)
			p := newProxy(t, a, proxyOptions{server: Config{Forwarding: tc.rules}})
			client := p.dial()
			client.send(crlf("GET / HTTP/1.1\nHost: app.test\n" + tc.send + "\n"))
			pod := a.accept()
			r, _ := readRequest(pod)
			for name, want := range tc.want {
				if got := strings.Join(r.Header.Values(name), ", "); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
			pod.send(response("ok"))
			client.want(response("ok"))
		})
	}
}

// TestFidelityEdits checks what handlers change, and that nothing else moves.
func TestFidelityEdits(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{before: func(x Exchange) {
		x.Set("K-Proxy-Request", "activator")
		x.Set("X-Replaced", "new")
		x.Remove("X-Dropped")
		x.Set("K-Original-Host", string(x.Host()))
		x.SetHost("10.0.0.1:8012")
		x.SetResponse("X-Added", "1")
		x.RemoveResponse("X-Server")
	}})
	client := p.dial()
	client.send(crlf("GET / HTTP/1.1\nx-first: 1\nHost: app.test\nx-replaced: old\nX-dropped: 1\nx-last: 1\n\n"))
	pod := a.accept()
	head := pod.head()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"X-First": "1", "X-Replaced": "new", "X-Dropped": "", "X-Last": "1", "K-Proxy-Request": "activator", "K-Original-Host": "app.test"}
	for name, v := range want {
		if got := strings.Join(r.Header.Values(name), ","); got != v {
			t.Errorf("%s = %q, want %q", name, got, v)
		}
	}
	if r.Host != "10.0.0.1:8012" || !strings.Contains(head, "\r\nx-first: 1\r\n") || !strings.Contains(head, "\r\nx-last: 1\r\n") {
		t.Errorf("head = %q", head)
	}
	pod.send(crlf("HTTP/1.1 200 OK\nx-server: s\nContent-Length: 2\n\nok"))
	res, _ := readResponse(client, "GET")
	if res.Header.Get("X-Added") != "1" || res.Header.Get("X-Server") != "" {
		t.Errorf("response header = %v", res.Header)
	}
}

// TestFidelityKeepAliveAfterReply checks that answers of the proxy's own do not cost the connection.
func TestFidelityKeepAliveAfterReply(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{handler: func(p *proxy, x Exchange) {
		if string(x.Path()) == "/own" {
			x.Reply(200, "text/plain", "own")
			return
		}
		p.forward(x)
	}})
	client := p.dial()
	client.send(crlf("GET /own?q HTTP/1.1\nHost: a\n\nGET /pod HTTP/1.1\nHost: a\n\n"))
	if res, body := readResponse(client, "GET"); body != "own" || res.Header.Get("Content-Type") != "text/plain" {
		t.Fatalf("answer %q, %v", body, res.Header)
	}
	pod := a.accept()
	pod.wantHead("GET /pod ")
	pod.send(response("ok"))
	client.want(response("ok"))
}

// TestFidelityAddedResponseFields: a field that is added stands beside the pod's own of that name, on either way to
// the pod.
func TestFidelityAddedResponseFields(t *testing.T) {
	a := newApp(t)
	p := newProxy(t, a, proxyOptions{before: func(x Exchange) {
		x.AddResponse("Set-Cookie", "ours=1")
		x.AddResponse("Set-Cookie", "ours=2")
	}})
	client := p.dial()
	client.send(crlf("GET / HTTP/1.1\nHost: app.test\n\n"))
	pod := a.accept()
	readRequest(pod)
	pod.send(crlf("HTTP/1.1 200 OK\nSet-Cookie: theirs=1\nContent-Length: 0\n\n"))
	client.want(crlf("HTTP/1.1 200 OK\nSet-Cookie: theirs=1\nContent-Length: 0\nSet-Cookie: ours=1\nSet-Cookie: ours=2\n\n"))

	theirs := make([]string, 1, 4)
	theirs[0] = "theirs=1"
	h := http.Header{"Set-Cookie": theirs}
	applyEdits(h, []edit{{name: "set-cookie", value: "ours=1", beside: true}})
	if got := strings.Join(h["Set-Cookie"], " "); got != "theirs=1 ours=1" || theirs[:2][1] != "" {
		t.Errorf("Set-Cookie = %q, and the slice of the pod's header was written to: %v", got, theirs[:2][1] != "")
	}
}

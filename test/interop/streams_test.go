package interop

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

// newH2Client speaks HTTP/2 in clear text from the first byte on.
func newH2Client(t *testing.T) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// conversation sends pieces one after the other, each when the former came back, and checks the trailer.
func conversation(t *testing.T, client *http.Client, url string, headers ...string) {
	t.Helper()
	pr, pw := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, pr)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != 200 {
		t.Fatalf("the answer is %s %s, want 200 over HTTP/2", resp.Proto, resp.Status)
	}
	for _, piece := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(pw, piece); err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(piece))
		if _, err := io.ReadFull(resp.Body, back); err != nil || string(back) != piece {
			t.Fatalf("%q came back as %q, %v", piece, back, err)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Fatalf("after the last piece: %q, %v", rest, err)
	}
	if got := resp.Trailer.Get("Pieces"); got != "3" {
		t.Errorf("trailer Pieces = %q, want 3", got)
	}
}

// TestHTTP2ThroughKnativesQueueProxy: a conversation in both directions at once, with a trailer, as gRPC has them.
func TestHTTP2ThroughKnativesQueueProxy(t *testing.T) {
	app := startApplication(t)
	pod := startKnative(t, app, 10)
	pod.ready()
	var book endpoint.Book
	book.Publish(revision, []endpoint.Endpoint{pod.endpoint(endpoint.Ready, endpoint.H2C)})
	f := startFront(t, &book, 10, discard{})
	conversation(t, newH2Client(t), f.url+"/echo")
	if header, _ := app.last(t); header.Get("K-Proxy-Request") != "activator" {
		t.Error("the request lacks K-Proxy-Request")
	}
}

// dialed sends a head by hand, and returns the connection and what answers it.
func dialed(t *testing.T, url, head string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, head); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, r, resp
}

// TestUpgradeThroughKnativesQueueProxy: a protocol of its own, as WebSockets are.
func TestUpgradeThroughKnativesQueueProxy(t *testing.T) {
	app := startApplication(t)
	pod := startKnative(t, app, 10)
	pod.ready()
	var book endpoint.Book
	book.Publish(revision, []endpoint.Endpoint{pod.endpoint(endpoint.Ready, endpoint.H1)})
	f := startFront(t, &book, 10, discard{})
	c, r, resp := dialed(t, f.url, "GET /upgrade HTTP/1.1\r\nHost: hello\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the answer is %s, want 101", resp.Status)
	}
	for _, piece := range []string{"ping", "pong"} {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(piece))
		if _, err := io.ReadFull(r, back); err != nil || string(back) != piece {
			t.Fatalf("%q came back as %q, %v", piece, back, err)
		}
	}
}

// TestHTTP2UpgradeIsAnswered: a client that offers to go on in HTTP/2 (RFC 7540, section 3.2; gone in RFC 9113) may be
// answered in either protocol. Ours declines, since the offer is for the next hop alone.
func TestHTTP2UpgradeIsAnswered(t *testing.T) {
	app := startApplication(t)
	pod := startKnative(t, app, 10)
	pod.ready()
	var book endpoint.Book
	book.Publish(revision, []endpoint.Endpoint{pod.endpoint(endpoint.Ready, endpoint.H1)})
	f := startFront(t, &book, 10, discard{})
	_, _, resp := dialed(t, f.url, "GET / HTTP/1.1\r\nHost: hello\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n")
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || string(body) != "hello over HTTP/1.1" {
		t.Errorf("the answer is %s %q, %v; want 200 over HTTP/1.1", resp.Status, body, err)
	}
}

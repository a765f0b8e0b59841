//go:build linux

package proxybench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fidelity is one exchange that a faithful proxy passes. The whole suite is the forwarding engine's own tests; this
// one only makes sure that the binary at hand is not a faster, unfaithful one.
type fidelity struct {
	name  string
	check func(c *wire) error
}

func fidelities() []fidelity {
	all := []fidelity{
		{"header case, order, repetition and the raw target", keepsHead},
		{"hop-by-hop headers removed, Forwarded added", rewritesHead},
		{"response header case kept", keepsResponse},
		{"chunked body streamed", streamsChunks},
		{"100-continue asked of the backend", asksContinue},
	}
	for name, send := range map[string]string{
		"both lengths":          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two Content-Length":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"signed Content-Length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
		"folded header":         "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
		"space before colon":    "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
		"two Hosts":             "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"bare CR":               "GET / HTTP/1.1\r\nHost: a\r\nA: b\rC: d\r\n\r\n",
		"NUL":                   "GET / HTTP/1.1\r\nHost: a\r\nA: b\x00\r\n\r\n",
	} {
		all = append(all, fidelity{"refused: " + name, func(c *wire) error { return refuses(c, send) }})
	}
	slices.SortFunc(all, func(a, b fidelity) int { return strings.Compare(a.name, b.name) })
	return all
}

// checkFidelity runs every exchange on a connection of its own and reports all that failed.
func checkFidelity(ctx context.Context, dial func(context.Context) (net.Conn, error)) (passed int, err error) {
	var faults []error
	for _, f := range fidelities() {
		conn, err := dial(ctx)
		if err != nil {
			return passed, err
		}
		err = errors.Join(conn.SetDeadline(time.Now().Add(2*time.Second)), f.check(&wire{conn, bufio.NewReader(conn)}))
		conn.Close()
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", f.name, err))
			continue
		}
		passed++
	}
	return passed, errors.Join(faults...)
}

// wire is one raw client connection.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
}

func (w *wire) send(s string) error {
	_, err := io.WriteString(w.conn, s)
	return err
}

// head reads a response's head: status line and header lines.
func (w *wire) head() ([]string, error) {
	var lines []string
	for {
		line, err := w.in.ReadString('\n')
		if err != nil {
			return lines, fmt.Errorf("response head ends after %q: %w", lines, err)
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// exchange sends a request and returns the lines of the response's head, and its body.
func (w *wire) exchange(request string) ([]string, string, error) {
	if err := w.send(request); err != nil {
		return nil, "", err
	}
	lines, err := w.head()
	if err != nil {
		return nil, "", err
	}
	if !strings.HasPrefix(lines[0], "HTTP/1.1 200 ") {
		return lines, "", fmt.Errorf("status line %q, want 200", lines[0])
	}
	n := 0
	for _, l := range lines {
		if name, value, _ := strings.Cut(l, ":"); strings.EqualFold(name, "content-length") {
			n, err = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	body := make([]byte, n)
	if err == nil {
		_, err = io.ReadFull(w.in, body)
	}
	return lines, string(body), err
}

const head = " HTTP/1.1\r\nHost: bench.example.com\r\n"

func keepsHead(w *wire) error {
	const headers = "x-lower: 1\r\nB: 2\r\nA: 3\r\nB: 4\r\nX-MiXed:  kept  \r\n"
	_, echoed, err := w.exchange("GET /echo?p=%2e%2F../x" + head + headers + "\r\n")
	if err != nil {
		return err
	}
	lines := strings.Split(echoed, "\r\n")
	if lines[0] != "GET /echo?p=%2e%2F../x HTTP/1.1" {
		return fmt.Errorf("request line became %q", lines[0])
	}
	at := 0
	for _, want := range []string{"x-lower: 1", "B: 2", "A: 3", "B: 4", "X-MiXed: kept"} {
		i := slices.IndexFunc(lines[at:], func(l string) bool { return strings.Join(strings.Fields(l), " ") == want })
		if i < 0 {
			return fmt.Errorf("%q is missing or out of order in %q", want, lines)
		}
		at += i + 1
	}
	return nil
}

func rewritesHead(w *wire) error {
	_, echoed, err := w.exchange("GET /echo" + head + "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
	if err != nil {
		return err
	}
	lower := strings.ToLower(echoed)
	for _, gone := range []string{"\r\nx-hop:", "\r\nkeep-alive:", "\r\nte: gzip"} {
		if strings.Contains(lower, gone) {
			return fmt.Errorf("%q was forwarded in %q", gone, echoed)
		}
	}
	if !strings.Contains(lower, "\r\nforwarded: for=192.0.2.1") {
		return fmt.Errorf("no Forwarded header in %q", echoed)
	}
	return nil
}

func keepsResponse(w *wire) error {
	lines, body, err := w.exchange("GET /" + head + "\r\n")
	if err != nil {
		return err
	}
	if !slices.Contains(lines, "set-cookie: a=1") || len(body) != 100 {
		return fmt.Errorf("head became %q, body has %d bytes, want set-cookie in lower case and 100 bytes", lines, len(body))
	}
	return nil
}

// streamsChunks waits between chunks until the next may be sent, and sends the request head and half of the body
// first: a proxy that holds bodies back still passes when it keeps them whole.
func streamsChunks(w *wire) error {
	if err := w.send("POST /echo" + head + "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"); err != nil {
		return err
	}
	_, echoed, err := w.exchange("3;x=y\r\nfgh\r\n0\r\n\r\n")
	if err != nil {
		return err
	}
	if !strings.HasSuffix(echoed, "\r\n\r\nabcdefgh") {
		return fmt.Errorf("body arrived as %q", echoed)
	}
	return nil
}

func asksContinue(w *wire) error {
	const expect = head + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
	if err := w.send("POST /continue" + expect); err != nil {
		return err
	}
	if lines, err := w.head(); err != nil || !strings.HasPrefix(lines[0], "HTTP/1.1 100") {
		return fmt.Errorf("first head is %q, want the backend's 100: %w", lines, err)
	}
	if _, _, err := w.exchange("abc"); err != nil {
		return err
	}
	// This path's backend sends no 100: neither may the proxy.
	if err := w.send("POST /" + expect); err != nil {
		return err
	}
	if err := w.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := w.in.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the proxy answered 100-continue itself (%w)", err)
	}
	if err := w.conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	_, _, err := w.exchange("abc")
	return err
}

// refuses wants a 400 and the end of the connection.
func refuses(w *wire, request string) error {
	if err := w.send(request); err != nil {
		return err
	}
	lines, err := w.head()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(lines[0], "HTTP/1.1 400") {
		return fmt.Errorf("status line %q, want 400", lines[0])
	}
	_, err = io.Copy(io.Discard, w.in) // its length does not matter, its end does
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the connection stays open")
	}
	return nil
}

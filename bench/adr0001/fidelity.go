//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// fidelityCase is one exchange through a proxy: what the client sends, what the pod answers, what each has to see.
type fidelityCase struct {
	name     string
	request  string
	wantPod  string // what the pod must be sent; "" when it must be sent nothing
	response string
	wantSeen string // what the client must see of it; for refusals the status line's beginning
	anyOrder bool   // Connection is each proxy's own field: it may stand anywhere
}

func fidelityCases() []fidelityCase {
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	get := "GET / HTTP/1.1\r\nHost: a\r\n"
	post := "POST / HTTP/1.1\r\nHost: a\r\n"
	return []fidelityCase{
		{"request: order, case and repetition", "GET /%2e/a;b HTTP/1.1\r\nx-B: 1\r\nHOST: a\r\nX-a: 2\r\nx-B: 3\r\nUser-Agent: t\r\n\r\n", "GET /%2e/a;b HTTP/1.1\r\nx-B: 1\r\nHOST: a\r\nX-a: 2\r\nx-B: 3\r\nUser-Agent: t\r\n" + "\r\n", ok, ok, false},
		{"OPTIONS gains no Content-Length", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n" + "\r\n", ok, ok, false},
		{"field that Connection names is dropped", get + "Connection: x-a\r\nX-A: 1\r\n\r\n", get + "\r\n", ok, ok, false},
		{"response: order, case, nothing added", get + "\r\n", get + "\r\n", "HTTP/1.1 200 Fine\r\nx-B: 1\r\nset-cookie: a\r\nserver: s\r\nX-a: 2\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 Fine\r\nx-B: 1\r\nset-cookie: a\r\nserver: s\r\nX-a: 2\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n", false},
		{"event of a stream at once", get + "\r\n", get + "\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata\n\r\n", false},
		{"trailers", get + "\r\n", get + "\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n", false},
		{"103 before 200", get + "\r\n", get + "\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok, false},
		{"100-continue comes from the pod", post + "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n", post + "Expect: 100-continue\r\nContent-Length: 1\r\n" + "\r\n", "HTTP/1.1 100 Continue\r\nX-Pod: 1\r\n\r\n", "HTTP/1.1 100 Continue\r\nX-Pod: 1\r\n\r\n", false},
		{"body streamed before it is complete", post + "Content-Length: 9\r\n\r\nabc", post + "Content-Length: 9\r\n" + "\r\nabc", "", "", false},
		{"switch of protocols", get + "Connection: upgrade\r\nUpgrade: x\r\n\r\n", get + "Upgrade: x\r\nConnection: Upgrade\r\n" + "\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhi", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhi", true},
		{"TE with CL refused", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "", "HTTP/1.1 400", false},
		{"obs-fold refused", get + "X: a\r\n b\r\n\r\n", "", "", "HTTP/1.1 400", false},
		{"bare LF refused", "GET / HTTP/1.1\nHost: a\n\n", "", "", "HTTP/1.1 400", false},
		{"bare CR refused", get + "X: a\rb\r\n\r\n", "", "", "HTTP/1.1 400", false},
		{"two equal CL refused", post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", "", "", "HTTP/1.1 400", false},
		{"space before colon refused", get + "X : a\r\n\r\n", "", "", "HTTP/1.1 400", false},
	}
}

// fidelity prints a line per case and a column per design.
func fidelity(names []string) error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "case\t%s\t\n", strings.Join(names, "\t"))
	passed := make([]int, len(names))
	cases := fidelityCases()
	for _, c := range cases {
		fmt.Fprint(t, c.name)
		for i, n := range names {
			verdict, err := c.try(n)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", n, c.name, err)
			}
			if verdict == "" {
				passed[i]++
				verdict = "yes"
			}
			fmt.Fprintf(t, "\t%s", verdict)
		}
		fmt.Fprint(t, "\t\n")
	}
	fmt.Fprint(t, "kept")
	for _, n := range passed {
		fmt.Fprintf(t, "\t%d of %d", n, len(cases))
	}
	fmt.Fprint(t, "\t\n")
	return t.Flush()
}

// patience is how long a side may take to see what it must see.
const patience = 700 * time.Millisecond

// try runs the case through a fresh process of a design; the verdict is empty when both sides saw what they must.
func (fc fidelityCase) try(name string) (verdict string, err error) {
	pod, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer pod.Close()
	a := newArenaFor(netip.MustParseAddrPort(pod.Addr().String()))
	defer a.close()
	if err := a.start(name); err != nil {
		return "", err
	}
	c, err := net.Dial("tcp", a.addrs[name].String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, fc.request); err != nil {
		return "", err
	}
	podSaw := make(chan string, 1)
	go func() { podSaw <- fc.answer(pod) }()
	seen := read(c, len(fc.wantSeen))
	if fc.wantPod == "" {
		_ = pod.(*net.TCPListener).SetDeadline(time.Now()) // the client has its answer: nothing comes any more
	}
	switch got := <-podSaw; {
	case fc.wantPod == "" && got != "":
		return "passed on", nil
	case sameLines(got) != sameLines(fc.wantPod) || !fc.anyOrder && plain(got) != fc.wantPod:
		return "request changed", nil
	case seen == "" && fc.wantSeen != "":
		return "no answer", nil
	case !strings.HasPrefix(seen, fc.wantSeen):
		return "answer changed", nil
	}
	return "", nil
}

// plain drops the forwarding fields, which every design adds in its own way.
func plain(head string) string {
	var b strings.Builder
	for line := range strings.Lines(head) {
		if !strings.HasPrefix(strings.ToLower(line), "x-forwarded-") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// sameLines makes heads comparable whose lines stand in another order.
func sameLines(head string) string {
	lines := strings.Split(strings.ToLower(plain(head)), "\r\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// answer is the pod: it takes one request and answers it.
func (fc fidelityCase) answer(ln net.Listener) string {
	_ = ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	c, err := ln.Accept()
	if err != nil {
		return ""
	}
	defer c.Close()
	saw := readRequest(c, fc.wantPod)
	_, _ = io.WriteString(c, fc.response)
	_ = c.SetReadDeadline(time.Now().Add(patience)) // the connection stays open while the client looks
	_, _ = io.Copy(io.Discard, c)
	return saw
}

// readRequest returns what arrives until it holds as much behind its head as want does.
func readRequest(c net.Conn, want string) string {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, body, _ := strings.Cut(want, "\r\n\r\n")
	var saw []byte
	buf := make([]byte, 4096)
	for {
		head, got, whole := strings.Cut(string(saw), "\r\n\r\n")
		if whole && len(got) >= len(body) && head != "" {
			return string(saw)
		}
		n, err := c.Read(buf)
		if err != nil {
			return string(saw)
		}
		saw = append(saw, buf[:n]...)
	}
}

// read returns what arrives within the patience, until n bytes and what came with them are there.
func read(c net.Conn, n int) string {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	var b strings.Builder
	for b.Len() < n {
		x, err := r.ReadByte()
		if err != nil {
			break
		}
		b.WriteByte(x)
	}
	rest, _ := r.Peek(r.Buffered())
	b.Write(rest)
	return b.String()
}

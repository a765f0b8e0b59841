//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
)

const maxHead = 8 << 10

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("content-length")
)

// reply follows the response on one connection through reads of any size. The zero value waits for a head.
type reply struct {
	head []byte // an unfinished head, kept between reads
	left int    // body bytes still to come
	body bool   // the head is complete
}

// feed takes the next bytes of the connection and reports whether the response is complete. Bytes beyond it are an
// error: nothing was asked for.
func (r *reply) feed(p []byte) (bool, error) {
	if !r.body {
		rest, err := r.takeHead(p)
		if err != nil || !r.body {
			return false, err
		}
		p = rest
	}
	if len(p) > r.left {
		return false, fmt.Errorf("%d bytes after the end of the response", len(p)-r.left)
	}
	r.left -= len(p)
	if r.left > 0 {
		return false, nil
	}
	r.body = false
	return true, nil
}

// takeHead looks for the end of the head, parses it, and returns what follows.
func (r *reply) takeHead(p []byte) ([]byte, error) {
	if len(r.head) > 0 {
		r.head = append(r.head, p...)
		p = r.head
	}
	end := bytes.Index(p, headEnd)
	if end < 0 {
		if len(p) > maxHead {
			return nil, fmt.Errorf("response head is longer than %d bytes", maxHead)
		}
		if len(r.head) == 0 {
			r.head = append(r.head, p...)
		}
		return nil, nil
	}
	n, err := parseHead(p[:end+2])
	if rest := p[end+len(headEnd):]; err != nil && len(rest) > 0 {
		return nil, fmt.Errorf("%w: %.200q", err, rest) // proxies say there what went wrong
	}
	if err != nil {
		return nil, err
	}
	r.left, r.body, r.head = n, true, r.head[:0]
	return p[end+len(headEnd):], nil
}

// reset forgets a response, keeping the buffer.
func (r *reply) reset() { *r = reply{head: r.head[:0]} }

// parseHead checks the status and returns the body's length.
func parseHead(head []byte) (int, error) {
	line, rest, _ := bytes.Cut(head, headEnd[:2])
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, fmt.Errorf("not a response: %q", line)
	}
	if string(line[9:12]) != "200" {
		return 0, fmt.Errorf("status %q", line[9:])
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, headEnd[:2])
		// The length test spares the fold for most lines.
		if len(line) > len(contentLength) && line[len(contentLength)] == ':' && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			return atoi(bytes.TrimSpace(line[len(contentLength)+1:]))
		}
	}
	return 0, errors.New("response has no Content-Length")
}

func atoi(b []byte) (int, error) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<30 {
			return 0, fmt.Errorf("Content-Length %q is not a number the generator accepts", b)
		}
		n = n*10 + int(c-'0')
	}
	if len(b) == 0 {
		return 0, errors.New("Content-Length is empty")
	}
	return n, nil
}

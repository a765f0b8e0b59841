package forward

import (
	"bytes"
	"strconv"
	"unsafe"
)

// lineEnd returns where field i of h ends, with its line end.
func (h *head) lineEnd(i int) uint32 {
	if i+1 < len(h.fields) {
		return h.fields[i+1].start
	}
	return h.size - 2
}

// appendRequestHead writes the head as the pod is sent it. Unchanged stretches are copied as they are.
func (c *conn) appendRequestHead(out []byte, to *Pool) []byte {
	b, h := c.headBytes(), &c.req
	run := uint32(0)
	if !h.major1 {
		out = append(append(out, b[:h.targetTo]...), " HTTP/1.1\r\n"...)
		run = h.line
	}
	tunnel := c.upgrades()
	for i := range h.fields {
		f := &h.fields[i]
		if f.kind == other && !f.drop && len(c.edits.req) == 0 {
			continue
		}
		keep, value := c.requestField(b, f, tunnel)
		if keep && value == nil {
			continue
		}
		out = append(out, b[run:f.start]...)
		run = h.lineEnd(i)
		if keep {
			out = append(append(out, f.nameOf(b)...), ": "...)
			out = append(append(out, value...), "\r\n"...)
		}
	}
	out = append(out, b[run:h.size-2]...)
	out = c.appendMissing(out, to, tunnel)
	return append(out, "\r\n"...)
}

var (
	trailersToken = []byte("trailers")
	noValue       = []byte{}
)

// requestField says whether a field is kept, and with which value if that changes.
func (c *conn) requestField(b []byte, f *field, tunnel bool) (keep bool, value []byte) {
	if f.kind != kindHost && len(c.edits.req) > 0 {
		if e := find(c.edits.req, f.nameOf(b)); e != nil {
			first := !e.done && !e.remove
			e.done = true
			return first, bytesOf(e.value)
		}
	}
	switch f.kind {
	case kindHost:
		if c.edits.host != "" {
			return true, bytesOf(c.edits.host)
		}
		if c.host != nil && !bytes.Equal(c.host, f.val(b)) {
			return true, c.host
		}
	case kindUpgrade:
		return tunnel, nil
	case kindTE:
		return hasToken(f.val(b), "trailers"), trailersToken
	case kindTrailer:
		return c.req.chunked && !f.drop, nil
	case kindExpect:
		return c.req.major1 && !f.drop, nil
	case kindXFF, kindXFProto, kindXFHost, kindForwarded:
		return c.keepForwarding(f), nil
	}
	return !f.drop, nil
}

// bytesOf returns s as bytes that are not to be changed, never nil.
func bytesOf(s string) []byte {
	if s == "" {
		return noValue
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// hasToken reports that a list contains a token, given in lower case; parameters do not count.
func hasToken(list []byte, token string) bool {
	for len(list) > 0 {
		var t []byte
		t, list = nextToken(list)
		if i := bytes.IndexByte(t, ';'); i >= 0 {
			t = bytes.TrimRight(t[:i], " \t")
		}
		if fold(t, token) {
			return true
		}
	}
	return false
}

// appendMissing adds what the request did not have.
func (c *conn) appendMissing(out []byte, to *Pool, tunnel bool) []byte {
	if !c.req.has(kindHost) {
		host := c.edits.host
		if host == "" {
			host = string(c.host)
		}
		if host == "" {
			host = to.addr
		}
		out = appendField(out, "Host", host)
	}
	if tunnel {
		out = append(out, "Connection: Upgrade\r\n"...)
	}
	out = c.appendForwarding(out)
	return appendEdits(out, c.edits.req)
}

// appendResponseHead writes the head of a final response, or of a 1xx, as the client is sent it.
func (c *conn) appendResponseHead(out, b []byte, framing responseFraming) []byte {
	h := &c.resp
	out = append(out, "HTTP/1.1"...)
	run := uint32(len("HTTP/1.1"))
	for i := range h.fields {
		f := &h.fields[i]
		if f.kind == other && !f.drop && len(c.edits.resp) == 0 {
			continue
		}
		keep, value := c.responseField(b, f, framing)
		if keep && value == nil {
			continue
		}
		out = append(out, b[run:f.start]...)
		run = h.lineEnd(i)
		if keep {
			out = append(append(out, f.nameOf(b)...), ": "...)
			out = append(append(out, value...), "\r\n"...)
		}
	}
	out = append(out, b[run:h.size-2]...)
	if framing == frameInterim {
		return append(out, "\r\n"...)
	}
	switch framing {
	case frameChunk:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case frameTunnel:
		out = append(out, "Connection: Upgrade\r\n"...)
	}
	if framing != frameTunnel {
		out = c.appendConnection(out)
	}
	out = appendEdits(out, c.edits.resp)
	return append(out, "\r\n"...)
}

// responseField says whether a field is kept, and with which value if that changes.
func (c *conn) responseField(b []byte, f *field, framing responseFraming) (keep bool, value []byte) {
	if framing != frameInterim && len(c.edits.resp) > 0 {
		if e := find(c.edits.resp, f.nameOf(b)); e != nil && !f.drop {
			first := !e.done && !e.remove
			e.done = true
			return first, bytesOf(e.value)
		}
	}
	switch f.kind {
	case kindTransferEncoding:
		return framing == frameRaw || framing == frameHead, nil
	case kindContentLength:
		return !f.drop && !c.resp.chunked && framing != frameNone, nil // RFC 9110, section 8.6
	case kindTrailer:
		return framing == frameRaw && !f.drop, nil
	case kindUpgrade:
		return framing == frameTunnel, nil
	}
	return !f.drop, nil
}

// responseFraming says how a response's body reaches the client.
type responseFraming uint8

const (
	frameInterim responseFraming = iota // 1xx
	frameTunnel                         // 101
	frameHead                           // no body, but the head speaks of one: HEAD, 304
	frameNone                           // no body
	frameLength                         // Content-Length
	frameRaw                            // chunked, passed on
	frameBare                           // chunked, for a client that does not know it
	frameChunk                          // ended by closing, chunked by us
	frameClose                          // ended by closing
)

// appendChunkSize writes a chunk's size line right before at in b and returns where it begins.
func appendChunkSize(b []byte, at, n int) int {
	var line [chunkRoom]byte
	l := append(strconv.AppendInt(line[:0], int64(n), 16), "\r\n"...)
	return at - copy(b[at-len(l):at], l)
}

// chunkRoom is space for the size line of a chunk in a big buffer, and chunkEnd for the end of its data. Together they are no
// more than the shortest head has: what came with a head in one buffer stays in it as a chunk.
const (
	chunkRoom = 12
	chunkEnd  = len("\r\n")
)

var _ [len("HTTP/1.1 200\r\n\r\n") - chunkRoom - chunkEnd]struct{}

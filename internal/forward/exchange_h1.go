package forward

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// maxEdits bounds the edits of either head.
const maxEdits = 8

// edit is a change to a head.
type edit struct {
	name, value string
	remove      bool
	beside      bool // goes beside fields of that name, not in their place
	done        bool
}

// edits are the changes of one exchange.
type edits struct {
	req, resp []edit
	host      string
	bad       bool // one of them was refused
}

func (e *edits) reset() {
	e.req, e.resp, e.host, e.bad = e.req[:0], e.resp[:0], "", false
}

// frames says whether a field is about the connection or about where a message ends: the engine's own, in every message.
func frames(name []byte) bool {
	switch classify(name) {
	case kindContentLength, kindTransferEncoding, kindConnection, kindTrailer, kindUpgrade, hopByHop:
		return true
	}
	return false
}

// add appends or replaces an edit in list.
func (e *edits) add(list *[]edit, x edit) {
	if !isToken([]byte(x.name)) || hasControl([]byte(x.value)) || frames([]byte(x.name)) {
		e.bad = true
		return
	}
	for i := range *list {
		if !x.beside && !(*list)[i].beside && strings.EqualFold((*list)[i].name, x.name) {
			(*list)[i] = x
			return
		}
	}
	if len(*list) == maxEdits {
		e.bad = true
		return
	}
	*list = append(*list, x)
}

// find returns the edit that stands in the place of a field of that name, nil when there is none.
func find(list []edit, name []byte) *edit {
	for i := range list {
		if !list[i].beside && len(list[i].name) == len(name) && foldString(name, list[i].name) {
			return &list[i]
		}
	}
	return nil
}

// foldString compares without regard to case.
func foldString(b []byte, s string) bool {
	for i, c := range b {
		d := s[i]
		if c != d && (c|0x20 != d|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

func (c *conn) headBytes() []byte { return c.in.b[:c.req.size] }
func (c *conn) target() []byte    { return c.in.b[c.req.targetFrom:c.req.targetTo] }

// Method implements [Exchange].
func (c *conn) Method() []byte { return c.in.b[:c.req.method] }

// Target implements [Exchange].
func (c *conn) Target() []byte { return c.target() }

// Path implements [Exchange].
func (c *conn) Path() []byte {
	t := c.target()
	if a := authority(t); a != nil {
		t = t[bytes.Index(t, []byte("://"))+3+len(a):]
	}
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		t = t[:i]
	}
	return t
}

// Host implements [Exchange].
func (c *conn) Host() []byte {
	if c.host != nil {
		return c.host
	}
	if !c.req.has(kindHost) {
		return nil
	}
	return c.req.host.val(c.in.b)
}

// Header implements [Exchange].
func (c *conn) Header(name string) []byte {
	b := c.in.b
	for i := range c.req.fields {
		f := &c.req.fields[i]
		if int(f.name) == len(name) && foldString(f.nameOf(b), name) {
			return f.val(b)
		}
	}
	return nil
}

// Values implements [Exchange].
func (c *conn) Values(name string) (all [][]byte) {
	b := c.in.b
	for i := range c.req.fields {
		f := &c.req.fields[i]
		if int(f.name) == len(name) && foldString(f.nameOf(b), name) {
			all = append(all, f.val(b))
		}
	}
	return all
}

// Proto implements [Exchange].
func (c *conn) Proto() Proto {
	if c.req.major1 {
		return HTTP11
	}
	return HTTP10
}

// Upgrade implements [Exchange].
func (c *conn) Upgrade() bool { return c.upgrades() }

// GRPC implements [Exchange].
func (c *conn) GRPC() bool {
	if !c.req.has(kindContentType) {
		return false
	}
	v := c.Header("Content-Type")
	const g = "application/grpc"
	return len(v) >= len(g) && fold(v[:len(g)], g) && (len(v) == len(g) || v[len(g)] == '+' || v[len(g)] == ';')
}

// TLS implements [Exchange].
func (c *conn) TLS() bool { return c.tls }

// RemoteAddr implements [Exchange].
func (c *conn) RemoteAddr() netip.AddrPort { return c.remote }

// MarkProbe implements [Exchange].
func (c *conn) MarkProbe() {
	c.probing = true
	c.probe.Store(true)
}

// Received implements [Exchange].
func (c *conn) Received() time.Time { return c.received }

// Set implements [Exchange].
func (c *conn) Set(name, value string) {
	c.edits.add(&c.edits.req, edit{name: name, value: value})
}

// Remove implements [Exchange].
func (c *conn) Remove(name string) { c.edits.add(&c.edits.req, edit{name: name, remove: true}) }

// SetHost implements [Exchange].
func (c *conn) SetHost(host string) {
	if !validHost([]byte(host)) {
		c.edits.bad = true
		return
	}
	c.edits.host = host
}

// SetResponse implements [Exchange].
func (c *conn) SetResponse(name, value string) {
	c.edits.add(&c.edits.resp, edit{name: name, value: value})
}

// AddResponse implements [Exchange].
func (c *conn) AddResponse(name, value string) {
	c.edits.add(&c.edits.resp, edit{name: name, value: value, beside: true})
}

// RemoveResponse implements [Exchange].
func (c *conn) RemoveResponse(name string) {
	c.edits.add(&c.edits.resp, edit{name: name, remove: true})
}

// SetTimeouts implements [Exchange].
func (c *conn) SetTimeouts(t Timeouts) { c.timeouts = t }

// upgrades reports that the client asks for a tunnel. An upgrade to h2c is not passed on: it would take the
// connection out of the proxy's sight.
func (c *conn) upgrades() bool {
	if !c.req.upgrade || !c.req.major1 || !c.req.has(kindUpgrade) {
		return false
	}
	return !bytes.EqualFold(c.Header("Upgrade"), []byte("h2c"))
}

// Reply implements [Exchange].
func (c *conn) Reply(status int, contentType, body string) {
	c.reply(status, contentType, body, "", nil)
}

// Fail implements [Exchange].
func (c *conn) Fail(cause fault.Cause, detail string, retryAfter time.Duration) {
	row := fault.Of(cause)
	if row.Close {
		c.keep = false
	}
	if cause == fault.ClientGone {
		c.abort()
		return
	}
	after := ""
	if retryAfter > 0 {
		after = strconv.FormatInt(int64((retryAfter+time.Second-1)/time.Second), 10)
	}
	text := row.Text
	if detail != "" {
		text += ": " + detail
	}
	if c.GRPC() {
		c.reply(200, "application/grpc", "", after, &grpcStatus{row.GRPC, text})
		return
	}
	c.reply(row.Status, "text/plain; charset=utf-8", text+"\n", after, nil)
}

// grpcStatus is what a trailers-only gRPC answer says.
type grpcStatus struct {
	code    int
	message string
}

// reply writes a response of the proxy's own.
func (c *conn) reply(status int, contentType, body, retryAfter string, grpc *grpcStatus) {
	if c.answered || c.aborted {
		return
	}
	c.answered, c.status = true, status
	if c.srv.draining.Load() || !c.body.complete {
		c.keep = false
	}
	big := c.srv.bufs.getBig()
	out := append(big.b[:0], "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(append(append(out, ' '), statusText(status)...), "\r\n"...)
	if contentType != "" {
		out = appendField(out, "Content-Type", contentType)
	}
	if retryAfter != "" {
		out = appendField(out, "Retry-After", retryAfter)
	}
	if grpc != nil {
		out = appendField(out, "Grpc-Status", strconv.Itoa(grpc.code))
		out = appendField(out, "Grpc-Message", grpcMessage(grpc.message))
	}
	bodiless := status == 204 || status == 304 || status < 200
	if !bodiless {
		out = append(out, "Content-Length: "...)
		out = append(strconv.AppendInt(out, int64(len(body)), 10), "\r\n"...)
	}
	out = c.appendConnection(out)
	out = appendEdits(out, c.edits.resp)
	out = append(out, "\r\n"...)
	if !bodiless && string(c.Method()) != "HEAD" {
		out = append(out, body...)
	}
	c.writeReply(out)
	c.srv.bufs.putBig(big)
}

func (c *conn) writeReply(out []byte) {
	if err := c.client.write(out); err != nil {
		c.keep = false
	}
}

// refuse answers a request whose head or body is not valid, and the connection ends.
func (c *conn) refuse(cause fault.Cause) {
	c.request = request{received: c.received, edits: c.edits}
	c.edits.reset()
	row := fault.Of(cause)
	body := row.Text + "\n"
	out := append([]byte("HTTP/1.1 "), strconv.Itoa(row.Status)...)
	out = append(append(append(out, ' '), statusText(row.Status)...), "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	out = append(strconv.AppendInt(out, int64(len(body)), 10), "\r\nConnection: close\r\n\r\n"...)
	out = append(out, body...)
	if c.client.write(out) == nil {
		c.linger()
	}
}

// abort gives the request up without an answer: the connection ends.
func (c *conn) abort() { c.aborted, c.keep = true, false }

// appendConnection says what becomes of the connection.
func (c *conn) appendConnection(out []byte) []byte {
	switch {
	case !c.keep:
		return append(out, "Connection: close\r\n"...)
	case !c.req.major1:
		return append(out, "Connection: keep-alive\r\n"...)
	}
	return out
}

func appendField(out []byte, name, value string) []byte {
	out = append(append(out, name...), ": "...)
	return append(append(out, value...), "\r\n"...)
}

// appendEdits adds what was set and did not replace anything.
func appendEdits(out []byte, list []edit) []byte {
	for i := range list {
		if !list[i].remove && !list[i].done {
			out = appendField(out, list[i].name, list[i].value)
		}
	}
	return out
}

// grpcMessage percent-encodes as the gRPC protocol wants it.
func grpcMessage(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] <= '~' && s[i] != '%'
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			const hex = "0123456789ABCDEF"
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// statusText names the statuses of the fault table without linking net/http into the hot path's files.
func statusText(status int) string {
	switch status {
	case 200:
		return "OK"
	case 204:
		return "No Content"
	case 400:
		return "Bad Request"
	case 404:
		return "Not Found"
	case 414:
		return "URI Too Long"
	case 431:
		return "Request Header Fields Too Large"
	case 499:
		return "Client Closed Request"
	case 500:
		return "Internal Server Error"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	}
	return "Status " + strconv.Itoa(status)
}

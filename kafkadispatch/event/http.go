package event

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Media types of the structured and batched modes.
const (
	Structured = "application/cloudevents+json"
	Batched    = "application/cloudevents-batch+json"
)

const hexDigits = "0123456789ABCDEF"

// AppendBinary appends the event's attributes as HTTP/1.1 header lines, each ended by CRLF. Data is not part of it.
func (e *Event) AppendBinary(dst []byte) []byte {
	for i := range e.attrs {
		a := &e.attrs[i]
		if a.name == "datacontenttype" {
			dst = append(dst, "content-type: "...)
			dst = appendLine(dst, e.value(a))
		} else {
			dst = append(append(append(dst, "ce-"...), a.name...), ": "...)
			dst = AppendEscaped(dst, e.value(a))
		}
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// appendLine keeps a header value on its line.
func appendLine(dst, value []byte) []byte {
	for _, c := range value {
		if c >= ' ' && c != 0x7f {
			dst = append(dst, c)
		}
	}
	return dst
}

// printable are the bytes that a header value may have as they are.
var printable = func() (ok [256]bool) {
	for c := '!'; c < 0x7f; c++ {
		ok[c] = c != '"' && c != '%'
	}
	return ok
}()

// AppendEscaped appends a header value in the form that the CloudEvents HTTP binding (3.1.3.2) asks for: space, double
// quote, percent and what is outside printable ASCII become percent-encoded UTF-8.
func AppendEscaped(dst, value []byte) []byte {
	for {
		n := 0
		for n < len(value) && printable[value[n]] {
			n++
		}
		dst = append(dst, value[:n]...)
		if n == len(value) {
			return dst
		}
		r, size := utf8.DecodeRune(value[n:])
		var enc [utf8.UTFMax]byte
		for _, b := range enc[:utf8.EncodeRune(enc[:], r)] {
			dst = append(dst, '%', hexDigits[b>>4], hexDigits[b&15])
		}
		value = value[n+size:]
	}
}

// Unescape undoes AppendEscaped; a percent sign that begins no code stays.
func Unescape(value []byte) []byte {
	if bytes.IndexByte(value, '%') < 0 {
		return value
	}
	out := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if value[i] == '%' && i+2 < len(value) {
			hi, lo := unhex(value[i+1]), unhex(value[i+2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, value[i])
	}
	return out
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func isStructured(contentType []byte) bool {
	kind, _, _ := strings.Cut(strings.ToLower(string(contentType)), ";")
	return strings.TrimSpace(kind) == Structured
}

package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// AppendJSON appends the event in the CloudEvents JSON format.
func (e *Event) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range e.attrs {
		a := &e.attrs[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), a.name...), `":`...)
		if a.kind == String {
			dst = appendString(dst, e.value(a))
		} else {
			dst = append(dst, e.value(a)...)
		}
	}
	if e.Data != nil {
		dst = e.appendData(dst)
	}
	return append(dst, '}')
}

// appendData follows section 3.1 of the JSON format: JSON as it is, text as a string, other data in base64. Data
// without a content type counts as JSON when it is JSON.
func (e *Event) appendData(dst []byte) []byte {
	kind, typed := "", false
	for i := range e.attrs {
		if e.attrs[i].name == "datacontenttype" {
			kind, typed = string(e.value(&e.attrs[i])), true
		}
	}
	kind, _, _ = strings.Cut(kind, ";")
	kind = strings.TrimSpace(kind)
	isJSON := !typed || kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json")
	switch {
	case isJSON && mayBeJSON(e.Data) && json.Valid(e.Data):
		return append(append(dst, `,"data":`...), e.Data...)
	case strings.HasPrefix(kind, "text/") && utf8.Valid(e.Data):
		return appendString(append(dst, `,"data":`...), e.Data)
	}
	dst = append(dst, `,"data_base64":"`...)
	return append(base64.StdEncoding.AppendEncode(dst, e.Data), '"')
}

// mayBeJSON looks at the first byte, which is cheaper than json.Valid.
func mayBeJSON(data []byte) bool {
	return len(data) > 0 && bytes.IndexByte([]byte("{[\"-0123456789tfn \t\r\n"), data[0]) >= 0
}

// plain are the bytes that a JSON string may have as they are.
var plain = func() (ok [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		ok[c] = c != '"' && c != '\\'
	}
	return ok
}()

func appendString(dst, value []byte) []byte {
	dst = append(dst, '"')
	for {
		n := 0
		for n < len(value) && plain[value[n]] {
			n++
		}
		dst = append(dst, value[:n]...)
		if n == len(value) {
			return append(dst, '"')
		}
		c, size := value[n], 1
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			var r rune
			r, size = utf8.DecodeRune(value[n:])
			dst = utf8.AppendRune(dst, r)
		}
		value = value[n+size:]
	}
}

package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
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

// ParseJSON reads an event in the JSON format into an empty event.
func (e *Event) ParseJSON(text []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return fmt.Errorf("%w: %w", ErrNotEvent, err)
	}
	for name, raw := range fields {
		switch {
		case name == "data" || name == "data_base64" || string(raw) == "null":
		case !validName(name):
			return fmt.Errorf("%w: attribute %q must be lower-case letters and digits", ErrNotEvent, name)
		default:
			if err := e.setJSON(name, raw); err != nil {
				return err
			}
		}
	}
	if !e.valid() {
		return fmt.Errorf("%w: specversion, id, source and type are required", ErrNotEvent)
	}
	return e.parseData(fields)
}

func (e *Event) setJSON(name string, raw json.RawMessage) error {
	switch raw[0] {
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("%w: attribute %q: %w", ErrNotEvent, name, err)
		}
		e.Set(name, s)
	case 't', 'f':
		e.set(name, Boolean, len(e.buf), append(e.buf, raw...))
	case '{', '[':
		return fmt.Errorf("%w: attribute %q must be a string, a number or a boolean", ErrNotEvent, name)
	default:
		e.set(name, Integer, len(e.buf), append(e.buf, raw...))
	}
	return nil
}

func (e *Event) parseData(fields map[string]json.RawMessage) error {
	if raw, ok := fields["data_base64"]; ok {
		if err := json.Unmarshal(raw, &e.Data); err != nil {
			return fmt.Errorf("%w: data_base64: %w", ErrNotEvent, err)
		}
		return nil
	}
	raw, ok := fields["data"]
	if !ok || string(raw) == "null" {
		return nil
	}
	kind := e.Get("datacontenttype")
	if raw[0] == '"' && kind != "" && !strings.Contains(kind, "json") {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("%w: data: %w", ErrNotEvent, err)
		}
		e.Data = []byte(s)
		return nil
	}
	e.Data = raw
	return nil
}

// Package jsontext is about JSON among documents of YAML, as kubectl, jq and most languages write manifests.
//
// What it promises: JSON is YAML by its specification, but not to its decoders. What [ForYAML] returns reads the same to
// decoders of both.
//
// What it does not: decode.
//
// Concurrency: values only.
package jsontext

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Body returns the JSON object that a document is, behind the marker that may begin it and with the blanks around it.
func Body(document []byte) (body []byte, ok bool) {
	body = document
	if isMarker(document) {
		body = document[markerSize:]
	}
	trimmed := bytes.TrimSpace(body)
	return body, len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(trimmed)
}

// Single says whether a text is one JSON object, without a marker.
func Single(text []byte) bool {
	body, ok := Body(text)
	return ok && len(body) == len(text)
}

// Stream makes a stream of JSON out of documents of YAML that are all JSON objects, and says whether they are.
func Stream(text []byte) (objects []byte, ok bool) {
	for _, d := range documents(text) {
		body, is := Body(d)
		if body = bytes.TrimSpace(body); len(body) == 0 {
			continue
		}
		if !is {
			return nil, false
		}
		objects = append(append(objects, body...), '\n')
	}
	return objects, len(objects) > 0
}

// ForYAML rewrites those documents of a text that are JSON: surrogate pairs, escaped slashes and characters that YAML takes
// for the end of a line or for nothing. Lines keep their numbers.
func ForYAML(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, d := range documents(text) {
		body, ok := Body(d)
		if !ok {
			out = append(out, d...)
			continue
		}
		out = append(out, d[:len(d)-len(body)]...)
		out = rewrite(out, body)
	}
	return out
}

// rewrite appends an object. Outside of texts there is nothing but ASCII and no backslash.
func rewrite(out, object []byte) []byte {
	for at := 0; at < len(object); {
		var size int
		if object[at] == '\\' {
			out, size = escape(out, object[at:])
		} else {
			var r rune
			r, size = utf8.DecodeRune(object[at:])
			out = appendRune(out, r)
		}
		at += size
	}
	return out
}

// escape appends what the escape at the beginning of a text stands for, and returns how long it was.
func escape(out, text []byte) (longer []byte, size int) {
	switch text[1] {
	case '/':
		return append(out, '/'), 2
	case 'u':
	default:
		return append(out, text[:2]...), 2
	}
	r := unit(text)
	if !utf16.IsSurrogate(r) {
		return append(out, text[:6]...), 6
	}
	if pair := utf16.DecodeRune(r, unit(text[6:])); pair != utf8.RuneError {
		return appendRune(out, pair), 12
	}
	return utf8.AppendRune(out, utf8.RuneError), 6 // as decoders of JSON take half a pair
}

// unit returns the UTF-16 unit of an escape \uXXXX, 0 when there is none.
func unit(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(n)
}

// appendRune escapes what YAML does not take as it is.
func appendRune(out []byte, r rune) []byte {
	if r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffe || r == 0xffff {
		return fmt.Appendf(out, `\u%04x`, r)
	}
	return utf8.AppendRune(out, r)
}

const markerSize = len("---")

// isMarker says whether a line begins with what separates documents.
func isMarker(line []byte) bool {
	if len(line) < markerSize || string(line[:markerSize]) != "---" && string(line[:markerSize]) != "..." {
		return false
	}
	return len(line) == markerSize || bytes.IndexByte([]byte(" \t\r\n"), line[markerSize]) >= 0
}

// documents cuts a text before its markers.
func documents(text []byte) (all [][]byte) {
	begin, at := 0, 0
	for line := range bytes.Lines(text) {
		if at > begin && isMarker(line) {
			all, begin = append(all, text[begin:at]), at
		}
		at += len(line)
	}
	return append(all, text[begin:])
}

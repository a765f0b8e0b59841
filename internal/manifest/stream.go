package manifest

import (
	"bytes"
	"encoding/json"
)

// separated makes documents of YAML out of a stream of JSON objects, as jq and kubectl write them, and says whether the text
// is one. A marker stands before each object on its line, so that lines keep their numbers; an object that begins behind
// another one on the same line gets a line of its own.
func separated(text []byte) (documents []byte, stream bool) {
	var out bytes.Buffer
	from, objects := 0, 0
	for {
		begin := nextToken(text, from)
		if begin == len(text) || text[begin] != '{' {
			break
		}
		out.Write(bytes.TrimRight(text[from:begin], " \t"))
		if n := out.Len(); n > 0 && out.Bytes()[n-1] != '\n' {
			out.WriteByte('\n')
		}
		out.WriteString("--- ")
		from = begin
		var object json.RawMessage
		dec := json.NewDecoder(bytes.NewReader(text[begin:]))
		if dec.Decode(&object) != nil {
			break // the reader of YAML takes it, or says what is wrong
		}
		objects++
		from += int(dec.InputOffset())
		out.Write(text[begin:from])
	}
	more := from < len(text) && text[from] == '{' // that is no JSON
	if objects == 0 || objects == 1 && !more {
		return text, false
	}
	out.Write(text[from:])
	return out.Bytes(), true
}

// nextToken passes over blanks and comments.
func nextToken(text []byte, at int) int {
	for at < len(text) {
		switch text[at] {
		case ' ', '\t', '\r', '\n':
			at++
		case '#':
			end := bytes.IndexByte(text[at:], '\n')
			if end < 0 {
				return len(text)
			}
			at += end
		default:
			return at
		}
	}
	return at
}

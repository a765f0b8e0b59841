package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/rousehq/rouse/internal/jsontext"
)

// encodedJSON writes a document that was JSON as JSON, in the lines of its source: the same indentation, or all on one line.
// Keys keep their order and numbers their digits.
func encodedJSON(marker, source []byte, root *yaml.Node) ([]byte, error) {
	w := writer{layout: layoutOf(source)}
	w.value(root.Content[0], 0)
	if w.err != nil {
		return nil, w.err
	}
	text := jsontext.ForYAML(w.out.Bytes())
	if off := unlike(root, text); off != nil {
		return nil, fmt.Errorf("line %d: what stands there would be written so that it reads otherwise", off.Line)
	}
	begin, end := bytes.IndexByte(source, '{'), bytes.LastIndexByte(source, '}')+1
	return slices.Concat(marker, source[:begin], text, source[end:]), nil
}

// layout is how JSON is divided into lines.
type layout struct {
	lines  bool
	indent string
	colon  string
	comma  string // on one line
}

// layoutOf takes the indentation of an object's first key, two spaces when it stands on the first of several lines.
func layoutOf(source []byte) layout {
	object := bytes.TrimSpace(source)
	l := layout{colon: ":", comma: ","}
	if bytes.Contains(object, []byte(`": `)) {
		l = layout{colon: ": ", comma: ", "}
	}
	l.lines = bytes.IndexByte(object, '\n') >= 0
	if !l.lines {
		return l
	}
	l.indent = "  "
	inside := bytes.TrimLeftFunc(object[1:], unicode.IsSpace)
	if blank := object[1 : len(object)-len(inside)]; bytes.IndexByte(blank, '\n') >= 0 {
		l.indent = string(blank[bytes.LastIndexByte(blank, '\n')+1:])
	}
	return l
}

type writer struct {
	layout
	out bytes.Buffer
	err error
}

func (w *writer) value(n *yaml.Node, depth int) {
	switch n.Kind {
	case yaml.MappingNode:
		w.list('{', '}', len(n.Content)/2, depth, func(i int) {
			w.text(n.Content[2*i].Value)
			w.out.WriteString(w.colon)
			w.value(n.Content[2*i+1], depth+1)
		})
	case yaml.SequenceNode:
		w.list('[', ']', len(n.Content), depth, func(i int) { w.value(n.Content[i], depth+1) })
	default:
		w.scalar(n)
	}
}

// list writes what stands between two braces or brackets.
func (w *writer) list(open, end byte, items, depth int, item func(i int)) {
	w.out.WriteByte(open)
	for i := range items {
		switch {
		case i > 0 && w.lines:
			w.out.WriteByte(',')
		case i > 0:
			w.out.WriteString(w.comma)
		}
		w.line(depth + 1)
		item(i)
	}
	if items > 0 {
		w.line(depth)
	}
	w.out.WriteByte(end)
}

func (w *writer) line(depth int) {
	if !w.lines {
		return
	}
	w.out.WriteByte('\n')
	for range depth {
		w.out.WriteString(w.indent)
	}
}

func (w *writer) scalar(n *yaml.Node) {
	var v bool
	switch tag := n.ShortTag(); {
	case tag == "!!str":
		w.text(n.Value)
	case tag == "!!null":
		w.out.WriteString("null")
	case tag == "!!bool" && n.Decode(&v) == nil:
		w.out.WriteString(strconv.FormatBool(v))
	case (tag == "!!int" || tag == "!!float") && json.Valid([]byte(n.Value)):
		w.out.WriteString(n.Value)
	default:
		w.err = fmt.Errorf("line %d: %s is nothing that JSON has", n.Line, n.Value)
	}
}

func (w *writer) text(s string) {
	var one bytes.Buffer
	enc := json.NewEncoder(&one)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		w.err = err
		return
	}
	w.out.Write(bytes.TrimSuffix(one.Bytes(), []byte("\n")))
}

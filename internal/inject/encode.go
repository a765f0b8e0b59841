package inject

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// encoded writes a document in the style of its source, as far as that is known. What it returns reads as the tree does, or
// it is an error: a file that changes where nobody asked for it is worse than none.
func encoded(source []byte, root *yaml.Node) ([]byte, error) {
	each(root, func(n *yaml.Node) {
		if n.Style&yaml.FoldedStyle != 0 { // the encoder puts empty lines into folds, which change the text
			n.Style = n.Style&^yaml.FoldedStyle | yaml.LiteralStyle
		}
	})
	text, err := yamlOf(root)
	if err != nil {
		return nil, err
	}
	if off := unlike(root, text); off != nil {
		return nil, fmt.Errorf("line %d: what stands there would be written so that it reads otherwise; write it in double quotes", off.Line)
	}
	return append(marker(source), text...), nil
}

// each calls f for a node and all below it.
func each(n *yaml.Node, f func(*yaml.Node)) {
	f(n)
	for _, c := range n.Content {
		each(c, f)
	}
}

// marker returns the line that begins a document, with its comment, which the decoder drops.
func marker(source []byte) []byte {
	rest, ok := bytes.CutPrefix(source, []byte("---"))
	if !ok {
		return nil
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if line = bytes.TrimSpace(line); bytes.HasPrefix(line, []byte("#")) {
		return fmt.Appendf(nil, "--- %s\n", line)
	}
	return []byte("---\n")
}

func yamlOf(root *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if compact(root) {
		enc.CompactSeqIndent()
	}
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// unlike returns a node of the tree that the text has otherwise, nil when there is none.
func unlike(root *yaml.Node, text []byte) *yaml.Node {
	var got yaml.Node
	if yaml.Unmarshal(text, &got) != nil || got.Kind != yaml.DocumentNode {
		return root
	}
	if root.Kind != yaml.DocumentNode {
		return differs(root, got.Content[0])
	}
	return differs(root, &got)
}

// differs compares what nodes say, not how it is written.
func differs(want, got *yaml.Node) *yaml.Node {
	if want.Kind != got.Kind || want.Value != got.Value || want.ShortTag() != got.ShortTag() || len(want.Content) != len(got.Content) {
		return want
	}
	for i := range want.Content {
		if off := differs(want.Content[i], got.Content[i]); off != nil {
			return off
		}
	}
	return nil
}

// compact says whether the items of a document's first list stand right under its key.
func compact(n *yaml.Node) bool {
	found, is := false, false
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for i, c := range n.Content {
			if found {
				return
			}
			if n.Kind == yaml.MappingNode && i%2 == 1 && c.Kind == yaml.SequenceNode && c.Style&yaml.FlowStyle == 0 && c.Column > 0 {
				found, is = true, c.Column == n.Content[i-1].Column
				return
			}
			walk(c)
		}
	}
	walk(n)
	return is
}

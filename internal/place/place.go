// Package place finds the lines of fields in documents of YAML, for those who read manifests with Kubernetes' own decoder,
// which forgets them.
//
// What it promises: a place always has a line, that of the closest field around it that is there. Aliases are followed.
//
// What it does not: judge what stands there.
//
// Concurrency: values only.
package place

import (
	"bytes"

	"go.yaml.in/yaml/v3"
)

// Place is a field of a document, whether or not it is there.
type Place struct {
	node *yaml.Node // nil when it is not there
	line int
}

// Document returns the place of a whole document, of whose file so many lines stand before it. What is no YAML has no
// fields.
func Document(text []byte, before int) Place {
	var root yaml.Node
	if yaml.NewDecoder(bytes.NewReader(text)).Decode(&root) != nil || len(root.Content) != 1 {
		return Place{line: before + 1}
	}
	shift(&root, before)
	return of(root.Content[0])
}

// shift makes lines count from the file's beginning.
func shift(n *yaml.Node, by int) {
	n.Line += by
	for _, c := range n.Content {
		shift(c, by)
	}
}

func of(n *yaml.Node) Place {
	line := n.Line
	for hops := 0; n.Kind == yaml.AliasNode && hops < 100; hops++ {
		n = n.Alias
	}
	return Place{node: n, line: line}
}

// At goes down to a field. The key of a mapping begins where it does.
func (p Place) At(path ...string) Place {
	for _, key := range path {
		p = p.field(key)
	}
	return p
}

func (p Place) field(key string) Place {
	if p.node == nil || p.node.Kind != yaml.MappingNode {
		return Place{line: p.line}
	}
	for i := 0; i+1 < len(p.node.Content); i += 2 {
		if k := p.node.Content[i]; k.Value == key {
			return Place{node: of(p.node.Content[i+1]).node, line: k.Line}
		}
	}
	return Place{line: p.line}
}

// Item goes to an element of a list, from 0.
func (p Place) Item(i int) Place {
	if p.node == nil || p.node.Kind != yaml.SequenceNode || i >= len(p.node.Content) {
		return Place{line: p.line}
	}
	return of(p.node.Content[i])
}

// Found says whether the field is there.
func (p Place) Found() bool { return p.node != nil }

// Line is that of the field, or of the closest one around it that is there.
func (p Place) Line() int { return p.line }

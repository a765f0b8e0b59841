package inject

import (
	"errors"

	"go.yaml.in/yaml/v3"
)

// mostNodes bounds what aliases may make of a document.
const mostNodes = 1 << 20

var errTooLarge = errors.New("its aliases make it too large")

// expand writes aliases and merge keys out: what is changed in one place must not change in another.
func expand(n *yaml.Node) (*yaml.Node, error) {
	if !aliased(n) {
		return n, nil
	}
	left := mostNodes
	return written(n, &left)
}

func aliased(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		return true
	}
	for _, c := range n.Content {
		if aliased(c) {
			return true
		}
	}
	return false
}

func written(n *yaml.Node, left *int) (*yaml.Node, error) {
	n = resolved(n)
	if *left--; *left < 0 {
		return nil, errTooLarge
	}
	out := *n
	out.Anchor, out.Content = "", make([]*yaml.Node, 0, len(n.Content))
	for _, c := range n.Content {
		w, err := written(c, left)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, w)
	}
	if n.Kind == yaml.MappingNode {
		merge(&out)
	}
	return &out, nil
}

// merge replaces the key << by what it stands for (https://yaml.org/type/merge.html): the mapping's own keys win, and of
// several mappings the first.
func merge(m *yaml.Node) {
	var from []*yaml.Node
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Tag != "!!merge" {
			continue
		}
		if v := m.Content[i+1]; v.Kind == yaml.SequenceNode {
			from = append(from, v.Content...)
		} else {
			from = append(from, v)
		}
		m.Content = append(m.Content[:i:i], m.Content[i+2:]...)
		i -= 2
	}
	for _, f := range from {
		if f.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i+1 < len(f.Content); i += 2 {
			if lookup(m, f.Content[i].Value) == nil {
				m.Content = append(m.Content, f.Content[i], f.Content[i+1])
			}
		}
	}
}

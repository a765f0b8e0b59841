package inject

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// field is a place in a document: a node with its path, which may be missing.
type field struct {
	node *yaml.Node // nil when it is missing
	near *yaml.Node // the closest node that is there
	path string
}

// at returns a field of a mapping. Null is missing, as Kubernetes reads it: templates leave it behind where nothing is set.
func (f field) at(key string) field {
	to := field{near: f.near, path: join(f.path, key)}
	if n := lookup(f.node, key); n != nil {
		to.near = n
		if n.Tag != "!!null" {
			to.node = n
		}
	}
	return to
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// items returns the elements of a sequence.
func (f field) items() []field {
	if f.node == nil || f.node.Kind != yaml.SequenceNode {
		return nil
	}
	all := make([]field, len(f.node.Content))
	for i, n := range f.node.Content {
		all[i] = field{node: resolved(n), near: n, path: fmt.Sprintf("%s[%d]", f.path, i)}
	}
	return all
}

// text returns a scalar's text, "" when it is missing, null or no scalar.
func (f field) text() string {
	if f.node == nil || f.node.Kind != yaml.ScalarNode || f.node.Tag == "!!null" {
		return ""
	}
	return f.node.Value
}

// holds says whether a scalar is true, in any of YAML's spellings.
func (f field) holds() (v bool) {
	return f.node != nil && f.node.Decode(&v) == nil && v
}

// number returns a scalar as an integer, or the fallback.
func (f field) number(fallback int) int {
	n, err := strconv.Atoi(f.text())
	if err != nil {
		return fallback
	}
	return n
}

// strings returns a mapping of texts, without those that are null.
func (f field) strings() map[string]string {
	m := make(map[string]string)
	if f.node == nil || f.node.Kind != yaml.MappingNode {
		return m
	}
	for i := 0; i+1 < len(f.node.Content); i += 2 {
		if v := resolved(f.node.Content[i+1]); v.Kind == yaml.ScalarNode && v.Tag != "!!null" {
			m[f.node.Content[i].Value] = v.Value
		}
	}
	return m
}

// values returns the fields of a mapping that are there.
func (f field) values() (all []field) {
	if f.node == nil || f.node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(f.node.Content); i += 2 {
		if at := f.at(f.node.Content[i].Value); at.node != nil {
			all = append(all, at)
		}
	}
	return all
}

// booleans are what YAML 1.1, and with it kubectl, takes for true or false beyond what the decoder here does.
var booleans = []string{"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"}

// isText says whether kubectl reads a scalar as a text.
func isText(n *yaml.Node) bool {
	switch n.ShortTag() {
	case "!!int", "!!float", "!!bool":
		return false
	case "!!str":
		return n.Style != 0 || !slices.Contains(booleans, n.Value)
	}
	return true
}

// value decodes a field into plain Go values, nil when it is missing.
func (f field) value() (v any) {
	if f.node == nil || f.node.Decode(&v) != nil {
		return nil
	}
	return v
}

// resolved follows an alias.
func resolved(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func lookup(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolved(n.Content[i+1])
		}
	}
	return nil
}

// put sets a field of a mapping unless it has that value already, and returns whether it changed something.
func put(n *yaml.Node, key string, v any) (changed bool, err error) {
	to, err := encode(v)
	if err != nil {
		return false, err
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != key {
			continue
		}
		if same(n.Content[i+1], to) {
			return false, nil
		}
		old := n.Content[i+1]
		to.HeadComment, to.LineComment, to.FootComment = old.HeadComment, old.LineComment, old.FootComment
		n.Content[i+1] = to
		return true, nil
	}
	n.Style = 0 // what is added does not belong on one line
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, to)
	return true, nil
}

// drop removes a field of a mapping.
func drop(n *yaml.Node, key string) (changed bool) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
			return true
		}
	}
	return false
}

func encode(v any) (*yaml.Node, error) {
	if n, ok := v.(*yaml.Node); ok {
		return n, nil
	}
	n := new(yaml.Node)
	if err := n.Encode(v); err != nil {
		return nil, err
	}
	return n, nil
}

// same says whether two nodes have the same content, however they are written.
func same(a, b *yaml.Node) bool {
	x, y := field{node: resolved(a)}.value(), field{node: resolved(b)}.value()
	return reflect.DeepEqual(x, y)
}

// portNumber reads a port.
func portNumber(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 1 && n <= 65535
}

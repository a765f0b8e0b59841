package manifest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rousehq/rouse/internal/config"
)

// nodeBudget bounds the YAML nodes that one load looks at, so that aliases of aliases cannot turn a small file into
// a large one.
const nodeBudget = 1 << 18

// cursor is one place in a document.
type cursor struct {
	l    *loader
	obj  *Object
	path string
	node *yaml.Node
}

// fault reports something at the cursor's place.
func (c cursor) fault(s Severity, text, remedy string) {
	line := 0
	if c.node != nil {
		line = c.node.Line
	}
	c.l.add(Fault{s, c.obj.pos.file, line, c.obj.title(), c.path, text, remedy})
}

func (c cursor) errorf(remedy, format string, args ...any) {
	c.fault(Error, fmt.Sprintf(format, args...), remedy)
}

// warnf warns of what local processes lack. A cluster has it: there only what is misspelt is a warning.
func (c cursor) warnf(remedy, format string, args ...any) {
	if c.l.opts.Cluster {
		return
	}
	c.fault(Warning, fmt.Sprintf(format, args...), remedy)
}

// title names the object as far as it is known.
func (o *Object) title() string {
	switch {
	case o.Kind == "":
		return ""
	case o.Name == "":
		return o.Kind
	case o.Namespace == "":
		return o.Kind + " " + o.Name
	}
	return o.String()
}

// child returns the cursor of a value below this one, aliases followed, and notes its line.
func (c cursor) child(path string, key, value *yaml.Node) cursor {
	line := value.Line
	if key != nil {
		line = key.Line
	}
	c.obj.pos.lines[path] = line
	for hops := 0; value.Kind == yaml.AliasNode && hops < 100; hops++ {
		value = value.Alias
	}
	return cursor{c.l, c.obj, path, value}
}

// maxNoted bounds how deep the fields are whose lines are noted.
const maxNoted = 32

// note remembers the lines of all fields below, for a document that the caller decodes itself.
func (c cursor) note(depth int) {
	if depth > maxNoted || c.node.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(c.node.Content); i += 2 {
		if !c.spend() {
			return
		}
		k, path := c.node.Content[i], c.node.Content[i].Value
		if c.path != "" {
			path = c.path + "." + path
		}
		c.child(path, k, c.node.Content[i+1]).note(depth + 1)
	}
}

// spend counts a node against the budget and reports false, once with a fault, when it is used up.
func (c cursor) spend() bool {
	c.l.budget--
	if c.l.budget == 0 {
		c.errorf("split the file, or write the aliases out", "the manifests have more than %d fields", nodeBudget)
	}
	return c.l.budget > 0
}

func (c cursor) null() bool { return c.node.Kind == yaml.ScalarNode && c.node.ShortTag() == "!!null" }

// show returns what stands at the cursor, short enough for a message.
func (c cursor) show() string {
	switch c.node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if c.node.ShortTag() == "!!str" {
			return "the text " + strconv.Quote(clip(c.node.Value))
		}
		return clip(c.node.Value)
	}
	return "nothing"
}

func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:57], "") + "..."
	}
	return s
}

// text reads a string. Kubernetes refuses numbers and booleans there, so that a manifest taken here is taken there.
func (c cursor) text() (string, bool) {
	if c.node.Kind == yaml.ScalarNode {
		switch c.node.ShortTag() {
		case "!!str":
			return c.node.Value, true
		case "!!int", "!!float", "!!bool", "!!timestamp":
			c.errorf("put it in quotes", "is %s, must be a text", c.show())
			return c.node.Value, false
		}
	}
	c.errorf("", "is %s, must be a text", c.show())
	return "", false
}

// integer reads a whole number within bounds; what says what the bounds mean.
func (c cursor) integer(lo, hi int64, what string) (int64, bool) {
	var n int64
	if c.node.Kind != yaml.ScalarNode || c.node.ShortTag() != "!!int" || c.node.Decode(&n) != nil {
		remedy := ""
		if _, err := strconv.ParseInt(c.node.Value, 10, 64); err == nil {
			remedy = "remove the quotes"
		}
		c.errorf(remedy, "is %s, must be a whole number from %s", c.show(), span(lo, hi, what))
		return 0, false
	}
	if n < lo || n > hi {
		c.errorf("", "is %d, allowed is %s", n, span(lo, hi, what))
		return 0, false
	}
	return n, true
}

func span(lo, hi int64, what string) string {
	s := fmt.Sprintf("%d to %d", lo, hi)
	if hi == math.MaxInt32 {
		s = fmt.Sprintf("%d up", lo)
	}
	if what != "" {
		s += " (" + what + ")"
	}
	return s
}

func (c cursor) boolean() (bool, bool) {
	var b bool
	if c.node.Kind != yaml.ScalarNode || c.node.ShortTag() != "!!bool" || c.node.Decode(&b) != nil {
		c.errorf("", "is %s, must be true or false", c.show())
		return false, false
	}
	return b, true
}

// each calls f for every item of a list.
func (c cursor) each(f func(i int, item cursor)) {
	if c.node.Kind != yaml.SequenceNode {
		c.errorf("", "is %s, must be a list", c.show())
		return
	}
	for i, n := range c.node.Content {
		if !c.spend() {
			return
		}
		f(i, c.child(fmt.Sprintf("%s[%d]", c.path, i), nil, n))
	}
}

// eachObject calls f for every mapping of a list; what f does not take is unknown.
func (c cursor) eachObject(f func(o *object)) {
	c.each(func(_ int, item cursor) {
		if o, ok := item.object(); ok {
			f(o)
			o.done()
		}
	})
}

// texts reads a list of strings.
func (c cursor) texts() []string {
	var out []string
	c.each(func(_ int, item cursor) {
		s, _ := item.text()
		out = append(out, s)
	})
	return out
}

// textMap reads labels, annotations or a ConfigMap's data.
func (c cursor) textMap() map[string]string {
	o, ok := c.object()
	if !ok {
		return nil
	}
	out := make(map[string]string, len(o.keys))
	for _, k := range o.keys {
		v := c.child(fmt.Sprintf("%s[%s]", c.path, k.Value), k, o.values[k.Value])
		if v.null() {
			out[k.Value] = ""
			continue
		}
		out[k.Value], _ = v.text()
	}
	return out
}

// object is a mapping whose fields are taken one by one; what nobody took is unknown.
type object struct {
	cursor
	keys   []*yaml.Node
	values map[string]*yaml.Node
	known  []string
}

// object opens the mapping at the cursor.
func (c cursor) object() (*object, bool) {
	o := &object{cursor: c, values: map[string]*yaml.Node{}}
	if c.null() {
		return o, true
	}
	if c.node.Kind != yaml.MappingNode {
		c.errorf("", "is %s, must be a mapping", c.show())
		return o, false
	}
	o.collect(c.node, 0)
	return o, true
}

// maxMerge bounds how deep merge keys (<<) may nest.
const maxMerge = 8

// collect gathers the fields of a mapping; fields of a merged mapping give way to those written in place.
func (o *object) collect(n *yaml.Node, depth int) {
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if !o.spend() {
			return
		}
		if k.ShortTag() == "!!merge" {
			merged = append(merged, v)
			continue
		}
		first, twice := o.values[k.Value]
		switch {
		case !twice:
			o.keys = append(o.keys, k)
			o.values[k.Value] = v
		case depth == 0:
			o.child(o.join(k.Value), k, v).errorf("keep one of them", "is written twice, first in line %d", first.Line)
		}
	}
	for _, m := range merged {
		o.merge(m, depth+1)
	}
}

func (o *object) merge(m *yaml.Node, depth int) {
	if m.Kind == yaml.AliasNode {
		m = m.Alias
	}
	switch {
	case depth > maxMerge || (m.Kind != yaml.MappingNode && m.Kind != yaml.SequenceNode):
		o.errorf("", "the merge key << must name a mapping, nested at most %d deep", maxMerge)
	case m.Kind == yaml.MappingNode:
		o.collect(m, depth)
	default:
		for _, item := range m.Content {
			if !o.spend() {
				return
			}
			o.merge(item, depth+1)
		}
	}
}

func (o *object) join(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

// take returns the field's cursor when it is written and not null.
func (o *object) take(name string) (cursor, bool) {
	o.known = append(o.known, name)
	v, ok := o.values[name]
	if !ok {
		return cursor{}, false
	}
	key := o.keys[slices.IndexFunc(o.keys, func(k *yaml.Node) bool { return k.Value == name })]
	c := o.child(o.join(name), key, v)
	return c, !c.null()
}

// need is take for a field that must be there.
func (o *object) need(name, remedy string) (cursor, bool) {
	c, ok := o.take(name)
	if !ok {
		at := o.cursor
		at.path = o.join(name)
		at.errorf(remedy, "is missing")
	}
	return c, ok
}

func (o *object) text(name string) string {
	if c, ok := o.take(name); ok {
		s, _ := c.text()
		return s
	}
	return ""
}

func (o *object) texts(name string) []string {
	if c, ok := o.take(name); ok {
		return c.texts()
	}
	return nil
}

func (o *object) textMap(name string) map[string]string {
	if c, ok := o.take(name); ok {
		return c.textMap()
	}
	return nil
}

// integer returns unset when the field is not written or not valid.
func (o *object) integer(name string, lo, hi, unset int64, what string) int64 {
	if c, ok := o.take(name); ok {
		if n, ok := c.integer(lo, hi, what); ok {
			return n
		}
	}
	return unset
}

// skip knows fields that are right and need nothing from us.
func (o *object) skip(names ...string) { o.known = append(o.known, names...) }

// unbuilt warns of fields that are right but have no effect here.
func (o *object) unbuilt(why string, names ...string) {
	for _, name := range names {
		if c, ok := o.take(name); ok {
			c.warnf("", "%s", why)
		}
	}
}

// podSpec is the path of what is also a pod's.
const podSpec = "spec.template.spec."

// done warns of every field that nobody took, in the order of the file.
func (o *object) done() {
	for _, k := range o.keys {
		if slices.Contains(o.known, k.Value) {
			continue
		}
		c := o.child(o.join(clip(k.Value)), k, k)
		switch near := config.Nearest(k.Value, o.known); {
		case near != "":
			c.fault(Warning, "unknown field", "did you mean "+near+"?")
		case c.l.opts.Cluster && strings.HasPrefix(c.path, podSpec): // the API server knows more of pods
		default:
			c.fault(Warning, "unknown field", "it has no effect")
		}
	}
}

package requestlog

import (
	"fmt"
	"text/template/parse"
)

// command evaluates one command: a function or a method with arguments, or a value.
func (s *state) command(dot any, c *parse.CommandNode, last []any) (any, error) {
	first := c.Args[0]
	if id, ok := first.(*parse.IdentifierNode); ok {
		return s.function(dot, id.Ident, c.Args[1:], last)
	}
	args, err := s.args(dot, c.Args[1:], last)
	if err != nil {
		return nil, err
	}
	switch n := first.(type) {
	case *parse.FieldNode:
		return chain(dot, n.Ident, args)
	case *parse.ChainNode:
		v, err := s.arg(dot, n.Node)
		if err != nil {
			return nil, err
		}
		return chain(v, n.Field, args)
	case *parse.VariableNode:
		v, err := s.variable(n.Ident[0])
		if err != nil {
			return nil, err
		}
		return chain(v, n.Ident[1:], args)
	}
	if len(args) > 0 {
		return nil, fmt.Errorf("%s takes no arguments", first)
	}
	return s.arg(dot, first)
}

// chain follows names from v; args belong to the last one.
func chain(v any, names []string, args []any) (any, error) {
	if len(names) == 0 && len(args) > 0 {
		return nil, fmt.Errorf("%v takes no arguments", v)
	}
	for i, name := range names {
		var with []any
		if i == len(names)-1 {
			with = args
		}
		var err error
		if v, err = field(v, name, with); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (s *state) args(dot any, nodes []parse.Node, last []any) ([]any, error) {
	all := make([]any, 0, len(nodes)+len(last))
	for _, n := range nodes {
		v, err := s.arg(dot, n)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return append(all, last...), nil
}

// arg evaluates a node that stands for one value.
func (s *state) arg(dot any, node parse.Node) (any, error) {
	switch n := node.(type) {
	case *parse.DotNode:
		return dot, nil
	case *parse.NilNode:
		return nil, nil //nolint:nilnil // the template says nil
	case *parse.BoolNode:
		return n.True, nil
	case *parse.StringNode:
		return n.Text, nil
	case *parse.NumberNode:
		return number(n)
	case *parse.PipeNode:
		return s.pipe(dot, n)
	case *parse.FieldNode:
		return chain(dot, n.Ident, nil)
	case *parse.VariableNode:
		v, err := s.variable(n.Ident[0])
		if err != nil {
			return nil, err
		}
		return chain(v, n.Ident[1:], nil)
	case *parse.ChainNode:
		v, err := s.arg(dot, n.Node)
		if err != nil {
			return nil, err
		}
		return chain(v, n.Field, nil)
	case *parse.IdentifierNode:
		return s.function(dot, n.Ident, nil, nil)
	}
	return nil, fmt.Errorf("%s is no value", node)
}

// number is an int where it can be, else a float.
func number(n *parse.NumberNode) (any, error) {
	switch {
	case n.IsInt && int64(int(n.Int64)) == n.Int64:
		return int(n.Int64), nil
	case n.IsFloat:
		return n.Float64, nil
	}
	return nil, fmt.Errorf("%s is out of range", n)
}

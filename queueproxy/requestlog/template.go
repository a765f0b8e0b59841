package requestlog

import (
	"bytes"
	"errors"
	"fmt"
	"text/template/parse"
)

// maxDepth bounds templates that include each other.
const maxDepth = 100

// tmpl is a parsed template, safe for concurrent use.
type tmpl struct {
	root *parse.Tree
	set  map[string]*parse.Tree
}

func parseTemplate(text string) (*tmpl, error) {
	known := make(map[string]any)
	for name := range functions() {
		known[name] = true
	}
	t := &tmpl{set: make(map[string]*parse.Tree)}
	root, err := parse.New("request log").Parse(text, "", "", t.set, known)
	if err != nil {
		return nil, err
	}
	t.root = root
	return t, nil
}

// How a range ends early; they never reach a caller of execute, since the parser allows them in ranges only.
var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
)

// state is one run of a template.
type state struct {
	t     *tmpl
	w     *bytes.Buffer
	vars  []variable // innermost last; the first is $
	depth int
}

type variable struct {
	name  string
	value any
}

func (t *tmpl) execute(w *bytes.Buffer, data *line) error {
	s := &state{t: t, w: w, vars: []variable{{"$", data}}}
	return s.walk(data, t.root.Root)
}

// walk writes what a node makes of dot.
func (s *state) walk(dot any, node parse.Node) error {
	switch n := node.(type) {
	case *parse.TextNode:
		s.w.Write(n.Text)
		return nil
	case *parse.ListNode:
		return s.list(dot, n)
	case *parse.ActionNode:
		v, err := s.pipe(dot, n.Pipe)
		if err == nil && len(n.Pipe.Decl) == 0 {
			show(s.w, v)
		}
		return err
	case *parse.IfNode:
		return s.branch(dot, &n.BranchNode, false)
	case *parse.WithNode:
		return s.branch(dot, &n.BranchNode, true)
	case *parse.RangeNode:
		return s.repeat(dot, n)
	case *parse.TemplateNode:
		return s.include(dot, n)
	case *parse.CommentNode:
		return nil
	case *parse.BreakNode:
		return errBreak
	case *parse.ContinueNode:
		return errContinue
	}
	return fmt.Errorf("%s has no meaning here", node)
}

func (s *state) list(dot any, n *parse.ListNode) error {
	if n == nil {
		return nil
	}
	for _, c := range n.Nodes {
		if err := s.walk(dot, c); err != nil {
			return err
		}
	}
	return nil
}

// show prints a value as text/template does.
func show(w *bytes.Buffer, v any) {
	if v == nil {
		w.WriteString("<no value>")
		return
	}
	fmt.Fprint(w, v)
}

// branch is if, and with, which makes the value the dot.
func (s *state) branch(dot any, n *parse.BranchNode, with bool) error {
	defer s.leave(len(s.vars))
	v, err := s.pipe(dot, n.Pipe)
	switch {
	case err != nil:
		return err
	case !truth(v):
		return s.list(dot, n.ElseList)
	case with:
		return s.list(v, n.List)
	}
	return s.list(dot, n.List)
}

func (s *state) leave(depth int) { s.vars = s.vars[:depth] }

// repeat is range, over the values of a header: all lists that there are.
func (s *state) repeat(dot any, n *parse.RangeNode) error {
	defer s.leave(len(s.vars))
	v, err := s.pipe(dot, n.Pipe)
	if err != nil {
		return err
	}
	all, ok := v.([]string)
	if !ok {
		return fmt.Errorf("range over %T: only the values of one header can be listed", v)
	}
	if len(all) == 0 {
		return s.list(dot, n.ElseList)
	}
	decl := n.Pipe.Decl
	for i, e := range all {
		if len(decl) > 0 {
			s.set(decl[len(decl)-1].Ident[0], e)
		}
		if len(decl) > 1 {
			s.set(decl[0].Ident[0], i)
		}
		depth := len(s.vars)
		err := s.list(e, n.List)
		s.leave(depth)
		switch {
		case errors.Is(err, errBreak):
			return nil
		case err != nil && !errors.Is(err, errContinue):
			return err
		}
	}
	return nil
}

func (s *state) include(dot any, n *parse.TemplateNode) error {
	sub := s.t.set[n.Name]
	if sub == nil {
		return fmt.Errorf("template %q is not defined", n.Name)
	}
	if s.depth >= maxDepth {
		return fmt.Errorf("templates include each other more than %d deep", maxDepth)
	}
	v, err := s.pipe(dot, n.Pipe)
	if err != nil {
		return err
	}
	inner := &state{t: s.t, w: s.w, vars: []variable{{"$", v}}, depth: s.depth + 1}
	return inner.list(v, sub.Root)
}

// pipe evaluates commands, each with the result of the one before as its last argument.
func (s *state) pipe(dot any, p *parse.PipeNode) (v any, err error) {
	if p == nil {
		return nil, nil //nolint:nilnil // a template that is included without a value has none
	}
	for i, c := range p.Cmds {
		var last []any
		if i > 0 {
			last = []any{v}
		}
		if v, err = s.command(dot, c, last); err != nil {
			return nil, err
		}
	}
	for _, d := range p.Decl {
		if p.IsAssign {
			s.set(d.Ident[0], v)
		} else {
			s.vars = append(s.vars, variable{d.Ident[0], v})
		}
	}
	return v, nil
}

// set changes the innermost variable of the name.
func (s *state) set(name string, v any) {
	for i := len(s.vars) - 1; i >= 0; i-- {
		if s.vars[i].name == name {
			s.vars[i].value = v
			return
		}
	}
}

func (s *state) variable(name string) (any, error) {
	for i := len(s.vars) - 1; i >= 0; i-- {
		if s.vars[i].name == name {
			return s.vars[i].value, nil
		}
	}
	return nil, fmt.Errorf("variable %s is not set", name)
}

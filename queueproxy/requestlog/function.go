package requestlog

import (
	"errors"
	"fmt"
	"text/template"
	"text/template/parse"
)

// functions are text/template's. And and or evaluate no more arguments than they need; call is left out, because there is
// nothing to call.
func functions() map[string]func(args []any) (any, error) {
	text := func(f func(...any) string) func([]any) (any, error) {
		return func(args []any) (any, error) { return f(args...), nil }
	}
	return map[string]func([]any) (any, error){
		"and": nil, "or": nil, // see function
		"not":      not,
		"index":    index,
		"slice":    slice,
		"len":      length,
		"print":    text(fmt.Sprint),
		"println":  text(fmt.Sprintln),
		"printf":   printf,
		"js":       text(template.JSEscaper),
		"html":     text(template.HTMLEscaper),
		"urlquery": text(template.URLQueryEscaper),
		"eq":       equal,
		"ne": func(args []any) (any, error) {
			if len(args) != 2 {
				return nil, errors.New("ne takes two arguments")
			}
			v, err := equal(args)
			return v == false, err
		},
		"lt": ordered(func(c int) bool { return c < 0 }),
		"le": ordered(func(c int) bool { return c <= 0 }),
		"gt": ordered(func(c int) bool { return c > 0 }),
		"ge": ordered(func(c int) bool { return c >= 0 }),
	}
}

func (s *state) function(dot any, name string, nodes []parse.Node, last []any) (any, error) {
	if name == "and" || name == "or" {
		return s.shortCircuit(dot, name == "or", nodes, last)
	}
	f := functions()[name]
	if f == nil {
		return nil, fmt.Errorf("function %s is not defined", name)
	}
	args, err := s.args(dot, nodes, last)
	if err != nil {
		return nil, err
	}
	return f(args)
}

// shortCircuit returns the first argument whose truth is stop, or the last one.
func (s *state) shortCircuit(dot any, stop bool, nodes []parse.Node, last []any) (v any, err error) {
	if len(nodes)+len(last) == 0 {
		return nil, errors.New("and and or take arguments")
	}
	for _, n := range nodes {
		if v, err = s.arg(dot, n); err != nil || truth(v) == stop {
			return v, err
		}
	}
	for _, v = range last {
		if truth(v) == stop {
			break
		}
	}
	return v, nil
}

// truth is false for zero, empty and nothing.
func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case int:
		return v != 0
	case int64:
		return v != 0
	case float64:
		return v != 0
	case []string:
		return len(v) > 0
	case encrypted:
		return bool(v)
	}
	return true
}

func not(args []any) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("not takes one argument")
	}
	return !truth(args[0]), nil
}

func printf(args []any) (any, error) {
	if len(args) > 0 {
		if format, ok := args[0].(string); ok {
			return fmt.Sprintf(format, args[1:]...), nil
		}
	}
	return nil, errors.New("printf takes a format and values")
}

func length(args []any) (any, error) {
	if len(args) == 1 {
		switch v := args[0].(type) {
		case string:
			return len(v), nil
		case []string:
			return len(v), nil
		}
	}
	return nil, errors.New("len takes a text or the values of a header")
}

// slice cuts a text, or the values of a header: from the first number on and up to the second.
func slice(args []any) (any, error) {
	if len(args) == 0 || len(args) > 3 {
		return nil, errors.New("slice takes a text or the values of a header, and up to two numbers")
	}
	switch of := args[0].(type) {
	case string:
		from, to, err := bounds(args[1:], len(of))
		if err != nil {
			return nil, err
		}
		return of[from:to], nil
	case []string:
		from, to, err := bounds(args[1:], len(of))
		if err != nil {
			return nil, err
		}
		return of[from:to], nil
	}
	return nil, fmt.Errorf("slice of %T", args[0])
}

func bounds(given []any, length int) (from, to int, err error) {
	to = length
	for i, v := range given {
		n, ok := v.(int)
		if !ok || n < 0 || n > length {
			return 0, 0, fmt.Errorf("slice out of range: %v", v)
		}
		if i == 0 {
			from = n
		} else {
			to = n
		}
	}
	if from > to {
		return 0, 0, fmt.Errorf("slice from %d to %d", from, to)
	}
	return from, to, nil
}

// index looks up a header's values by name, and one value by number.
func index(args []any) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("index takes something to look into")
	}
	v := args[0]
	for _, by := range args[1:] {
		switch of := v.(type) {
		case header:
			name, ok := by.(string)
			if !ok {
				return nil, errors.New("index of .Header takes a name")
			}
			v = of.values(name)
		case []string:
			i, ok := by.(int)
			if !ok || i < 0 || i >= len(of) {
				return nil, fmt.Errorf("index out of range: %v", by)
			}
			v = of[i]
		case string:
			i, ok := by.(int)
			if !ok || i < 0 || i >= len(of) {
				return nil, fmt.Errorf("index out of range: %v", by)
			}
			v = of[i]
		default:
			return nil, fmt.Errorf("index of %T", of)
		}
	}
	return v, nil
}

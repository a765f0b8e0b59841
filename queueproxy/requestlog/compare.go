package requestlog

import (
	"cmp"
	"errors"
	"fmt"
)

var errKinds = errors.New("incompatible types for comparison")

// compare orders two values of one kind; text/template's kinds are whole numbers, floats, texts and booleans.
func compare(a, b any) (int, error) {
	if x, ok := whole(a); ok {
		if y, ok := whole(b); ok {
			return cmp.Compare(x, y), nil
		}
		return 0, errKinds
	}
	switch x := a.(type) {
	case float64:
		if y, ok := b.(float64); ok {
			return cmp.Compare(x, y), nil
		}
	case string:
		if y, ok := b.(string); ok {
			return cmp.Compare(x, y), nil
		}
	}
	return 0, errKinds
}

func whole(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	}
	return 0, false
}

// equal is true when the first value equals any of the others.
func equal(args []any) (any, error) {
	if len(args) < 2 {
		return nil, errors.New("eq takes two values or more")
	}
	for _, b := range args[1:] {
		same, err := same(args[0], b)
		if err != nil {
			return nil, err
		}
		if same {
			return true, nil
		}
	}
	return false, nil
}

func same(a, b any) (bool, error) {
	if x, ok := a.(bool); ok {
		if y, ok := b.(bool); ok {
			return x == y, nil
		}
		return false, errKinds
	}
	c, err := compare(a, b)
	return c == 0 && err == nil, err
}

func ordered(holds func(int) bool) func([]any) (any, error) {
	return func(args []any) (any, error) {
		if len(args) != 2 {
			return nil, fmt.Errorf("a comparison takes two values, not %d", len(args))
		}
		c, err := compare(args[0], args[1])
		if err != nil {
			return nil, err
		}
		return holds(c), nil
	}
}

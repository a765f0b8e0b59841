package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// readable says what is wrong with an object in the words of its file: the decoder speaks of Go's types. what is added to
// what a whole document must be.
func readable(err error, at spot, what string) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	text := fmt.Sprintf("is %s, must be %s", article(wrong.Value), kindWords(wrong.Type))
	if wrong.Field == "" {
		return errors.New(strings.TrimSpace(text + " " + what))
	}
	return fmt.Errorf("%s (line %d) %s", wrong.Field, at.place.At(strings.Split(wrong.Field, ".")...).Line(), text)
}

// article makes of a value in JSON's words one of YAML's.
func article(value string) string {
	first, rest, _ := strings.Cut(value, " ")
	switch first {
	case "object":
		return "a mapping"
	case "array":
		return "a list"
	case "string":
		return "a text"
	case "bool":
		return "true or false"
	case "number":
		return strings.TrimSpace("a number " + rest)
	}
	return value
}

// kindWords says which values a Go type takes.
func kindWords(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.String:
		return "a text; put it in quotes"
	case reflect.Bool:
		return "true or false"
	case reflect.Struct, reflect.Map:
		return "a mapping"
	case reflect.Pointer:
		return kindWords(t.Elem())
	}
	return "a whole number"
}

// notTexts names labels and annotations that are numbers, booleans or worse, all of them: the API server refuses each.
func notTexts(body []byte, kind string, at spot) (faults []error) {
	var object map[string]any
	if json.Unmarshal(body, &object) != nil {
		return nil // which whoever decodes it says better
	}
	for _, path := range append([][]string{{"metadata", "labels"}, {"spec", "template", "metadata", "labels"}}, annotatedAt...) {
		texts := inside(object, path)
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			var is string
			switch value := texts[key].(type) {
			case nil, string:
				continue
			case map[string]any:
				is = "a mapping, must be a text"
			case []any:
				is = "a list, must be a text"
			default:
				is = fmt.Sprintf("%v, must be a text; put it in quotes", value)
			}
			faults = append(faults, at.fault(fmt.Errorf("%s: %s.%s (line %d) is %s", kind, strings.Join(path, "."), key,
				at.place.At(path...).At(key).Line(), is)))
		}
	}
	return faults
}

// inside returns the mapping at a path, nil when there is none.
func inside(object map[string]any, path []string) map[string]any {
	for _, key := range path {
		object, _ = object[key].(map[string]any)
	}
	return object
}

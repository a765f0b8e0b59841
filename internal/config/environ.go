package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
)

// FromEnviron fills dst, a pointer to a struct with `env:"NAME"` tags (see github.com/caarlos0/env), from an
// environment such as os.Environ returns. Defaults are what dst holds beforehand or the tag envDefault. Every
// variable that is missing though required, or that cannot be read, is one fault; then dst is partly filled and must
// not be used. What kubelet says of a Service in a variable of the same name passes for not set: see [ServiceLinks].
func FromEnviron(environ []string, dst any) []Fault {
	vars := env.ToMap(environ)
	maps.DeleteFunc(vars, serviceLink)
	err := env.ParseWithOptions(dst, env.Options{Environment: vars})
	if err == nil {
		return nil
	}
	var all env.AggregateError
	if !errors.As(err, &all) {
		return []Fault{{Key: "environment", Allowed: "readable: " + err.Error()}}
	}
	byField := tags(reflect.TypeOf(dst).Elem())
	faults := make([]Fault, 0, len(all.Errors))
	for _, e := range all.Errors {
		faults = append(faults, envFault(e, vars, byField))
	}
	return faults
}

func envFault(err error, vars, byField map[string]string) Fault {
	var bad env.ParseError
	if errors.As(err, &bad) {
		key := byField[bad.Name]
		return Fault{Key: key, Value: vars[key], Allowed: fmt.Sprintf("a value of type %s", bad.Type)}
	}
	var missing env.VarIsNotSetError
	if errors.As(err, &missing) {
		return Fault{Key: missing.Key, Allowed: "set"}
	}
	var empty env.EmptyVarError
	if errors.As(err, &empty) {
		return Fault{Key: empty.Key, Allowed: "set and not empty"}
	}
	return Fault{Key: "environment", Allowed: "readable: " + err.Error()}
}

// tags maps the names of a struct's fields, nested ones included, to their variables.
func tags(t reflect.Type) map[string]string {
	m := make(map[string]string)
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		if name != "" {
			m[f.Name] = name
		} else if f.Type.Kind() == reflect.Struct {
			for k, v := range tags(f.Type) {
				m[k] = v
			}
		}
	}
	return m
}

// Environ is FromEnviron over the process's own environment.
func Environ(dst any) []Fault { return FromEnviron(os.Environ(), dst) }

// Join makes one error of faults, or nil of none.
func Join(faults []Fault) error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}

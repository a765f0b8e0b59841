// Package config decodes every setting of Rouse in one place: environment variables, ConfigMaps, annotations and
// flags come in as strings, one immutable snapshot per revision comes out.
//
// What it promises: every value remembers where it came from ([Origin]); a higher source always wins
// (flag > env > annotation > spec > ConfigMap > default); all faults of an input are reported at once, each with its
// key, its value and what is allowed; a bad update never replaces a good snapshot ([Store]). Names, defaults and
// bounds are Knative Serving's (config-autoscaler and the autoscaling.knative.dev annotations), quirks included.
// Besides, numbers must be finite, which Knative does not ask.
//
// What it does not: read files, watch anything, or decide. A scaling policy is handed to control/kpa as plain values.
//
// Concurrency: parsed values are never changed after they are returned; [Store] is safe for concurrent use.
package config

import "fmt"

// Source says which kind of place a value came from. A higher source overrides a lower one.
type Source uint8

// The sources, weakest first.
const (
	Default    Source = iota // built in
	ConfigMap                // cluster-wide: config-autoscaler, config-defaults
	Spec                     // a field of the manifest, such as timeoutSeconds
	Annotation               // an annotation of the revision
	Env                      // an environment variable of the process
	Flag                     // a command line flag
)

// String returns the source's name as messages write it.
func (s Source) String() string {
	return [...]string{"default", "configmap", "spec", "annotation", "env", "flag"}[s]
}

// Origin says where one value came from.
type Origin struct {
	Source Source
	Key    string // the key exactly as it was written, such as an alias
	Where  string // "file:line", empty when unknown
}

// String returns the origin for people, such as "annotation autoscaling.knative.dev/target (app.yaml:12)".
func (o Origin) String() string {
	s := o.Source.String()
	if o.Key != "" {
		s += " " + o.Key
	}
	if o.Where != "" {
		s += " (" + o.Where + ")"
	}
	return s
}

// Value is a setting together with where it came from. Origins are shared between values, since there are thousands of
// revisions and most of their settings are defaults: never change one. The Origin of the zero value is nil; every value
// that this package returns in an [Autoscaler] or a [Revision] has one.
type Value[T any] struct {
	V T
	*Origin
}

// IsSet reports whether somebody chose the value; a default is not set.
func (v Value[T]) IsSet() bool { return v.Origin != nil && v.Source != Default }

// Or returns v when it is set, else fallback.
func (v Value[T]) Or(fallback Value[T]) Value[T] {
	if v.IsSet() {
		return v
	}
	return fallback
}

// String returns the bare value.
func (v Value[T]) String() string { return fmt.Sprint(v.V) }

// builtins are the origins of the defaults, by key; read only.
var builtins = func() map[string]*Origin {
	m := make(map[string]*Origin)
	for _, s := range settings {
		for _, key := range []string{s.key, s.configMap} {
			if key != "" {
				m[key] = &Origin{Source: Default, Key: key}
			}
		}
	}
	return m
}()

// builtin returns a default value of the given key.
func builtin[T any](key string, v T) Value[T] {
	o := builtins[key]
	if o == nil {
		panic("config: no such setting: " + key)
	}
	return Value[T]{V: v, Origin: o}
}

// Fault is one setting that was refused. It is an error whose text names the key, the value and the remedy.
type Fault struct {
	Key     string // as written
	Value   string // as written
	Allowed string // what would have been accepted, such as "a number in [1, 100]"
	Where   string // "file:line", empty when unknown
	Why     string // what a parser says of the value, empty where Allowed says enough
}

// Error returns "where: key = value: why: must be …".
func (f Fault) Error() string {
	s := fmt.Sprintf("%s = %q: ", f.Key, f.Value)
	if f.Why != "" {
		s += f.Why + ": "
	}
	s += "must be " + f.Allowed
	if f.Where != "" {
		s = f.Where + ": " + s
	}
	return s
}

// At tells where a key was written, as "file:line", or "" when unknown. A nil At knows nothing.
type At func(key string) string

func (a At) of(key string) string {
	if a == nil {
		return ""
	}
	return a(key)
}

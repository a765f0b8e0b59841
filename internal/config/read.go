package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// rule is what a raw value must be: how to read it and, in words, what is allowed.
type rule[T any] struct {
	allowed string
	parse   func(string) (T, bool)
}

func text() rule[string] {
	return rule[string]{"any text", func(s string) (string, bool) { return s, true }}
}

func oneOf(names ...string) rule[string] {
	return rule[string]{"one of " + strings.Join(names, ", "), func(s string) (string, bool) {
		for _, n := range names {
			if s == n {
				return s, true
			}
		}
		return "", false
	}}
}

func boolean() rule[bool] {
	return rule[bool]{"true or false", func(s string) (bool, bool) {
		b, err := strconv.ParseBool(s)
		return b, err == nil
	}}
}

// number reads a finite number that ok accepts.
func number(allowed string, ok func(float64) bool) rule[float64] {
	return rule[float64]{allowed, func(s string) (float64, bool) {
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) && ok(f)
	}}
}

func numberIn(lo, hi float64) rule[float64] {
	return number(fmt.Sprintf("a number in [%g, %g]", lo, hi), func(f float64) bool { return f >= lo && f <= hi })
}

func numberFrom(lo float64) rule[float64] {
	return number(fmt.Sprintf("a number of at least %g", lo), func(f float64) bool { return f >= lo })
}

// count reads a whole number of 32 bits, as Kubernetes counts replicas.
func count(lo, hi int) rule[int] {
	allowed := fmt.Sprintf("a whole number in [%d, %d]", lo, hi)
	return rule[int]{allowed, func(s string) (int, bool) {
		n, err := strconv.ParseInt(s, 10, 32)
		return int(n), err == nil && int(n) >= lo && int(n) <= hi
	}}
}

// duration reads a Go duration in [lo, hi] that is a multiple of unit.
func duration(lo, hi, unit time.Duration) rule[time.Duration] {
	allowed := fmt.Sprintf("a duration with a unit of at least %s", lo)
	if lo == 1 {
		allowed = "a duration with a unit above 0s"
	}
	if hi < math.MaxInt64 {
		allowed = fmt.Sprintf("a duration with a unit in [%s, %s]", lo, hi)
	}
	if unit > 1 {
		allowed += " in whole multiples of " + unit.String()
	}
	return rule[time.Duration]{allowed, func(s string) (time.Duration, bool) {
		d, err := time.ParseDuration(s)
		return d, err == nil && d >= lo && d <= hi && d%unit == 0
	}}
}

// layer is one source of raw values.
type layer struct {
	source Source
	data   map[string]string
	at     At
}

// reader takes typed values out of layers, strongest first, and gathers every fault on the way.
type reader struct {
	layers []layer
	faults []Fault
}

// names lists the spellings of one setting. Flags and environment layers are keyed by the bare first spelling, the
// others by prefix + spelling; the first spelling present wins, whatever the value.
type names struct {
	prefix string
	keys   []string
}

func (r *reader) find(n names) (raw string, o *Origin, ok bool) {
	for _, l := range r.layers {
		keys, prefix := n.keys, n.prefix
		if l.source > Annotation {
			keys, prefix = keys[:1], ""
		}
		for _, k := range keys {
			if raw, ok = l.data[prefix+k]; ok {
				return raw, &Origin{Source: l.source, Key: prefix + k, Where: l.at.of(prefix + k)}, true
			}
		}
	}
	return "", nil, false
}

func (r *reader) refuse(raw string, o *Origin, allowed string) {
	r.faults = append(r.faults, Fault{Key: o.written(), Value: raw, Allowed: allowed, Where: o.Where})
}

// read sets into when the setting is present and valid; otherwise into keeps what it has.
func read[T any](r *reader, n names, ru rule[T], into *Value[T]) {
	raw, o, ok := r.find(n)
	if !ok {
		return
	}
	v, ok := ru.parse(raw)
	if !ok {
		r.refuse(raw, o, ru.allowed)
		return
	}
	*into = Value[T]{V: v, Origin: o}
}

// readExplained reads a text as it stands when a parser takes it; what the parser says of one that it refuses is a part of
// the fault.
func readExplained(r *reader, n names, form string, judge func(string) error, into *Value[string]) {
	raw, o, ok := r.find(n)
	if !ok {
		return
	}
	if err := judge(raw); err != nil {
		r.faults = append(r.faults, Fault{Key: o.written(), Value: raw, Allowed: form, Why: err.Error(), Where: o.Where})
		return
	}
	*into = Value[string]{V: raw, Origin: o}
}

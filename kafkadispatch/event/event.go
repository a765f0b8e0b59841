// Package event turns Kafka records into CloudEvents, and CloudEvents into HTTP requests and back.
//
// It knows the Kafka protocol binding (binary and structured), the mapping that Knative's KafkaSource uses for records
// that are no CloudEvents, the HTTP binding in its three modes and the JSON format. Attribute order is the order of
// Set, so that equal records make equal bytes.
//
// It does no I/O. An [Event] is not safe for concurrent use; it may be used again after Reset and then allocates
// nothing in steady state. A [Mapper] is safe for concurrent use.
package event

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Kind is the CloudEvents type of an attribute's value, as far as the JSON format shows it.
type Kind uint8

// The kinds.
const (
	String Kind = iota
	Integer
	Boolean
)

// ErrNotEvent says that a message is not a CloudEvent.
var ErrNotEvent = errors.New("not a CloudEvent")

type attr struct {
	name     string
	from, to int // in buf
	kind     Kind
}

// Event is one CloudEvent. Values live in one buffer, so that an Event can be used again.
type Event struct {
	attrs []attr
	buf   []byte
	// Data is the payload; nil means that the event has none.
	Data []byte
}

// Reset empties the event; its memory is kept.
func (e *Event) Reset() { e.attrs, e.buf, e.Data = e.attrs[:0], e.buf[:0], nil }

// Set sets an attribute; a later value replaces an earlier one.
func (e *Event) Set(name, value string) { e.set(name, String, len(e.buf), append(e.buf, value...)) }

// SetBytes is Set for bytes.
func (e *Event) SetBytes(name string, value []byte) {
	e.set(name, String, len(e.buf), append(e.buf, value...))
}

// SetInt sets an attribute of the CloudEvents type Integer, which has 32 bits: a larger value becomes a String.
func (e *Event) SetInt(name string, value int64) {
	kind := Integer
	if int64(int32(value)) != value {
		kind = String
	}
	e.set(name, kind, len(e.buf), strconv.AppendInt(e.buf, value, 10))
}

// set takes the buffer with the value appended to it from from on.
func (e *Event) set(name string, kind Kind, from int, buf []byte) {
	e.buf = buf
	a := attr{name: name, from: from, to: len(buf), kind: kind}
	for i := range e.attrs {
		if e.attrs[i].name == name {
			e.attrs[i] = a
			return
		}
	}
	e.attrs = append(e.attrs, a)
}

// add is set for a name that is known not to be there.
func (e *Event) add(name string, kind Kind, from int, buf []byte) {
	e.buf = buf
	e.attrs = append(e.attrs, attr{name: name, from: from, to: len(buf), kind: kind})
}

// Remove takes an attribute off.
func (e *Event) Remove(name string) {
	e.attrs = slices.DeleteFunc(e.attrs, func(a attr) bool { return a.name == name })
}

// Get returns an attribute's value, or "".
func (e *Event) Get(name string) string {
	for i := range e.attrs {
		if e.attrs[i].name == name {
			return string(e.value(&e.attrs[i]))
		}
	}
	return ""
}

// Has says whether an attribute is set.
func (e *Event) Has(name string) bool {
	for i := range e.attrs {
		if e.attrs[i].name == name {
			return true
		}
	}
	return false
}

// All calls f for each attribute in order, specversion and datacontenttype included.
func (e *Event) All(f func(name string, value []byte)) {
	for i := range e.attrs {
		f(e.attrs[i].name, e.value(&e.attrs[i]))
	}
}

// Clone copies the event.
func (e *Event) Clone() *Event {
	c := &Event{attrs: append([]attr(nil), e.attrs...), buf: append([]byte(nil), e.buf...)}
	if e.Data != nil {
		c.Data = append([]byte{}, e.Data...)
	}
	return c
}

func (e *Event) value(a *attr) []byte { return e.buf[a.from:a.to] }

// valid says whether the required attributes are there.
func (e *Event) valid() bool {
	return e.Get("id") != "" && e.Get("source") != "" && e.Get("type") != "" && knownVersion(e.Get("specversion"))
}

func knownVersion(v string) bool { return v == "1.0" || v == "0.3" }

// validName says whether a name may be an attribute's: lower-case letters and digits.
func validName(name string) bool {
	return name != "" && strings.IndexFunc(name, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') }) < 0
}

package keda

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of externalscaler.proto, with its field numbers. A decoder skips what it does not know, and the last of
// several values of a field counts, as protobuf asks.

// objectRef names a ScaledObject and carries the metadata of its trigger.
type objectRef struct {
	name      string            // 1
	namespace string            // 2
	metadata  map[string]string // 3
}

// activity is IsActiveResponse.
type activity struct {
	active bool // 1
}

// specs is GetMetricSpecResponse.
type specs struct {
	all []spec // 1
}

// spec is MetricSpec. Field 2 is the target as an integer, for a KEDA that does not know field 3.
type spec struct {
	name   string  // 1
	target float64 // 3
}

// metricsRequest is GetMetricsRequest.
type metricsRequest struct {
	object objectRef // 1
	metric string    // 2
}

// values is GetMetricsResponse.
type values struct {
	all []value // 1
}

// value is MetricValue. Field 2 is the value as an integer, for a KEDA that does not know field 3.
type value struct {
	name  string  // 1
	value float64 // 3
}

var errWire = errors.New("keda: not a protobuf message")

// field is called with each field of a message that is not skipped: number and varint are those of scalars, b is that
// of strings and messages.
type field func(n protowire.Number, t protowire.Type, b []byte, scalar uint64) error

// fields walks over a message.
func fields(b []byte, each field) error {
	for len(b) > 0 {
		n, t, size := protowire.ConsumeTag(b)
		if size < 0 {
			return fmt.Errorf("%w: %w", errWire, protowire.ParseError(size))
		}
		if n > protowire.MaxValidNumber {
			return fmt.Errorf("%w: field %d is out of range", errWire, n)
		}
		b = b[size:]
		var content []byte
		var scalar uint64
		switch t {
		case protowire.BytesType:
			content, size = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			scalar, size = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			scalar, size = protowire.ConsumeFixed64(b)
		default:
			size = protowire.ConsumeFieldValue(n, t, b)
		}
		if size < 0 {
			return fmt.Errorf("%w: field %d: %w", errWire, n, protowire.ParseError(size))
		}
		if err := each(n, t, content, scalar); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

// text takes a string field.
func text(to *string, b []byte) error {
	if !utf8.Valid(b) {
		return fmt.Errorf("%w: a string is not UTF-8", errWire)
	}
	*to = string(b)
	return nil
}

func (o *objectRef) decode(b []byte) error {
	return fields(b, func(n protowire.Number, t protowire.Type, b []byte, _ uint64) error {
		if t != protowire.BytesType {
			return nil
		}
		switch n {
		case 1:
			return text(&o.name, b)
		case 2:
			return text(&o.namespace, b)
		case 3:
			return o.decodeEntry(b)
		}
		return nil
	})
}

// decodeEntry takes one pair of the map: a message with the key as field 1 and the value as field 2.
func (o *objectRef) decodeEntry(b []byte) error {
	var key, val string
	err := fields(b, func(n protowire.Number, t protowire.Type, b []byte, _ uint64) error {
		switch {
		case n == 1 && t == protowire.BytesType:
			return text(&key, b)
		case n == 2 && t == protowire.BytesType:
			return text(&val, b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if o.metadata == nil {
		o.metadata = make(map[string]string)
	}
	o.metadata[key] = val
	return nil
}

func (o *objectRef) encode(b []byte) []byte {
	b = appendText(b, 1, o.name)
	b = appendText(b, 2, o.namespace)
	for k, v := range o.metadata {
		b = appendMessage(b, 3, appendText(appendText(nil, 1, k), 2, v))
	}
	return b
}

func (a *activity) decode(b []byte) error {
	return fields(b, func(n protowire.Number, t protowire.Type, _ []byte, scalar uint64) error {
		if n == 1 && t == protowire.VarintType {
			a.active = protowire.DecodeBool(scalar)
		}
		return nil
	})
}

func (a *activity) encode(b []byte) []byte {
	if !a.active {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 1)
}

func (s *specs) decode(b []byte) error {
	return fields(b, func(n protowire.Number, t protowire.Type, b []byte, _ uint64) error {
		if n != 1 || t != protowire.BytesType {
			return nil
		}
		var one spec
		if err := decodeNumbered(b, &one.name, &one.target); err != nil {
			return err
		}
		s.all = append(s.all, one)
		return nil
	})
}

// encode writes the integer too: at least 1, because a target of 0 is none.
func (s *specs) encode(b []byte) []byte {
	for _, one := range s.all {
		b = appendMessage(b, 1, appendNumbered(one.name, max(1, whole(one.target)), one.target))
	}
	return b
}

func (r *metricsRequest) decode(b []byte) error {
	return fields(b, func(n protowire.Number, t protowire.Type, b []byte, _ uint64) error {
		switch {
		case n == 1 && t == protowire.BytesType:
			return r.object.decode(b)
		case n == 2 && t == protowire.BytesType:
			return text(&r.metric, b)
		}
		return nil
	})
}

func (r *metricsRequest) encode(b []byte) []byte {
	return appendText(appendMessage(b, 1, r.object.encode(nil)), 2, r.metric)
}

func (v *values) decode(b []byte) error {
	return fields(b, func(n protowire.Number, t protowire.Type, b []byte, _ uint64) error {
		if n != 1 || t != protowire.BytesType {
			return nil
		}
		var one value
		if err := decodeNumbered(b, &one.name, &one.value); err != nil {
			return err
		}
		v.all = append(v.all, one)
		return nil
	})
}

func (v *values) encode(b []byte) []byte {
	for _, one := range v.all {
		b = appendMessage(b, 1, appendNumbered(one.name, whole(one.value), one.value))
	}
	return b
}

// decodeNumbered takes a MetricSpec or a MetricValue, which have the same fields: a name, an integer and a float that
// wins over it when it is there.
func decodeNumbered(b []byte, name *string, number *float64) error {
	var integer int64
	var exact float64
	err := fields(b, func(n protowire.Number, t protowire.Type, b []byte, scalar uint64) error {
		switch {
		case n == 1 && t == protowire.BytesType:
			return text(name, b)
		case n == 2 && t == protowire.VarintType:
			integer = int64(scalar) //nolint:gosec // int64 on the wire is two's complement
		case n == 3 && t == protowire.Fixed64Type:
			exact = math.Float64frombits(scalar)
		}
		return nil
	})
	if *number = exact; exact == 0 {
		*number = float64(integer)
	}
	return err
}

func appendNumbered(name string, integer int64, exact float64) []byte {
	b := appendText(nil, 1, name)
	if integer != 0 {
		b = protowire.AppendTag(b, 2, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(integer)) //nolint:gosec // int64 on the wire is two's complement
	}
	if exact != 0 {
		b = protowire.AppendTag(b, 3, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, math.Float64bits(exact))
	}
	return b
}

// whole rounds up: a load is never told smaller than it is. What no int64 holds is told as its largest.
func whole(v float64) int64 {
	if v >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(math.Ceil(v))
}

func appendText(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendMessage(b []byte, n protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), m)
}

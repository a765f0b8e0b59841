package metrics

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

var errNotFinite = errors.New("number is not finite")

// Decoder reads stat messages and keeps the strings that it has met, so that a stream of reports from the same
// producers decodes without allocating. The zero value is ready. It is not safe for concurrent use: one per stream.
type Decoder struct {
	names map[string]string
}

// Stat decodes one Stat, the body of a queue-proxy's :9090/metrics, into s, replacing all of it. Unknown fields, and
// known ones of another wire type, are skipped. It returns ErrMalformed or ErrTooLarge, and then s is undefined.
func (d *Decoder) Stat(b []byte, s *Stat) error {
	*s = Stat{}
	return d.stat(b, s)
}

// Messages decodes a WireStatMessages and appends its entries to msgs. Strings do not alias b. It returns
// ErrMalformed or ErrTooLarge together with the entries before the fault.
func (d *Decoder) Messages(b []byte, msgs []Message) ([]Message, error) {
	err := eachField("WireStatMessages", b, func(num protowire.Number, typ protowire.Type, v []byte, _ uint64) error {
		if num != fieldMessages || typ != protowire.BytesType {
			return nil
		}
		msgs = append(msgs, Message{})
		if err := d.message(v, &msgs[len(msgs)-1]); err != nil {
			msgs = msgs[:len(msgs)-1]
			return err
		}
		return nil
	})
	return msgs, err
}

func (d *Decoder) message(b []byte, m *Message) error {
	return eachField("WireStatMessage", b, func(num protowire.Number, typ protowire.Type, v []byte, _ uint64) error {
		if typ != protowire.BytesType {
			return nil
		}
		switch num {
		case fieldMessageNamespace:
			return d.name("WireStatMessage", num, v, &m.Namespace)
		case fieldMessageName:
			return d.name("WireStatMessage", num, v, &m.Name)
		case fieldMessageStat:
			return d.stat(v, &m.Stat)
		}
		return nil
	})
}

// stat adds what b holds to s: protobuf merges a message field that occurs twice.
func (d *Decoder) stat(b []byte, s *Stat) error {
	return eachField("Stat", b, func(num protowire.Number, typ protowire.Type, v []byte, n uint64) error {
		switch typ {
		case protowire.Fixed64Type:
			return setDouble(s, num, math.Float64frombits(n))
		case protowire.VarintType:
			setUint(s, num, n)
		case protowire.BytesType:
			if p := stringField(s, num); p != nil {
				return d.name("Stat", num, v, p)
			}
		}
		return nil
	})
}

func setDouble(s *Stat, num protowire.Number, v float64) error {
	p := doubleField(s, num)
	if p == nil {
		return nil
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return malformed("Stat", num, errNotFinite)
	}
	*p = v
	return nil
}

func doubleField(s *Stat, num protowire.Number) *float64 {
	switch num {
	case fieldConcurrency:
		return &s.AverageConcurrency
	case fieldProxied:
		return &s.AverageProxiedConcurrency
	case fieldRequestCount:
		return &s.RequestCount
	case fieldProxiedCount:
		return &s.ProxiedRequestCount
	case fieldUptime:
		return &s.ProcessUptime
	case fieldExtQueueLength:
		return &s.Extension.QueueLength
	case fieldExtLag:
		return &s.Extension.Lag
	case fieldExtParked:
		return &s.Extension.Parked
	case fieldExtCPU:
		return &s.Extension.CPU
	case fieldExtMemory:
		return &s.Extension.Memory
	case fieldExtWork:
		return &s.Extension.WorkSeconds
	case fieldExtParallel:
		return &s.Extension.Parallel
	}
	return nil
}

func setUint(s *Stat, num protowire.Number, v uint64) {
	switch num {
	case fieldTimestamp:
		s.Timestamp = int64(v)
	case fieldExtVersion:
		s.Extension.Version = uint32(v)
	case fieldExtSequence:
		s.Extension.Sequence = v
	case fieldExtDraining:
		s.Extension.Draining = protowire.DecodeBool(v)
	}
}

func stringField(s *Stat, num protowire.Number) *string {
	switch num {
	case fieldPodName:
		return &s.PodName
	case fieldExtRevisionUID:
		return &s.Extension.RevisionUID
	case fieldExtProducer:
		return &s.Extension.Producer
	}
	return nil
}

// name stores v in dst as a string that it shares with earlier reports.
func (d *Decoder) name(message string, num protowire.Number, v []byte, dst *string) error {
	if len(v) > maxString {
		return fmt.Errorf("%w: %s field %d has %d bytes, at most %d are allowed", ErrTooLarge, message, num, len(v),
			maxString)
	}
	known, ok := d.names[string(v)]
	if !ok {
		if d.names == nil || len(d.names) >= maxNames {
			d.names = make(map[string]string)
		}
		known = string(v)
		d.names[known] = known
	}
	*dst = known
	return nil
}

// eachField calls f for each field of a message. v is the value of a bytes field, n that of a number.
func eachField(message string, b []byte,
	f func(num protowire.Number, typ protowire.Type, v []byte, n uint64) error) error {
	for len(b) > 0 {
		num, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return malformed(message, num, protowire.ParseError(size))
		}
		b = b[size:]
		var v []byte
		var n uint64
		switch typ {
		case protowire.BytesType:
			v, size = protowire.ConsumeBytes(b)
		case protowire.Fixed64Type:
			n, size = protowire.ConsumeFixed64(b)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(b)
		default:
			size = protowire.ConsumeFieldValue(num, typ, b)
		}
		if size < 0 {
			return malformed(message, num, protowire.ParseError(size))
		}
		b = b[size:]
		if err := f(num, typ, v, n); err != nil {
			return err
		}
	}
	return nil
}

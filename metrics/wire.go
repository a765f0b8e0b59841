package metrics

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of knative.dev/serving's Stat, WireStatMessage and WireStatMessages.
const (
	fieldPodName          protowire.Number = 1
	fieldConcurrency      protowire.Number = 2
	fieldProxied          protowire.Number = 3
	fieldRequestCount     protowire.Number = 4
	fieldProxiedCount     protowire.Number = 5
	fieldUptime           protowire.Number = 6
	fieldTimestamp        protowire.Number = 7
	fieldMessages         protowire.Number = 1
	fieldMessageNamespace protowire.Number = 1
	fieldMessageName      protowire.Number = 2
	fieldMessageStat      protowire.Number = 3
)

// Field numbers of the extension, in the same message. Never reuse one.
const (
	fieldExtVersion     protowire.Number = 100
	fieldExtRevisionUID protowire.Number = 101
	fieldExtProducer    protowire.Number = 102
	fieldExtSequence    protowire.Number = 103
	fieldExtQueueLength protowire.Number = 104
	fieldExtDraining    protowire.Number = 105
	fieldExtLag         protowire.Number = 106
	fieldExtParked      protowire.Number = 107
	fieldExtCPU         protowire.Number = 108
	fieldExtMemory      protowire.Number = 109
	fieldExtWork        protowire.Number = 110
	fieldExtParallel    protowire.Number = 111
)

// maxString bounds names and identities: Kubernetes' longest name is 253 bytes, so nobody honest comes near.
const maxString = 512

// maxNames bounds the strings that a Decoder keeps; beyond it, it forgets all of them and begins again.
const maxNames = 1 << 16

// Errors of the decoder. Each is wrapped with the offending field.
var (
	// ErrMalformed says that the bytes are not the protobuf message they should be, or carry a number that is not
	// finite.
	ErrMalformed = errors.New("malformed stat message")
	// ErrTooLarge says that a string is longer than any honest producer's.
	ErrTooLarge = errors.New("stat message too large")
)

// AppendStat appends the wire form of s to b and returns the longer slice. It allocates only to grow b.
//
// Zero fields are left out, as proto3 does, and the fields ascend: a Stat without an extension has the very bytes that
// Knative's producers write.
func AppendStat(b []byte, s *Stat) []byte {
	b = appendString(b, fieldPodName, s.PodName)
	b = appendDouble(b, fieldConcurrency, s.AverageConcurrency)
	b = appendDouble(b, fieldProxied, s.AverageProxiedConcurrency)
	b = appendDouble(b, fieldRequestCount, s.RequestCount)
	b = appendDouble(b, fieldProxiedCount, s.ProxiedRequestCount)
	b = appendDouble(b, fieldUptime, s.ProcessUptime)
	b = appendUint(b, fieldTimestamp, uint64(s.Timestamp))
	if s.Extension.Version == 0 {
		return b
	}
	return appendExtension(b, &s.Extension)
}

func appendExtension(b []byte, e *Extension) []byte {
	b = appendUint(b, fieldExtVersion, uint64(e.Version))
	b = appendString(b, fieldExtRevisionUID, e.RevisionUID)
	b = appendString(b, fieldExtProducer, e.Producer)
	b = appendUint(b, fieldExtSequence, e.Sequence)
	b = appendDouble(b, fieldExtQueueLength, e.QueueLength)
	b = appendUint(b, fieldExtDraining, protowire.EncodeBool(e.Draining))
	b = appendDouble(b, fieldExtLag, e.Lag)
	b = appendDouble(b, fieldExtParked, e.Parked)
	b = appendDouble(b, fieldExtCPU, e.CPU)
	b = appendDouble(b, fieldExtMemory, e.Memory)
	b = appendDouble(b, fieldExtWork, e.WorkSeconds)
	return appendDouble(b, fieldExtParallel, e.Parallel)
}

// AppendMessages appends a WireStatMessages that carries msgs to b. It allocates only to grow b.
func AppendMessages(b []byte, msgs []Message) []byte {
	for i := range msgs {
		m := &msgs[i]
		stat := sizeStat(&m.Stat)
		size := sizeString(fieldMessageNamespace, m.Namespace) + sizeString(fieldMessageName, m.Name) +
			protowire.SizeTag(fieldMessageStat) + protowire.SizeBytes(stat)
		b = protowire.AppendTag(b, fieldMessages, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(size))
		b = appendString(b, fieldMessageNamespace, m.Namespace)
		b = appendString(b, fieldMessageName, m.Name)
		b = protowire.AppendTag(b, fieldMessageStat, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(stat))
		b = AppendStat(b, &m.Stat)
	}
	return b
}

func sizeStat(s *Stat) int {
	n := sizeString(fieldPodName, s.PodName) + sizeDouble(fieldConcurrency, s.AverageConcurrency) +
		sizeDouble(fieldProxied, s.AverageProxiedConcurrency) + sizeDouble(fieldRequestCount, s.RequestCount) +
		sizeDouble(fieldProxiedCount, s.ProxiedRequestCount) + sizeDouble(fieldUptime, s.ProcessUptime) +
		sizeUint(fieldTimestamp, uint64(s.Timestamp))
	e := &s.Extension
	if e.Version == 0 {
		return n
	}
	return n + sizeUint(fieldExtVersion, uint64(e.Version)) + sizeString(fieldExtRevisionUID, e.RevisionUID) +
		sizeString(fieldExtProducer, e.Producer) + sizeUint(fieldExtSequence, e.Sequence) +
		sizeDouble(fieldExtQueueLength, e.QueueLength) +
		sizeUint(fieldExtDraining, protowire.EncodeBool(e.Draining)) + sizeDouble(fieldExtLag, e.Lag) +
		sizeDouble(fieldExtParked, e.Parked) + sizeDouble(fieldExtCPU, e.CPU) +
		sizeDouble(fieldExtMemory, e.Memory) + sizeDouble(fieldExtWork, e.WorkSeconds) +
		sizeDouble(fieldExtParallel, e.Parallel)
}

func appendString(b []byte, num protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), v)
}

func appendDouble(b []byte, num protowire.Number, v float64) []byte {
	bits := math.Float64bits(v)
	if bits == 0 {
		return b
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, num, protowire.Fixed64Type), bits)
}

func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func sizeString(num protowire.Number, v string) int {
	if v == "" {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeBytes(len(v))
}

func sizeDouble(num protowire.Number, v float64) int {
	if math.Float64bits(v) == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeFixed64()
}

func sizeUint(num protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}

func malformed(message string, num protowire.Number, err error) error {
	return fmt.Errorf("%w: %s field %d: %w", ErrMalformed, message, num, err)
}

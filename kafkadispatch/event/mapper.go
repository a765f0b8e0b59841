package event

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// KeyType says how the raw key of a record becomes text.
type KeyType string

// The key types of the label kafkasources.sources.knative.dev/key-type. Any other value means KeyString.
const (
	KeyString KeyType = "string"
	KeyInt    KeyType = "int"        // 4 bytes big endian, else as KeyString
	KeyFloat  KeyType = "float"      // 4 or 8 bytes IEEE 754 big endian, else as KeyString
	KeyBytes  KeyType = "byte-array" // base64
)

// Header is one header of a record. A nil value is Kafka's null.
type Header struct {
	Key   string
	Value []byte
}

// Record is what the mapping needs of a Kafka record.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Time      time.Time
	Key       []byte
	Value     []byte // nil is Kafka's null
	Headers   []Header
}

// Mapper turns records into events. Make one with NewMapper.
type Mapper struct {
	source    string
	keyType   KeyType
	overrides [][2]string

	mu    sync.RWMutex
	names map[string]string // header key to attribute name; guarded by mu; bounded by maxNames
}

// maxNames bounds the cache of header names, which producers choose.
const maxNames = 1024

// NewMapper makes a mapper for a source with the given namespace and name. Overrides are set on every event.
func NewMapper(namespace, name string, keyType KeyType, overrides map[string]string) (*Mapper, error) {
	m := &Mapper{
		source:  "/apis/v1/namespaces/" + namespace + "/kafkasources/" + name + "#",
		keyType: keyType, names: map[string]string{},
	}
	for k, v := range overrides {
		if !validName(k) {
			return nil, fmt.Errorf("ceOverrides.extensions: %q must be lower-case letters and digits", k)
		}
		m.overrides = append(m.overrides, [2]string{k, v})
	}
	sort.Slice(m.overrides, func(i, j int) bool { return m.overrides[i][0] < m.overrides[j][0] })
	return m, nil
}

// Map fills e from the record. A record that is a CloudEvent passes unchanged; any other gets the attributes of
// Knative's KafkaSource. Both get their partition and offset, and the overrides. e.Data is the record's value, not a
// copy, unless it was inside a structured event.
func (m *Mapper) Map(e *Event, r *Record) {
	if !m.native(e, r) {
		e.Reset()
		m.raw(e, r)
	}
	e.SetInt("knativekafkapartition", int64(r.Partition))
	e.SetInt("knativekafkaoffset", r.Offset)
	for _, o := range m.overrides {
		e.Set(o[0], o[1])
	}
}

// native reads a record that is a CloudEvent.
func (m *Mapper) native(e *Event, r *Record) bool {
	for i := range r.Headers {
		h := &r.Headers[i]
		if strings.EqualFold(h.Key, "ce_specversion") {
			return binaryRecord(e, r)
		}
		if strings.EqualFold(h.Key, "content-type") && isStructured(h.Value) {
			es, err := parseOne(r.Value)
			if err != nil {
				return false
			}
			*e = *es[0]
			return true
		}
	}
	return false
}

func binaryRecord(e *Event, r *Record) bool {
	e.Reset()
	for _, h := range r.Headers {
		key := strings.ToLower(h.Key)
		switch {
		case key == "content-type":
			e.SetBytes("datacontenttype", h.Value)
		case strings.HasPrefix(key, "ce_") && validName(key[3:]):
			e.SetBytes(key[3:], h.Value)
		}
	}
	e.Data = r.Value
	return e.valid()
}

// raw maps a record that is no CloudEvent.
func (m *Mapper) raw(e *Event, r *Record) {
	e.add("specversion", String, len(e.buf), append(e.buf, "1.0"...))
	from := len(e.buf)
	b := strconv.AppendInt(append(e.buf, "partition:"...), int64(r.Partition), 10)
	e.add("id", String, from, strconv.AppendInt(append(b, "/offset:"...), r.Offset, 10))
	e.add("type", String, len(e.buf), append(e.buf, "dev.knative.kafka.event"...))
	e.add("source", String, len(e.buf), append(append(e.buf, m.source...), r.Topic...))
	from = len(e.buf)
	b = strconv.AppendInt(append(e.buf, "partition:"...), int64(r.Partition), 10)
	e.add("subject", String, from, strconv.AppendInt(append(b, '#'), r.Offset, 10))
	e.add("time", String, len(e.buf), r.Time.UTC().AppendFormat(e.buf, time.RFC3339Nano))
	m.key(e, r.Key)
	for _, h := range r.Headers {
		if strings.EqualFold(h.Key, "content-type") {
			e.Set("datacontenttype", strings.ToLower(string(h.Value)))
			continue
		}
		// A null header becomes an empty extension: Knative's dispatcher fails on it and drops the whole poll.
		e.SetBytes(m.headerName(h.Key), h.Value)
	}
	e.Data = r.Value
}

func (m *Mapper) key(e *Event, key []byte) {
	if len(key) == 0 {
		return
	}
	from, kind, b := len(e.buf), String, e.buf
	switch {
	case m.keyType == KeyInt && len(key) == 4:
		kind, b = Integer, strconv.AppendInt(b, int64(int32(binary.BigEndian.Uint32(key))), 10)
	case m.keyType == KeyFloat && len(key) == 4:
		b = strconv.AppendFloat(b, float64(math.Float32frombits(binary.BigEndian.Uint32(key))), 'g', -1, 32)
	case m.keyType == KeyFloat && len(key) == 8:
		b = strconv.AppendFloat(b, math.Float64frombits(binary.BigEndian.Uint64(key)), 'g', -1, 64)
	case m.keyType == KeyBytes:
		b = base64.StdEncoding.AppendEncode(b, key)
	default:
		b = append(b, strings.ToValidUTF8(string(key), "\uFFFD")...)
	}
	e.add("key", kind, from, b)
	e.add("partitionkey", kind, from, b)
}

// headerName is "kafkaheader" and the letters and digits of the header's name in lower case.
func (m *Mapper) headerName(key string) string {
	m.mu.RLock()
	name, ok := m.names[key]
	m.mu.RUnlock()
	if ok {
		return name
	}
	name = "kafkaheader" + strings.Map(func(c rune) rune {
		if (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') {
			return c
		}
		return -1
	}, strings.ToLower(key))
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.names) < maxNames {
		m.names[key] = name
	}
	return name
}

package order

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// MapLimit is the longest metadata text that Encode makes unless told otherwise. Brokers refuse a commit whose
// metadata is longer than offset.metadata.max.bytes, 4096 by default; the rest is for other users of the field.
const MapLimit = 3072

// minMapLimit leaves room for the head of a map.
const minMapLimit = 64

// maxAttempts bounds the tries that a map carries: enough for every lane of a default window that is in trouble.
const maxAttempts = 256

// Range is a half-open range of offsets.
type Range struct{ From, To int64 }

// Attempt is how many tries an unfinished record has had.
type Attempt struct {
	Offset int64
	Tries  int
}

// Map is what a commit's metadata says about the offsets from Base on: those in Done are finished although a lower
// one is not. Ranges rise and do not touch.
type Map struct {
	Base     int64
	Done     []Range
	Attempts []Attempt
}

// The first byte of the metadata, before base64.
const (
	kindRuns   = 0x11
	kindBitmap = 0x12
)

var errMap = errors.New("commit metadata is not an offset map")

// Encode writes the map as text of at most limit bytes (64 or more), in runs or as a bitmap, whichever is shorter. When it does
// not fit, the highest ranges are left out (their records will be sent again after a restart) and whole is false.
// A map without anything in it is the empty text.
func (m Map) Encode(limit int) (text string, whole bool) {
	if len(m.Done) == 0 && len(m.Attempts) == 0 {
		return "", true
	}
	room := base64.RawStdEncoding.DecodedLen(max(limit, minMapLimit))
	buf := binary.AppendUvarint([]byte{kindRuns}, uint64(m.Base))
	tries := m.encodeAttempts()
	if len(buf)+len(tries)+2 > room/2 {
		tries = []byte{0}
	}
	room -= len(buf) + len(tries)
	body, covered, whole := m.encodeRuns(room)
	if span := m.span(); !whole || span/8 < int64(len(body)) {
		if bits, reach, all := m.encodeBitmap(room); reach > covered || (all && len(bits) < len(body)) {
			buf[0], body, whole = kindBitmap, bits, all
		}
	}
	buf = append(append(buf, body...), tries...)
	return base64.RawStdEncoding.EncodeToString(buf), whole
}

// span is how many offsets a bitmap has to cover.
func (m Map) span() int64 {
	if len(m.Done) == 0 {
		return 0
	}
	return m.Done[len(m.Done)-1].To - m.Base
}

// encodeRuns writes the number of ranges, then for each the distance from the end of the one before and its length.
func (m Map) encodeRuns(room int) (out []byte, covered int64, whole bool) {
	room -= binary.MaxVarintLen16 + 1
	var runs []byte
	at, n := m.Base, 0
	for _, r := range m.Done {
		was := len(runs)
		runs = binary.AppendUvarint(runs, uint64(r.From-at))
		runs = binary.AppendUvarint(runs, uint64(r.To-r.From))
		if len(runs) > room {
			runs = runs[:was]
			break
		}
		at, n = r.To, n+1
	}
	return append(binary.AppendUvarint(nil, uint64(n)), runs...), at - m.Base, n == len(m.Done)
}

func (m Map) encodeBitmap(room int) (out []byte, covered int64, whole bool) {
	covered, whole = m.span(), true
	if most := int64(room-binary.MaxVarintLen16-1) * 8; covered > most {
		covered, whole = max(0, most), false
	}
	bits := make([]byte, (covered+7)/8)
	for _, r := range m.Done {
		for i := r.From - m.Base; i < min(r.To-m.Base, covered); i++ {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	return append(binary.AppendUvarint(nil, uint64(len(bits))), bits...), covered, whole
}

func (m Map) encodeAttempts() []byte {
	list := m.Attempts[:min(len(m.Attempts), maxAttempts)]
	out := binary.AppendUvarint(nil, uint64(len(list)))
	at := m.Base
	for _, a := range list {
		out = binary.AppendUvarint(out, uint64(a.Offset-at))
		out = binary.AppendUvarint(out, uint64(a.Tries))
		at = a.Offset
	}
	return out
}

// DecodeMap reads a commit's metadata for the committed offset base. The empty text is an empty map. Metadata of
// other tools, damaged metadata and a map of another offset (somebody reset the group) are errors; the safe answer to
// each is to go on with an empty map.
func DecodeMap(text string, base int64) (Map, error) {
	m := Map{Base: base}
	if text == "" {
		return m, nil
	}
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(raw) < 2 {
		return m, errMap
	}
	d := decoder{raw: raw[1:]}
	if at := d.number(); d.bad || at != base {
		return m, fmt.Errorf("%w of offset %d", errMap, base)
	}
	switch raw[0] {
	case kindRuns:
		m.Done = d.runs(base)
	case kindBitmap:
		m.Done = d.bitmap(base)
	default:
		d.bad = true
	}
	m.Attempts = d.attempts(base)
	if d.bad || len(d.raw) != 0 {
		return Map{Base: base}, errMap
	}
	return m, nil
}

// decoder reads from raw; bad is set, and stays, when a value does not fit.
type decoder struct {
	raw []byte
	bad bool
}

func (d *decoder) number() int64 {
	v, n := binary.Uvarint(d.raw)
	if n <= 0 || v > 1<<62 {
		d.bad = true
		return 0
	}
	d.raw = d.raw[n:]
	return int64(v)
}

func (d *decoder) runs(base int64) []Range {
	n := d.number()
	if d.bad || n > int64(len(d.raw))/2 {
		d.bad = true
		return nil
	}
	var out []Range
	at := base
	for range n {
		gap, length := d.number(), d.number()
		from := at + gap
		at = from + length
		if d.bad || length == 0 || from < base || at <= from || (gap == 0 && len(out) > 0) {
			d.bad = true
			return nil
		}
		out = append(out, Range{from, at})
	}
	return out
}

func (d *decoder) bitmap(base int64) []Range {
	n := d.number()
	if d.bad || n > int64(len(d.raw)) || base > 1<<62 {
		d.bad = true
		return nil
	}
	var out []Range
	for i := range n * 8 {
		if d.raw[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		if last := len(out) - 1; last >= 0 && out[last].To == base+i {
			out[last].To++
		} else {
			out = append(out, Range{base + i, base + i + 1})
		}
	}
	d.raw = d.raw[n:]
	return out
}

func (d *decoder) attempts(base int64) []Attempt {
	n := d.number()
	if d.bad || n > maxAttempts {
		d.bad = true
		return nil
	}
	var out []Attempt
	at := base
	for range n {
		at += d.number()
		tries := d.number()
		if d.bad || at < base || tries == 0 || tries > 1<<16 {
			d.bad = true
			return nil
		}
		out = append(out, Attempt{at, int(tries)})
	}
	return out
}

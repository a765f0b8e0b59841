package forward

import "errors"

var errChunk = errors.New("malformed chunked body")

// maxSizeDigits is how many digits net/http and others take; a peer that counts differently must not be fed more.
const maxSizeDigits = 16

// maxChunkLine bounds a chunk's size line, with its extension; maxTrailer bounds the trailer section.
const (
	maxChunkLine = 4 << 10
	maxTrailer   = 16 << 10
)

// dechunker follows a chunked body and says where it ends. It validates every byte of the framing, drops chunk
// extensions, and refuses trailer fields that would change the message (framing, routing, connection). It works in
// place: what it keeps is moved to the front, never grows, and may be sent as it is.
//
// With bare set it keeps the data only, for peers that know no chunked coding. With padded set white space may stand between a
// size and its line's end: old servers pad sizes, and in an answer, which is not followed by somebody else's, it does no harm.
type dechunker struct {
	bare   bool
	padded bool
	state  chunkState
	size   int64 // data bytes left in this chunk
	n      int   // bytes of the present line or of the trailer section
	data   int64 // data bytes seen

	name    [20]byte // start of the present trailer's name, to recognize the forbidden
	nameLen int
}

type chunkState uint8

const (
	chunkStart chunkState = iota // first digit
	chunkDigits
	chunkSpace // white space before an extension
	chunkExt
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	trailerStart
	trailerName
	trailerValue
	trailerLF
	trailerEndLF
	chunkDone
)

func (d *dechunker) reset(bare bool) { *d = dechunker{bare: bare} }

// feed takes the next bytes of the body. b[:kept] is what to pass on, b[:used] was taken; used is less than len(b)
// only when the body has ended.
func (d *dechunker) feed(b []byte) (kept, used int, done bool, err error) {
	w, r := 0, 0
	for r < len(b) && d.state != chunkDone {
		if d.state == chunkData {
			n := int(min(d.size, int64(len(b)-r)))
			if w != r {
				copy(b[w:], b[r:r+n])
			}
			w, r = w+n, r+n
			d.data += int64(n)
			if d.size -= int64(n); d.size == 0 {
				d.state = chunkDataCR
			}
			continue
		}
		c := b[r]
		r++
		keep, ok := d.step(c)
		if !ok {
			return w, r, false, errChunk
		}
		if keep && !d.bare {
			b[w] = c
			w++
		}
	}
	return w, r, d.state == chunkDone, nil
}

// step takes one byte of framing. keep is false for extensions.
func (d *dechunker) step(c byte) (keep, ok bool) {
	d.n++
	switch d.state {
	case chunkStart, chunkDigits, chunkSpace, chunkExt, chunkSizeLF:
		return d.sizeLine(c)
	case chunkDataCR:
		d.state = chunkDataLF
		return true, c == '\r'
	case chunkDataLF:
		d.state, d.n = chunkStart, 0
		return true, c == '\n'
	}
	return true, d.n <= maxTrailer && d.trailer(c)
}

func (d *dechunker) sizeLine(c byte) (keep, ok bool) {
	if d.n > maxChunkLine {
		return false, false
	}
	digit, isDigit := hexDigit(c)
	switch {
	case d.state == chunkSizeLF:
		d.endOfSize()
		return true, c == '\n'
	case isDigit && d.state <= chunkDigits:
		d.state = chunkDigits
		d.size = d.size<<4 | digit
		return true, d.size < 1<<58 && d.n <= maxSizeDigits
	case d.state == chunkStart:
		return false, false
	case c == '\r' && (d.state != chunkSpace || d.padded):
		d.state = chunkSizeLF
		return true, true
	case c == ';' && d.state != chunkExt:
		d.state = chunkExt
		return false, true
	case (c == ' ' || c == '\t') && d.state != chunkExt:
		d.state = chunkSpace
		return false, true
	}
	return false, d.state == chunkExt && (c >= ' ' && c != 0x7f || c == '\t')
}

func (d *dechunker) endOfSize() {
	d.n = 0
	if d.size == 0 {
		d.state = trailerStart
		return
	}
	d.state = chunkData
}

// trailer takes one byte of the trailer section.
func (d *dechunker) trailer(c byte) bool {
	switch d.state {
	case trailerStart:
		if c == '\r' {
			d.state = trailerEndLF
			return true
		}
		d.state, d.nameLen = trailerName, 0
		return d.nameByte(c)
	case trailerName:
		if c == ':' {
			d.state = trailerValue
			return d.nameAllowed()
		}
		return d.nameByte(c)
	case trailerValue:
		if c == '\r' {
			d.state = trailerLF
			return true
		}
		return c >= ' ' && c != 0x7f || c == '\t'
	case trailerLF:
		d.state = trailerStart
		return c == '\n'
	}
	d.state = chunkDone
	return c == '\n'
}

func (d *dechunker) nameByte(c byte) bool {
	if d.nameLen < len(d.name) {
		d.name[d.nameLen] = c
	}
	d.nameLen++
	return tokens[c]
}

func (d *dechunker) nameAllowed() bool {
	if d.nameLen > len(d.name) {
		return true
	}
	k := classify(d.name[:d.nameLen])
	return k == other || k == kindContentType
}

func hexDigit(c byte) (int64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0'), true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int64(c|0x20-'a') + 10, true
	}
	return 0, false
}

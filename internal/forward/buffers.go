package forward

import (
	"math/bits"
	"sync"
)

// bigSize is the size of the buffers that bytes in motion are read into. One is held only while its bytes are
// being passed on, never while waiting for more, so that few exist: about one per running goroutine.
//
// A little more than 64 KiB lets a response of that size and its head need one read and one write.
const bigSize = 68 << 10

// smallest and largest kept buffer: heads and replayable bodies.
const (
	minKeptBits = 9
	maxKeptBits = 20
)

// buffer is pooled memory of one size class.
type buffer struct {
	b []byte
}

// buffers is memory in size classes. It is safe for concurrent use.
type buffers struct {
	big  sync.Pool
	kept [maxKeptBits - minKeptBits + 1]sync.Pool
}

func (p *buffers) getBig() *buffer {
	if v := p.big.Get(); v != nil {
		return v.(*buffer)
	}
	return &buffer{b: make([]byte, bigSize)}
}

func (p *buffers) putBig(b *buffer) { p.big.Put(b) }

// getKept returns a buffer of at least n bytes.
func (p *buffers) getKept(n int) *buffer {
	c := keptClass(n)
	if c >= len(p.kept) {
		return &buffer{b: make([]byte, n)}
	}
	if v := p.kept[c].Get(); v != nil {
		return v.(*buffer)
	}
	return &buffer{b: make([]byte, 1<<(c+minKeptBits))}
}

func (p *buffers) putKept(b *buffer) {
	if c := keptClass(len(b.b)); c < len(p.kept) && len(b.b) == 1<<(c+minKeptBits) {
		p.kept[c].Put(b)
	}
}

// keptClass returns the index of the smallest class that holds n bytes.
func keptClass(n int) int {
	if n <= 1<<minKeptBits {
		return 0
	}
	return bits.Len(uint(n-1)) - minKeptBits
}

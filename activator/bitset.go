package activator

import "math/bits"

// bitset is a set of small numbers: which pods of a list may be picked. A thousand pods are sixteen words.
type bitset []uint64

// resize makes room for n numbers, and empties the set.
func (b *bitset) resize(n int) {
	words := (n + 63) / 64
	if cap(*b) < words {
		*b = make(bitset, words)
		return
	}
	*b = (*b)[:words]
	clear(*b)
}

func (b bitset) set(i int, in bool) {
	mask := uint64(1) << (i & 63)
	if in {
		b[i>>6] |= mask
	} else {
		b[i>>6] &^= mask
	}
}

func (b bitset) has(i int) bool { return b[i>>6]&(1<<(i&63)) != 0 }

// next returns the smallest number of the set that is at least from, -1 when there is none.
func (b bitset) next(from int) int {
	at := from >> 6
	if at >= len(b) {
		return -1
	}
	word := b[at] >> (from & 63) << (from & 63)
	for word == 0 {
		if at++; at == len(b) {
			return -1
		}
		word = b[at]
	}
	return at<<6 + bits.TrailingZeros64(word)
}

// around is next, beginning again at 0 when there is none from there on.
func (b bitset) around(from int) int {
	if i := b.next(from); i >= 0 {
		return i
	}
	return b.next(0)
}

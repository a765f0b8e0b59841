package route

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// golden is 2^64 divided by the golden ratio: of all steps around a circle the one whose visits are spread most
// evenly, after any number of them (Knuth, The Art of Computer Programming 6.4, theorem S).
const golden = 0x9E3779B97F4A7C15

// sequence numbers the requests of one split. It outlives the table, so that a share is kept also when tables are
// swapped more often than requests come.
type sequence struct {
	n atomic.Uint64
	_ [56]byte // a cache line of its own: splits of other hosts count beside it
}

// next returns a point in the unit interval, as a fraction of 2^64.
func (s *sequence) next() uint64 { return s.n.Add(1) * golden }

// split divides the unit interval among backends.
type split struct {
	seq    *sequence
	bounds []uint64 // ends of the parts, rising; the last is the end of the interval
	to     []Backend
}

// newSplit takes the backends that have a weight; their sum is positive.
func newSplit(backends []Backend, seq *sequence) split {
	s := split{seq: seq}
	total := uint64(0)
	for _, b := range backends {
		total += uint64(b.Weight)
	}
	sum := uint64(0)
	for _, b := range backends {
		if b.Weight == 0 {
			continue
		}
		sum += uint64(b.Weight)
		end := uint64(math.MaxUint64)
		if sum < total {
			end, _ = bits.Div64(sum, 0, total) // sum/total of 2^64
		}
		s.bounds = append(s.bounds, end)
		s.to = append(s.to, b)
	}
	return s
}

// at returns the backend whose part holds the point.
func (s *split) at(pick uint64) *Backend {
	i := 0
	for i < len(s.bounds)-1 && pick >= s.bounds[i] {
		i++
	}
	return &s.to[i]
}

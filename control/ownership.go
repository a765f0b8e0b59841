package control

import (
	"hash/fnv"

	"github.com/rousehq/rouse/internal/identity"
)

// Buckets is an Ownership that divides revisions by a hash of their name over a fixed number of buckets, of which
// this instance holds some. A revision's bucket never changes while the number of buckets stays.
type Buckets struct {
	// Count is how many buckets there are; at least 1.
	Count int
	// Holds says whether this instance holds a bucket now, for example its lease. It is called for every decision
	// and must not block.
	Holds func(bucket int) bool
}

// Of returns the bucket of a revision.
func (b Buckets) Of(rev identity.Revision) int {
	h := fnv.New32a()
	h.Write([]byte(rev.Namespace))
	h.Write([]byte{'/'})
	h.Write([]byte(rev.Name))
	return int(h.Sum32() % uint32(max(b.Count, 1)))
}

// Owns says whether the revision's bucket is held.
func (b Buckets) Owns(rev identity.Revision) bool { return b.Holds(b.Of(rev)) }

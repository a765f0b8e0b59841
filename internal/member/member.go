// Package member decides which instance of control holds which buckets of revisions.
//
// Each instance renews a lease of its own and watches the others'. Who renews is a member; the buckets are divided over
// the members by rendezvous hashing, so that a member that comes or goes moves its own share only. Members that see
// the same leases agree without talking; for the moments in which they do not, two holders of a bucket are harmless:
// they ask for the same numbers.
//
// What it promises: time is measured by this instance's own monotonic clock, from when it saw a lease change, so that
// clocks need not agree. While this instance can't renew its own lease, it keeps the last division: the API server is
// what is gone, not the others. When it can again, the others get a full term before they are given up.
//
// Concurrency: a View is for one goroutine at a time.
package member

import (
	"hash/fnv"
	"slices"
	"time"
)

// View is what one instance knows of all.
type View struct {
	self   string
	term   time.Duration
	others map[string]sighting
	own    time.Time // last renewal of our own
	stale  bool      // our own renewal is overdue
	last   []string  // the members while it is
}

type sighting struct {
	stamp string    // of the lease; changes with each renewal
	at    time.Time // when we saw it change
}

// NewView returns the view of an instance that is alone. A member that was not seen to renew for a term is gone.
func NewView(self string, term time.Duration, now time.Time) *View {
	return &View{self: self, term: term, others: make(map[string]sighting), own: now, last: []string{self}}
}

// Renewed notes that our own lease was renewed.
func (v *View) Renewed(now time.Time) {
	v.Members(now)
	if v.stale {
		v.stale = false
		for name, s := range v.others {
			v.others[name] = sighting{s.stamp, now}
		}
	}
	v.own = now
}

// Saw notes a lease of another instance; stamp must differ from renewal to renewal. It is remembered until Gone, however long
// ago it was renewed: else it would pass for news when it is seen again.
func (v *View) Saw(name, stamp string, now time.Time) {
	if s, known := v.others[name]; name != v.self && (!known || s.stamp != stamp) {
		v.others[name] = sighting{stamp, now}
	}
}

// Gone notes that another instance gave up its lease.
func (v *View) Gone(name string) { delete(v.others, name) }

// Dead returns whose lease has not been renewed for so long. While this instance can't renew its own lease it knows of none.
func (v *View) Dead(age time.Duration, now time.Time) (names []string) {
	v.Members(now)
	for name, s := range v.others {
		if !v.stale && now.Sub(s.at) > max(age, v.term) {
			names = append(names, name)
		}
	}
	return names
}

// Members returns who is a member now, in order, this instance always among them.
func (v *View) Members(now time.Time) []string {
	if v.stale || now.Sub(v.own) > v.term {
		v.stale = true
		return slices.Clone(v.last)
	}
	all := []string{v.self}
	for name, s := range v.others {
		if now.Sub(s.at) <= v.term {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	v.last = all
	return slices.Clone(all)
}

// Holder returns the member that holds a bucket: the one whose hash together with the bucket is largest. Members must
// not be empty.
func Holder(bucket int, members []string) string {
	best, most := "", uint64(0)
	for _, m := range members {
		if w := weight(m, bucket); best == "" || w > most || w == most && m < best {
			best, most = m, w
		}
	}
	return best
}

// Closest returns n of the members, those whose hash together with the key is largest: the same for equal members, and
// a member that comes or goes changes one place at most.
func Closest(key string, members []string, n int) []string {
	h := fnv.New64a()
	h.Write([]byte(key))
	seed := int(h.Sum64() >> 1)
	all := slices.Clone(members)
	slices.SortFunc(all, func(a, b string) int {
		wa, wb := weight(a, seed), weight(b, seed)
		switch {
		case wa > wb:
			return -1
		case wa < wb:
			return 1
		}
		return 0
	})
	return all[:min(max(n, 0), len(all))]
}

func weight(member string, salt int) uint64 {
	h := fnv.New64a()
	h.Write([]byte(member))
	var b [8]byte
	for i := range b {
		b[i] = byte(uint64(salt) >> (8 * i))
	}
	h.Write(b[:])
	x := h.Sum64() // FNV's last bytes hardly reach its high bits: mix them (murmur3's finaliser)
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

package activator

import (
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/rousehq/rouse/internal/forward"
)

// AffinityBy says what names a session.
type AffinityBy uint8

// The names of a session.
const (
	NoAffinity  AffinityBy = iota
	ByCookie               // the value of a cookie that the application sets
	ByHeader               // the value of a request header
	ByOwnCookie            // the value of a cookie that the activator sets
)

// Affinity sends the requests of one session to the same pod while it can take them. A session belongs to the pod that
// rates it highest (rendezvous hashing): when pods come or go, only the sessions of these pods move. A pod that has
// a quarter more in flight than the average, or no free slot, or is ejected, is passed over for the session's next one;
// a parked request takes whichever slot is free first. Every activator comes to the same choice.
type Affinity struct {
	By AffinityBy
	// Name of the cookie or header.
	Name string
	// Attributes of an own cookie, such as "; Path=/; Max-Age=3600". HttpOnly is always added, Secure on encrypted
	// connections.
	Attributes string
}

// boundedLoad is how much of the average load a pod of a session may have (Mirrokni, Thorup and Zadimoghaddam,
// "Consistent hashing with bounded loads").
const boundedLoad = 1.25

// affine returns the free pod that rates the session highest, of those within the bound if there is one.
func (o *rotation) affine(session uint64) *pod {
	bound := int(math.Ceil(boundedLoad * float64(o.busy+1) / float64(max(1, len(o.pods)))))
	var best, over *pod
	var bestRate, overRate uint64
	for i := o.free.next(0); i >= 0; i = o.free.next(i + 1) {
		rate := mix(o.hashes[i] ^ session)
		if rate <= bestRate {
			continue
		}
		switch p := o.pods[i]; {
		case p.inFlight < bound:
			best, bestRate = p, rate
		case rate > overRate:
			over, overRate = p, rate
		}
	}
	if best == nil {
		return over
	}
	return best
}

// hashOf is FNV-1a with its bits mixed; never 0. It is the same in every process.
func hashOf[T ~string | ~[]byte](s T) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return max(1, mix(h))
}

// mix spreads each bit over all others (the finalizer of MurmurHash3, in Stafford's variant 13).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// session returns the hash of what names the request's session, 0 when nothing does. An own cookie that is missing is
// set with the response. before is the session that the request had at another revision, 0 for none: it keeps what it was
// given there, since of two cookies the client would take either.
func (a *Affinity) session(x forward.Exchange, before uint64) uint64 {
	var name []byte
	switch a.By {
	case NoAffinity:
		return 0
	case ByHeader:
		name = x.Header(a.Name)
	default:
		name = cookie(x.Header("Cookie"), a.Name)
	}
	if len(name) > 0 {
		return hashOf(name)
	}
	switch {
	case a.By != ByOwnCookie:
		return 0
	case before != 0:
		return before
	}
	return a.begin(x)
}

// begin gives the client a cookie with a random value.
func (a *Affinity) begin(x forward.Exchange) uint64 {
	value := strconv.FormatUint(rand.Uint64()|1<<63, 36)
	line := a.Name + "=" + value + a.Attributes + "; HttpOnly"
	if x.TLS() {
		line += "; Secure"
	}
	x.AddResponse("Set-Cookie", line)
	return hashOf(value)
}

// cookie returns the value of the first cookie of that name (RFC 6265, section 4.2).
func cookie(header []byte, name string) []byte {
	for len(header) > 0 {
		var pair []byte
		pair, header = cutByte(header, ';')
		for len(pair) > 0 && (pair[0] == ' ' || pair[0] == '\t') {
			pair = pair[1:]
		}
		if key, value := cutByte(pair, '='); string(key) == name {
			return value
		}
	}
	return nil
}

func cutByte(b []byte, sep byte) (before, after []byte) {
	for i, c := range b {
		if c == sep {
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

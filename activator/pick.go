package activator

import "math/rand/v2"

// Revisions with a small limit pack their first pods, so that idle ones stay idle and can go; Knative draws the line
// at the same limit.
const firstFreeLimit = 3

// pick returns a pod with a free slot, nil when there is none. The caller holds the revision's lock.
//
// A limit of 1 to 3 takes the first free pod, above it goes round robin, and without a limit two random pods are
// compared by what they have in flight ("power of two choices").
func (r *revision) pick() *pod {
	switch limit := r.settings.Load().ContainerConcurrency; {
	case limit == 0:
		return r.pickTwoChoices()
	case limit <= firstFreeLimit:
		return r.pickFrom(0)
	default:
		p := r.pickFrom(r.turn)
		if p != nil {
			r.turn = p.index + 1
		}
		return p
	}
}

// pickFrom scans all pods once, beginning at start, for one with a free slot.
func (r *revision) pickFrom(start int) *pod {
	n := len(r.ready)
	for i := range n {
		p := r.ready[(start+i)%n]
		if p.free() {
			return p
		}
	}
	return nil
}

func (r *revision) pickTwoChoices() *pod {
	n := len(r.ready)
	if n == 0 {
		return nil
	}
	a := r.ready[rand.IntN(n)]
	b := r.ready[rand.IntN(n)]
	if !a.free() || b.free() && b.inFlight < a.inFlight {
		a = b
	}
	if a.free() {
		return a
	}
	return r.pickFrom(0)
}

// free reports that the pod may be given a request.
func (p *pod) free() bool { return p.inFlight < p.limit && !p.ejected }

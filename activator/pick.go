package activator

// This file is fast on purpose: a pod is picked under the revision's lock. Budget: a request's whole turn, in and out,
// costs the same at 1,000 pods as at 100. BenchmarkPick has the scan beside the bitsets that replaced it, which at 1,000
// busy pods took sixty times as long. Nothing is allocated.

import "math/rand/v2"

// Revisions with a small limit pack their first pods, so that idle ones stay idle and can go; Knative draws the line
// at the same limit.
const firstFreeLimit = 3

// The rotations of a revision.
const (
	all  = iota // every pod that is ready
	near        // those of them in the activator's zone; empty without a preference
	rotations
)

// rotation is a list of pods that are picked from. Guarded by the revision's lock.
type rotation struct {
	pods   []*pod
	free   bitset   // by place in pods: has a free slot, and is not ejected
	hashes []uint64 // by place in pods: of the UIDs
	turn   int      // where round robin resumes
	busy   int      // requests in flight in these pods
}

// pick returns a pod with a free slot, nil when there is none. session is 0 without affinity. The caller holds the
// revision's lock.
func (r *revision) pick(session uint64) *pod {
	limit := r.settings.Load().ContainerConcurrency
	if session != 0 {
		return r.rotations[all].affine(session)
	}
	if r.staysNear() {
		if p := r.rotations[near].pick(limit); p != nil {
			return p
		}
	}
	return r.rotations[all].pick(limit)
}

// staysNear reports that the own zone's pods are to be tried first.
func (r *revision) staysNear() bool {
	n, a := &r.rotations[near], &r.rotations[all]
	others := len(a.pods) - len(n.pods)
	if len(n.pods) == 0 || others == 0 {
		return false
	}
	spill := r.settings.Load().Zone.Spill
	// With the request in question counted on both sides, so that idle pods compare as equally loaded.
	here := float64(n.busy+1) / float64(len(n.pods))
	there := float64(a.busy-n.busy+1) / float64(others)
	return spill == 0 || here <= spill*there
}

// pick takes the first free pod of a revision with a limit of 1 to 3, goes round robin above, and without a limit
// compares two random pods by what they have in flight ("power of two choices").
func (o *rotation) pick(limit int) *pod {
	switch {
	case len(o.pods) == 0:
		return nil
	case limit == 0:
		return o.lighterOfTwo()
	case limit <= firstFreeLimit:
		return o.at(o.free.next(0))
	default:
		i := o.free.around(o.turn)
		o.turn = i + 1
		return o.at(i)
	}
}

func (o *rotation) at(i int) *pod {
	if i < 0 {
		return nil
	}
	return o.pods[i]
}

// lighterOfTwo draws two free pods; one that is not free stands for the next that is.
func (o *rotation) lighterOfTwo() *pod {
	a := o.at(o.free.around(rand.IntN(len(o.pods))))
	b := o.at(o.free.around(rand.IntN(len(o.pods))))
	if a != nil && b.inFlight < a.inFlight {
		return b
	}
	return a
}

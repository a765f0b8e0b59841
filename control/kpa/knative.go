package kpa

import "math"

// What Knative's own activators and autoscaler do with many pods and proxies. Rouse's activators share all pods by
// leases instead; these functions say what a Knative component beside them will do in a mixed installation, and serve the
// simulator and the tests.

// SampleSize is how many of n pods Knative's autoscaler scrapes to estimate the load of all of them.
func SampleSize(n int) int {
	if n <= 3 {
		return max(n, 0)
	}
	// A 95 % confidence interval of one standard deviation's half, for a finite population.
	const z2 = 15.3664
	return int(math.Ceil(float64(n) * z2 / (float64(n) + z2 - 1)))
}

// PodSlice is the part of a revision's pods, sorted by address, that one Knative activator uses: those from Begin up to
// End and, of the Remnants at the tail, the one with the activator's number.
type PodSlice struct {
	Begin, End, Remnants int
}

// SlicePods gives activator number index of activators its part of n pods.
func SlicePods(n, index, activators int) PodSlice {
	if activators > n {
		begin := index % n
		return PodSlice{Begin: begin, End: begin + 1}
	}
	size := n / activators
	return PodSlice{Begin: index * size, End: (index + 1) * size, Remnants: n % activators}
}

// AssignPods returns the numbers of the pods that activator number index uses. An activator that does not know its
// number (-1), is alone, or shares a single pod uses all.
func AssignPods(n, index, activators int) []int {
	if index < 0 || activators <= 1 || n <= 1 {
		index, activators = 0, 1
	}
	if n <= 0 {
		return nil
	}
	s := SlicePods(n, index, activators)
	assigned := make([]int, 0, s.End-s.Begin+1)
	for i := s.Begin; i < s.End; i++ {
		assigned = append(assigned, i)
	}
	if index < s.Remnants {
		assigned = append(assigned, n-s.Remnants+index)
	}
	return assigned
}

// unlimited is what Knative counts as the capacity of pods without a limit.
const unlimited = math.MaxInt32

// ActivatorCapacity is how many requests one Knative activator lets through at once to pods with that concurrency
// limit: by the pods assigned to it, or, when it knows only the Service's address (assigned 0), by its share of the
// ready backends.
func ActivatorCapacity(limit, assigned, backends, activators int) int {
	switch {
	case limit == 0 && backends > 0:
		return unlimited
	case assigned > 0:
		return limit * assigned
	case backends > 0:
		return max(1, limit*backends/max(1, activators))
	}
	return 0
}

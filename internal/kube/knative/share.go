package knative

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/rousehq/rouse/internal/endpoint"
)

// Share says how many requests the activator self may have in flight in each pod, so that the activators of a revision
// together keep to a pod's limit without talking to each other. nil means no division: there is no limit, or self is
// not, or alone, among the activators.
//
// Pods that are ready are dealt out among themselves, so that each activator has a part of them whatever else starts.
// Pods that start are dealt out apart: that part is worth something once a pod answers before Kubernetes calls it ready,
// and nothing when it never does. Which pod has answered is no ground to deal again: an activator knows that of its own
// questions alone, and two that deal from different lists give a pod more than its limit.
func Share(pods []endpoint.Endpoint, activators []netip.Addr, self netip.Addr, limit int) map[string]int {
	index := slices.Index(activators, self)
	if limit == 0 || index < 0 || len(activators) < 2 {
		return nil
	}
	ready := func(e endpoint.Endpoint) bool { return e.State == endpoint.Ready }
	starts := func(e endpoint.Endpoint) bool { return !ready(e) }
	grants := deal(slices.DeleteFunc(slices.Clone(pods), starts), index, len(activators), limit)
	maps.Copy(grants, deal(slices.DeleteFunc(slices.Clone(pods), ready), index, len(activators), limit))
	return grants
}

// deal gives the activator of that index, of a, its part of pods, which it sorts.
//
// The pods stand in the order of their addresses and are dealt out in turn. With as many pods as activators, or more,
// each has whole pods; with fewer, several share one and its limit. A pod has fewer slots than sharers when the limit is
// small: then each has one, because a request at an activator without any slot would never end, and the pod's
// queue-proxy holds the limit.
func deal(pods []endpoint.Endpoint, index, a, limit int) map[string]int {
	slices.SortFunc(pods, func(a, b endpoint.Endpoint) int {
		return cmp.Or(a.Pod.Addr.Compare(b.Pod.Addr), cmp.Compare(a.Pod.UID, b.Pod.UID))
	})
	grants := map[string]int{}
	n := len(pods)
	if n == 0 {
		return grants
	}
	if a <= n {
		for i := index; i < n; i += a {
			grants[pods[i].Pod.UID] = limit
		}
		return grants
	}
	pod := index % n
	sharers := (a - pod + n - 1) / n // activators pod, pod+n, pod+2n, …
	place := index / n
	slots := limit / sharers
	if place < limit%sharers {
		slots++
	}
	grants[pods[pod].Pod.UID] = max(1, slots)
	return grants
}

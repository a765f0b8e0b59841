package knative

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/rousehq/rouse/internal/endpoint"
)

// Share says how many requests the activator self may have in flight in each pod, so that the activators of a revision
// together keep to a pod's limit without talking to each other. nil means no division: there is no limit, or self is
// not, or alone, among the activators.
//
// The pods stand in the order of their addresses and are dealt out in turn. With as many pods as activators, or more,
// each has whole pods; with fewer, several share one and its limit. A pod has fewer slots than sharers when the limit is
// small: then each has one, because a request at an activator without any slot would never end, and the pod's
// queue-proxy holds the limit.
func Share(pods []endpoint.Endpoint, activators []netip.Addr, self netip.Addr, limit int) map[string]int {
	index := slices.Index(activators, self)
	if limit == 0 || index < 0 || len(activators) < 2 {
		return nil
	}
	sorted := slices.Clone(pods)
	slices.SortFunc(sorted, func(a, b endpoint.Endpoint) int {
		return cmp.Or(a.Pod.Addr.Compare(b.Pod.Addr), cmp.Compare(a.Pod.UID, b.Pod.UID))
	})
	grants := map[string]int{}
	n, a := len(sorted), len(activators)
	if n == 0 {
		return grants
	}
	if a <= n {
		for i := index; i < n; i += a {
			grants[sorted[i].Pod.UID] = limit
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
	grants[sorted[pod].Pod.UID] = max(1, slots)
	return grants
}

// Package endpoint says where the pods of a revision can be reached, as versioned snapshots and deltas.
//
// A source of pods (local processes, EndpointSlices) owns a [Book] and publishes changes; the activator and the
// control loop subscribe. Per revision, versions grow by one with each change. A subscriber first gets a snapshot,
// then every delta in order, without gaps; [Apply] refuses a delta that does not fit.
package endpoint

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rousehq/rouse/internal/identity"
)

// Protocol is what an endpoint speaks.
type Protocol uint8

// The protocols of an endpoint.
const (
	H1  Protocol = iota // HTTP/1.1 in clear text
	H2C                 // HTTP/2 with prior knowledge, in clear text
	TLS                 // TLS; HTTP/2 or HTTP/1.1 by ALPN
)

// String returns the protocol's name as configuration and logs write it.
func (p Protocol) String() string { return [...]string{"h1", "h2c", "tls"}[p] }

// State is where a pod stands in its life.
type State uint8

// The states of an endpoint. Only Ready ones may be given new requests.
const (
	Starting State = iota // exists, has not answered its probe yet
	Ready                 // answers its probe
	Draining              // finishes what it has, takes nothing new
)

// String returns the state's name as logs write it.
func (s State) String() string { return [...]string{"starting", "ready", "draining"}[s] }

// Endpoint is one pod as its callers see it.
type Endpoint struct {
	Pod      identity.Pod
	Protocol Protocol
	State    State
	// Sidecar is true when a queue-proxy stands in front of the application, so that the pod itself enforces its
	// limit and reports its own load.
	Sidecar bool
	// Zone is the failure domain, empty when unknown.
	Zone string
	// Held says of a pod that is Starting that only its source can tell when it is ready: it counts as one that exists, nobody
	// asks it, and it need not have an address.
	Held bool
}

// Snapshot is every endpoint of a revision at one version, ordered by pod UID. It is immutable.
type Snapshot struct {
	Revision  identity.Revision
	Version   uint64
	Endpoints []Endpoint
}

// Count returns how many endpoints are in the given state.
func (s Snapshot) Count(state State) int {
	n := 0
	for i := range s.Endpoints {
		if s.Endpoints[i].State == state {
			n++
		}
	}
	return n
}

// Delta turns the snapshot of version Version-1 into that of Version.
type Delta struct {
	Revision identity.Revision
	Version  uint64
	Upserted []Endpoint
	Removed  []string // pod UIDs
}

// Update is what a subscriber receives: the snapshot after the change, and the change. The first update of a
// subscription has an empty delta.
type Update struct {
	Snapshot Snapshot
	Delta    Delta
}

// ErrGap reports a delta that does not follow its snapshot; the remedy is to take a fresh snapshot.
var ErrGap = errors.New("endpoint delta does not follow the snapshot")

// Apply returns the snapshot after d. It fails with ErrGap when d is of another revision or not the next version.
func Apply(s Snapshot, d Delta) (Snapshot, error) {
	if d.Revision != s.Revision || d.Version != s.Version+1 {
		return s, fmt.Errorf("%w: have %s version %d, got %s version %d", ErrGap, s.Revision, s.Version, d.Revision, d.Version)
	}
	next := make([]Endpoint, 0, len(s.Endpoints)+len(d.Upserted))
	for _, e := range s.Endpoints {
		replaced := slices.ContainsFunc(d.Upserted, func(u Endpoint) bool { return u.Pod.UID == e.Pod.UID })
		if !replaced && !slices.Contains(d.Removed, e.Pod.UID) {
			next = append(next, e)
		}
	}
	next = append(next, d.Upserted...)
	slices.SortFunc(next, func(a, b Endpoint) int { return strings.Compare(a.Pod.UID, b.Pod.UID) })
	return Snapshot{Revision: s.Revision, Version: d.Version, Endpoints: next}, nil
}

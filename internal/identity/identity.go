// Package identity names the things that every part of Rouse talks about: revisions and pods.
//
// Names, addresses and ports are reused; UIDs are not. Whoever stores state about a revision or a pod keys it by
// the types of this package, so that a deleted and re-created object never inherits the state of the old one. The
// same identities are used by local processes, by Kubernetes and inside Knative.
//
// All types are plain comparable values: safe to copy, to use as map keys and to share.
package identity

import "net/netip"

// Revision identifies one immutable version of a service.
type Revision struct {
	Namespace string
	Name      string
	// UID guards against the reuse of a name. It is empty only for a revision that was named by a peer which knows
	// no UIDs (Knative's stats messages, the Knative-Serving-Revision header).
	UID string
	// Generation counts the versions of the object that the revision was made from.
	Generation int64
}

// Key is a revision's name without its UID: what people type and what Knative's wire formats carry.
type Key struct {
	Namespace string
	Name      string
}

// Key returns the revision's namespace and name.
func (r Revision) Key() Key { return Key{r.Namespace, r.Name} }

// String returns "namespace/name".
func (r Revision) String() string { return r.Namespace + "/" + r.Name }

// String returns "namespace/name".
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Pod identifies one running instance of a revision.
type Pod struct {
	// UID guards against the reuse of an address and port.
	UID string
	// Addr is where the pod's queue-proxy listens, or the application when the pod has none.
	Addr netip.AddrPort
}

// String returns the pod's UID and address, for logs.
func (p Pod) String() string { return p.UID + "@" + p.Addr.String() }

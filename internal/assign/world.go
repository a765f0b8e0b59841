package assign

import (
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

// Revision is everything about a revision but its endpoints that an activator needs. It is immutable once handed over.
type Revision struct {
	ID identity.Revision
	// Shard is who owns it: see [Server.Own]. 0 when one instance owns everything.
	Shard int
	// Service and Configuration are labels of metrics.
	Service, Configuration string
	Settings               Settings
	// Ports are listening ports that lead to this revision alone, whatever host is asked for: where a Kubernetes
	// Service's endpoints point while the revision sleeps. A port belongs to one revision; of two that claim it the one
	// whose name comes first has it.
	Ports []uint16
}

// Settings are the data plane's values of a revision.
type Settings struct {
	// ContainerConcurrency is a pod's limit of requests in flight, 0 for none. Above 0 its slots are leased.
	ContainerConcurrency int `json:"containerConcurrency,omitempty"`
	// QueueLimit bounds the parked requests per activator.
	QueueLimit int `json:"queueLimit,omitempty"`
	// QueueDeadline is how long a request may be parked.
	QueueDeadline time.Duration `json:"queueDeadline,omitempty"`
	// Timeout bounds a whole request, ResponseStartTimeout the time to its first byte, IdleTimeout the time without any.
	// 0 is no bound.
	Timeout              time.Duration `json:"timeout,omitempty"`
	ResponseStartTimeout time.Duration `json:"responseStartTimeout,omitempty"`
	IdleTimeout          time.Duration `json:"idleTimeout,omitempty"`
	// Dispatching is how pods are chosen beyond their limits.
	Dispatching config.Dispatching `json:"dispatching,omitzero"`
}

// Routes are the routes and fixed answers that belong together, such as those of one service. They come and go as one.
type Routes struct {
	// Name identifies them among all; tables are built in the order of names. A good one is "namespace/service".
	Name string
	// Shard is who owns them, as with revisions.
	Shard int
	route.Config
}

// ActivatorState is one activator as control sees it.
type ActivatorState struct {
	// Name, Addr and Zone are what the activator says of itself. Addr is where requests reach it, as HOST:PORT.
	Name, Addr, Zone string
	// Instance tells this process from a former one of the same name.
	Instance string
	// Version is the activator's build, for people.
	Version string
	// Connected is false for one whose stream broke and whose leases have not run out yet.
	Connected bool
	// Ready is true once it has taken over everything and serves: send no new requests before.
	Ready bool
	// Draining is true once it said that it will end: new requests should go elsewhere.
	Draining bool
	// Ports tells what became of each listening port: empty for one that is open, else why it is not.
	Ports map[uint16]string
}

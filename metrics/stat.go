package metrics

import "github.com/rousehq/rouse/internal/identity"

// Stat is one report of one producer about one revision. The fields up to Timestamp are Knative's and mean what they
// mean there; Extension is ours and is empty in what Knative sends.
type Stat struct {
	// PodName is the reporting pod: a pod of the revision, or the activator.
	PodName string
	// AverageConcurrency is the time-weighted number of requests in flight in the reporting period. A queue-proxy
	// counts all requests, the proxied ones too.
	AverageConcurrency float64
	// AverageProxiedConcurrency is the part of AverageConcurrency that came through an activator, which reports it
	// as well: the control loop subtracts it once.
	AverageProxiedConcurrency float64
	// RequestCount is how many requests arrived per second of the reporting period.
	RequestCount float64
	// ProxiedRequestCount is the part of RequestCount that came through an activator.
	ProxiedRequestCount float64
	// ProcessUptime is how long the reporting process has been running, in seconds.
	ProcessUptime float64
	// Timestamp is when the period ended, in Unix seconds at the producer. Receivers use their own clock.
	Timestamp int64
	// Extension is what Rouse's producers add.
	Extension Extension
}

// ExtensionVersion is the version of Extension that this package writes. A reader takes the fields it knows from any
// version: fields are only ever added.
const ExtensionVersion = 1

// Extension carries what Knative's message has no room for, in field numbers from 100 on, which Knative skips.
type Extension struct {
	// Version is ExtensionVersion of the producer; 0 says that there is no extension and the rest is zero.
	Version uint32
	// RevisionUID guards against a revision that was deleted and made again under the same name.
	RevisionUID string
	// Producer identifies the reporting process, unique over its life: a restarted process is another producer.
	Producer string
	// Sequence grows by one with each report of a producer about a revision, from 1 on: a receiver drops what it has
	// seen and knows what it has missed.
	Sequence uint64
	// QueueLength is how many requests wait in the producer for a slot, at the end of the period.
	QueueLength float64
	// Draining says that the producer takes no new requests.
	Draining bool
	// Lag is how many records wait in the source of an event consumer.
	Lag float64
	// Parked is how many requests an activator holds because no pod is ready, at the end of the period. They are part
	// of AverageConcurrency.
	Parked float64
	// CPU is what the pod uses, in cores, averaged over the period.
	CPU float64
	// Memory is what the pod holds, in bytes.
	Memory float64
	// WorkSeconds is how long a request took in the application, averaged over those that ended in the period; 0 when
	// none did.
	WorkSeconds float64
	// Parallel is how many requests to the revision an event source could have under way at once: partitions or lanes
	// with work. Those of several sources add up. 0 says that it is not known, not that there is no work.
	Parallel float64
}

// Message is a Stat addressed to a revision: one entry of Knative's WireStatMessages.
type Message struct {
	Namespace string
	Name      string
	Stat      Stat
}

// Key returns the revision's namespace and name.
func (m *Message) Key() identity.Key { return identity.Key{Namespace: m.Namespace, Name: m.Name} }

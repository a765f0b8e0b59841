package activator

import (
	"time"

	"github.com/rousehq/rouse/internal/forward"
)

// Settings are the live values of one revision. A Settings is immutable.
type Settings struct {
	// ContainerConcurrency is a pod's limit of requests in flight, 0 for none.
	ContainerConcurrency int
	// QueueLimit bounds the parked requests of the revision.
	QueueLimit int
	// QueueDeadline is how long a request may be parked.
	QueueDeadline time.Duration
	// QueueTimeout says that QueueDeadline is the request's own timeout: who was parked so long is answered 504, as
	// behind Knative's activator, and not 503 with Retry-After.
	QueueTimeout bool
	// Timeouts count from dispatch, never while parked.
	Timeouts forward.Timeouts

	// Probe asks pods whether they are ready before their source says so. Off by default.
	Probe Probe
	// Outlier leaves pods alone that keep failing. Off by default.
	Outlier Outlier
	// Affinity sends requests of one session to the same pod. Off by default.
	Affinity Affinity
	// Zone prefers pods of the activator's own zone (Config.Zone). Off by default.
	Zone ZonePreference
}

// ZonePreference picks pods of the activator's zone first, as long as one of them has a free slot. Session affinity
// goes before it.
type ZonePreference struct {
	On bool
	// Spill is how many times as loaded as the others a pod of the own zone may be, on average, before others are
	// picked although it has a free slot; 0 for no such bound. Pods without a limit always have a free slot, so that
	// only Spill takes their load to other zones.
	Spill float64
}

// Outlier says when a pod counts as broken. The zero value switches ejection off.
type Outlier struct {
	// Failures is how many requests in a row must fail: no connection, a reset, a malformed or cut answer, none in
	// time, or a status of 502, 503 or 504. 0 switches ejection off.
	Failures int
	// First is how long a pod is left alone the first time, default 10 s; the time doubles with each further time, up
	// to Most, default 5 min. It starts over when the pod went as long without being ejected.
	First, Most time.Duration
	// Share is the largest part of the ready pods that may be ejected at a time, default 0.5; it allows one of
	// several, and never the last.
	Share float64
}

func (o Outlier) withDefaults() Outlier {
	if o.First <= 0 {
		o.First = 10 * time.Second
	}
	if o.Most <= 0 {
		o.Most = 5 * time.Minute
	}
	if o.Share <= 0 {
		o.Share = 0.5
	}
	return o
}

package kpa

import "time"

// Sample is the windowed load of one metric over the whole revision, not per pod.
type Sample struct {
	// Stable and Panic are the averages of the two windows.
	Stable float64
	Panic  float64
	// Present is false when there was no data in the stable window. A caller that has nothing to collect from
	// (target burst capacity -1, where every request is reported by an activator) passes zeros as present.
	Present bool
	// Partial says that there may be load besides, of which nobody tells now: the sample may ask for more pods, not for
	// fewer.
	Partial bool
}

// Reachability says whether a route leads to the revision. Without one, bounds and rates that keep pods are ignored.
type Reachability uint8

// The reachabilities.
const (
	ReachabilityUnknown Reachability = iota // treated as reachable
	Reachable
	Unreachable
)

// String returns the name as Knative writes it.
func (r Reachability) String() string { return [...]string{"unknown", "reachable", "unreachable"}[r] }

// ProbeResult is the answer to "does the public address lead to an activator": nothing may lose its last pod before.
type ProbeResult uint8

// The probe results.
const (
	ProbeUnknown ProbeResult = iota // not asked yet: the decision asks for a probe
	ProbeOK                         // an activator answered
	ProbeFailed                     // something else did, or nothing
)

// Path is who carries the traffic to the revision, as acknowledged, not as wished.
type Path struct {
	// ProxiedSince is since when every request comes through an activator; zero while some may not.
	ProxiedSince time.Time
	// Activators is how many activators are ready to carry traffic.
	Activators int
	// Probe is the last answer of the public address.
	Probe ProbeResult
	// Stale says that there is no answer from an activator that is young enough to let the last pod go by: it is asked for
	// again in that moment. A caller that knows it to be lasting, as Knative believes it to be, leaves it false.
	Stale bool
}

// Startup is what was learnt about the revision for drain-aware bursts; zero values are "not learnt yet".
type Startup struct {
	// Base is how long one pod takes from being asked for to being ready.
	Base time.Duration
	// PerPod is by how much each further pod that starts at the same time comes later.
	PerPod time.Duration
	// Work is how long the application works on a request.
	Work time.Duration
	// LeastWork is the shortest that a report showed since the burst began, 0 for none: on a shared machine the rest of
	// Work is waiting for the CPU, which more pods do not shorten.
	LeastWork time.Duration
	// Unanswered says that no request has been answered yet: Work is how long the first ready pod has been at it.
	Unanswered bool
	// OldestStarting is how long ago the oldest of the starting pods was asked for.
	OldestStarting time.Duration
	// Flowing says that a pod of the present rise is ready: from here on one follows every PerPod.
	Flowing bool
	// AtOnce is how many pods the machine that all of them share can start at the same time without one delaying the
	// other, such as twice its cores; 0 when they have many machines.
	AtOnce int
	// Pace is after how long one more may be started beyond those, whatever is ready; 0 means 5 ms, about what a machine
	// needs to start a small process.
	Pace time.Duration
}

// Observation is what is seen of a revision at one instant.
type Observation struct {
	// Ready is how many pods are ready and not terminating, Starting how many exist and are not ready yet, and
	// Terminating how many finish what they have.
	Ready       int
	Starting    int
	Terminating int
	// Replicas is how many pods the scale target is set to.
	Replicas int
	// Metrics are the loads by Metric. Those without a target in the policy only tell whether there is any load.
	Metrics [NumMetrics]Sample
	// Reachability says whether a route leads here.
	Reachability Reachability
	// Path is who carries the traffic.
	Path Path
	// InFlight is how many requests are in the system this instant, the parked ones too: a burst is drained from here.
	InFlight float64
	// Startup is what was learnt about the revision.
	Startup Startup
	// Ceiling is how many requests event sources could have under way at once, 0 when nobody tells: more pods than they
	// can keep busy are of no use to them.
	Ceiling float64
	// Floor is the least number of pods that a schedule asks for now.
	Floor int
}

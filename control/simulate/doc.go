// Package simulate plays a load against a scaling policy in virtual time: what would have happened to pods, queue and
// latency, without waiting for it.
//
// [Run] takes a [Config]: a load (a curve, a shape, or a recording of a real run), a model of the service (work time,
// start-up time, limit) and a policy, and returns a [Report]. The decisions are made by control/kpa on windows of
// package metrics, as in the real loop: a sample each second, a decision each two seconds and at once when demand meets
// no pod. The same seed gives the same report, to the byte.
//
// The model: one FIFO queue in front of the pods, bounded and with a deadline; the pod with the fewest requests in
// flight takes the next one; a pod asked for becomes ready after its start-up time and later the more others are starting;
// a pod that goes finishes what it has. The network takes no time, and a pod's speed does not depend on its load.
//
// Run allocates no more per request than the queue needs, and does a day with a million requests in less than two
// seconds. Everything is safe for concurrent use by callers that do not share a Config's slices while changing them;
// [Recorder] has its own lock.
package simulate

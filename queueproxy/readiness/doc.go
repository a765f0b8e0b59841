// Package readiness runs an application's readiness probes in place of kubelet, from the JSON that Knative hands its
// queue-proxy: one Kubernetes Probe, or a list of them for several containers.
//
// Promises: callers that ask at the same time share one run. A probe with periodSeconds 0 is patient: it is tried until
// it succeeds, for up to 10 s, so that whoever asks learns of the start the moment that it happens; any other asks the
// application once, and waits for that until it listens, within the probe's own timeout. A pod is ready when every probe
// succeeds.
//
// Kubelet acts on periods, initial delays and failure thresholds, by when it asks the queue-proxy and what it makes of the
// answers. With [Config].Paced it asks each second, whatever the probe's period is, so that it hears of a start soon; and a
// Prober sees to it that an application which is ready is asked no more often than its probe says, and fails as late.
//
// It does not run commands: an exec probe stays with kubelet, which runs it in the
// application's container, and counts here as a connection to the application's port.
//
// A [Prober] is safe for concurrent use and holds no connection between probes.
package readiness

// Package readiness runs an application's readiness probes in place of kubelet, from the JSON that Knative hands its
// queue-proxy: one Kubernetes Probe, or a list of them for several containers.
//
// Promises: callers that ask at the same time share one run. A probe with periodSeconds 0 is patient: it is tried until
// it succeeds, for up to 10 s, so that whoever asks learns of the start the moment that it happens; any other asks the
// application once, and waits for that until it listens, within the probe's own timeout. A pod is ready when every probe
// succeeds.
//
// It does not act on periods, initial delays and failure thresholds: kubelet does, by when it asks the queue-proxy and
// what it makes of the answers. It does not run commands: an exec probe stays with kubelet, which runs it in the
// application's container, and counts here as a connection to the application's port.
//
// A [Prober] is safe for concurrent use and holds no connection between probes.
package readiness

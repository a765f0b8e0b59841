// Package inject puts the queue-proxy into pods: one pure, idempotent function on a pod's manifest, which `rouse inject`
// runs over files and the webhook over the pods that the cluster makes.
//
// What it promises:
//   - Injecting twice is injecting once. In files a sidecar that is there is brought to what the annotations and options say
//     now, and keeps what somebody else has added to it. A pod that has one is left alone: see [Pod].
//   - The queue-proxy is the last native sidecar (an init container with restartPolicy Always): it starts before the
//     application without waiting for it, and ends after it. It has no start-up probe.
//   - The pod is ready when the queue-proxy says so, which asks what the application's own readiness probe asked. That
//     probe moves into the sidecar's environment; exec probes, other containers' probes, liveness and start-up probes stay
//     with kubelet as they were.
//   - The application's preStop hook waits until the queue-proxy has drained, and the grace period is long enough for that.
//   - Of a file, only the documents with an opted-in workload change; every other byte stays. In a document that changes
//     comments stay, blank lines and indentation are the encoder's, and aliases are written out. What is written is read again
//     and compared: values stay what they were, or it is an error.
//   - A workload that is opted out loses what an earlier injection of its manifest put in, its grace period apart.
//   - Every fault is reported at once, with file, line, field and the remedy. A document with a fault is left alone.
//
// What it does not: talk to a cluster, or look at Services. Nothing keeps clients inside the cluster from the application's
// own port on the pod's address; a NetworkPolicy does (see internal/render).
//
// Concurrency: values only.
package inject

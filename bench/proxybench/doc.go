// Package proxybench compares HTTP sidecar proxies on this machine: ours, Knative's queue-proxy, HAProxy, nginx and the
// standard library's, all in one run.
//
// # How it measures
//
// Each contender runs as a process of its own, pinned to one core; the load generator and the backend share another.
// Each has a network namespace of its own where that is allowed, so that fixed ports collide with nothing. Scenarios
// are interleaved, A B C A B C, and figures are medians over rounds, so that a machine that slows down slows everybody
// down. CPU per request is the process's time on a core, by its CPU clock, divided by answers: it holds on noisy
// machines, where requests per second do not.
//
// # What it promises
//
// Before anything is measured, our own binaries pass a fidelity check and show their effective configuration; a
// binary with its limit, metrics, timeouts, Forwarded header, client-gone watch or drain off is refused, because its
// figures would flatter. Every row carries the contender's version and its binary's hash. The run is bounded in time,
// and no process outlives it. Linux only.
//
// # What it does not do
//
// It does not tune rivals beyond what their users do in front of one backend: one thread, keep-alive on both sides,
// X-Forwarded-For. It measures no TLS and no HTTP/2.
//
// [Main] must be called once at a time: it pins the threads of its process.
package proxybench

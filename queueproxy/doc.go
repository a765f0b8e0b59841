// Package queueproxy is the sidecar in front of one application: it admits requests up to the revision's limit,
// queues a bounded number beyond it, forwards them to the application on loopback, answers readiness probes,
// reports load, and drains.
//
// Promises: the application never sees more than its limit at once; the queue is strictly first in, first out; a
// request that is refused before the application saw it carries a private header, so that an activator of ours can
// give it to another pod. While draining, probes fail, connections are closed after their next response, and the
// requests that arrived are served.
//
// It speaks Knative's queue-proxy contract: headers, probes, statuses and statistics.
//
// A Proxy is safe for concurrent use. [New] starts nothing; [Proxy.Run] reports until its context ends.
package queueproxy

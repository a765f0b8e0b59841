//go:build linux

// Package load is an HTTP/1.1 load generator for a proxy on this machine.
//
// It has two shapes. A closed loop keeps every connection busy: the next request leaves when the answer has come. An
// open loop sends at a fixed rate whatever the server does, and counts latency from the moment a request was meant
// to leave, so that a server that stalls cannot hide it. Latencies go into HDR histograms.
//
// # Promises
//
//   - It loads loopback addresses only, and ends after a bounded time, whatever the server does.
//   - One thread, one epoll loop, one write and one or two reads per request: about 4 µs of its own.
//   - A response that is not 200, is cut short, comes late or has no Content-Length counts as an error.
//
// # What it does not do
//
// It does not parse chunked responses, pipeline or follow redirects: the backend answers with Content-Length, and a
// proxy that changes that is at fault. Linux only.
//
// Each call of [Run], [Park] and [Idle] stands alone: calls may run at the same time, a single one uses the calling
// goroutine only.
package load

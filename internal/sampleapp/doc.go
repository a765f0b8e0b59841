// Package sampleapp holds the applications that come with Rouse, so that a first try needs no other program:
//
//   - hello greets, with TARGET from its environment as the samples of Knative do;
//   - autoscale does as much work as a request's query asks for: sleep, CPU, memory;
//   - event-display prints the CloudEvents that it receives.
//
// Each is a plain HTTP server on $PORT, for HTTP/1.1 and for HTTP/2 with prior knowledge. It tells by its own clock
// when it was started and when it began to listen, and how many requests it ever had at once, in headers and on
// /stats: what the benchmarks and the tests of the data plane measure against. STARTUP_DELAY_MS makes it listen that
// long after its start. SIGTERM lets the requests that it has finish.
//
// The package imports little, because its start-up time is a part of what is measured.
package sampleapp

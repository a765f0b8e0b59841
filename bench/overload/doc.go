// Package overload holds a small service under far more load than it can do, for minutes, and watches memory, queues and
// answers: 200 requests per second against capacity for 2, by clients that give up after a second.
//
// What runs is `rouse up` with real processes: the activator, a queue-proxy and an application that takes one request
// at a time, half a second each. The clients are this process. Every request has exactly one outcome: an answer by its
// status, a client that gave up, or a fault by name.
//
// It fails when a request has another outcome than 200, 503 with Retry-After, or its client's giving up; when the
// queue exceeds its bound; or when a process's memory grows by more than a tenth after the first minute. Linux only. Main
// runs once and returns when every process has ended; it is not for concurrent use.
package overload

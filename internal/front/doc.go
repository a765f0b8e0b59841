// Package front is the activator as a process: the data plane's front with its listeners, told by control what to
// serve, and the life of it from the first listener to the last request. `activator` and `rouse up --activators` run it.
//
// What it promises: it listens at once and is ready once control has told it everything; from then on control may go
// away, and it serves what it knows for as long as it lasts. Its health never depends on control. Told to stop, it is
// not ready at once, ends each connection with its next response, goes on accepting for a minimum, lets requests in
// flight and parked ones finish, gives its leases back and then ends. Metrics, health and profiles are on a listener of
// their own.
//
// What it does not: talk to Kubernetes, decide about pods, or keep anything on disk.
//
// Concurrency: Run owns every goroutine and returns when all have ended.
package front

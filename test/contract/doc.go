// Package contract holds our sidecar to the contract of Knative's queue-proxy, as its sources state it: the test reads
// the names of environment variables out of Knative's module, at the version that go.mod pins, and out of a recorded
// list for the development branch, whose module is not published.
//
// It is a module of its own, so that Knative's requirements are nobody else's. Knative's code is read as text, never
// linked.
package contract

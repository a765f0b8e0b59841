// Package contract holds our sidecar to the contract of Knative's queue-proxy, as its sources state it. The tests read
// the names of environment variables and the numbers of the statistics' fields out of Knative's module, at the version
// that go.mod pins; the names of the development branch, whose module is not published, are a recorded list.
//
// It is a module of its own, so that Knative's requirements are nobody else's. Knative's code is read as text, never
// linked.
package contract

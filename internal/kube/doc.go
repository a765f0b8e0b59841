// Package kube is all that Rouse knows of Kubernetes' API: it watches annotated Deployments and StatefulSets with their
// pods and Services, scales them, and owns the EndpointSlices of their Services.
//
// What it promises:
//
//   - Objects are stripped to what is read before they are stored ([Cluster]).
//   - A Service never loses its last endpoint before another has come, and activators are published only on ports that
//     they have opened ([Publisher]).
//   - What is wrong with one workload is one Event and one log line, and touches no other workload ([Mirror]).
//   - The API server away changes nothing: what was seen last stays true, writes are tried again, and nothing exits.
//   - Several instances share the work ([Membership]): each sees everything, the holder of a workload's bucket writes.
//
// What it does not: decide how many pods there should be, or carry requests. Plain structs cross its border: see
// [Routed].
//
// Concurrency: every type is safe for concurrent use; Run methods own their goroutines.
package kube

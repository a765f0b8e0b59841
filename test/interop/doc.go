// Package interop runs Knative's own code against ours, over real sockets: Knative's queue-proxy, built from its module,
// behind our activator and our control loop; our queue-proxy in front of Knative's autoscaler, read by its stats scraper,
// and behind Knative's activator, whose informers are the fake ones that Knative's own tests use; and both ends of both
// stats streams.
//
// It is a module of its own, so that Knative's requirements are nobody else's. Its replace lines keep Kubernetes'
// libraries at the version that Knative was made with.
//
// Knative's queue-proxy listens on fixed ports. The tests therefore run in a network of their own where the kernel allows
// that, and else need ports 8022, 9090 and 9091 to be free.
package interop

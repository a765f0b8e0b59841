// Package conformance holds the forwarding engine against other people's test suites: h2spec for HTTP/2, and gRPC's
// interoperability cases. It is a module of its own so that the product does not depend on theirs.
package conformance

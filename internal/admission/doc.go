// Package admission is the mutating webhook's answer to the API server, and the certificates that it answers with.
//
// What it promises: a pod is never refused. One that cannot have a sidecar is let through as it is, with a warning, and
// its traffic goes by way of the activators, which count and limit. Equal pods get equal answers (package inject).
//
// Certificates are the webhook's own: an authority of a year, a serving certificate of a month, each renewed when a third
// of its life is left ([Renew]). They live in one place that all instances share ([Store]). A new authority is trusted for
// a while before anything is signed by it, and an old one as long as something may be left of it, so that no handshake
// fails in between.
//
// What it does not: listen, or talk to a cluster.
//
// Concurrency: Handler and Keeper are safe for concurrent use; the rest are values.
package admission

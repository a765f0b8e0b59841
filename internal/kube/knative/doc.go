// Package knative tells an activator what Knative Serving's controller has written down: revisions, their pods, and
// which other activators share them.
//
// It reads what Knative's own activator may read, with the role that Knative's manifests give it: Revisions, and the
// Endpoints of the revision's private Service (its pods) and public Service (its activators, while the revision is in
// mode proxy). EndpointSlices are outside that role.
//
// What it promises: for each revision the sink hears of the revision first, then of its pods, in order and without gaps;
// a change of one object is one call; a watch that breaks is resumed, and meanwhile the last knowledge stands. A
// revision that was deleted and made again is another one, by its UID.
//
// What it does not: write anything, probe pods, or negotiate with other activators. The share of an activator follows
// from the addresses alone ([Share]), as Knative's does; while two activators see different lists, a pod's queue-proxy
// is the last word on its limit.
//
// Concurrency: [Watcher.Run] owns every goroutine. The sink is called by one goroutine at a time.
package knative

// Package assign tells activators what to serve: one websocket per activator and control instance, down which go
// revisions with their settings, endpoints, routes, listening ports, failures and leases of slots, and up which come
// acknowledgements, the state of ports, and load.
//
// # What it promises
//
//   - Control pushes each change at once. An activator that is slow gets the newest state of whatever changed
//     meanwhile: what is unsent is a set of names, never a queue of messages.
//   - A new connection begins with a snapshot of everything. What is the same is not disturbed; what is not in it is
//     removed when the snapshot is complete.
//   - Control away changes nothing: the activator keeps revisions, endpoints, routes, ports and leases for as long as
//     it lasts, and reconnects with jittered back-off.
//   - The requests in flight in a pod never exceed its limit, over all activators: each may use what it was granted,
//     and what was granted or not given back is never more than the limit ([control/slots] has the rules).
//   - An older or newer peer is understood: frames are JSON with a version, unknown fields are skipped.
//
// # Several control instances
//
// Revisions and routes belong to shards. A control instance says which shards it owns, with an epoch that grows with each
// change of owner ([Server.Own]). The activator follows the newest epoch of each shard, whatever an older owner still
// says; only the owner's word, or its complete snapshot, removes something. One instance that owns all is shard 0 alone.
//
// # What it does not
//
// It decides no scaling and carries no reports of load for it: internal/statstream does. It serves no requests: the
// activator's side is a [Receiver] that the process wires.
//
// Server and Client are safe for concurrent use; Run owns every goroutine, except that a server's connections live in
// the goroutines of their requests.
package assign

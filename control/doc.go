// Package control runs the scaling decision for thousands of revisions: it receives load, keeps the windows, decides
// with control/kpa, and applies what was decided through ports that it declares itself.
//
// What it promises:
//   - Every revision is decided about once per period (2 s), evenly spread by a wheel, and at once when demand meets
//     a revision without pods, also one that was never decided about.
//   - No goroutine and no timer per revision: one goroutine turns the wheel, a fixed number of workers apply.
//   - Scale requests of one revision are applied one at a time, the newest wins. A failed one is tried again with the
//     next decision. A slow target delays its own revision only, as long as there are free workers.
//   - Load that an activator and a queue-proxy both saw is counted once.
//   - Replicas ([Ownership]) may all receive load and all decide; only the owner applies. [Loop.Snapshot] and
//     [Loop.Restore] hand windows and state to a successor.
//
// What it does not: start pods, route requests, read configuration, elect leaders. See [ScaleTarget], [ModeTarget],
// [PodSource], [Ownership].
//
// Concurrency: a [Loop] is safe for concurrent use. Each revision has a lock of its own; no port is ever called under
// a lock, but those that must not block: [Ownership], [ActivatorSource]. Events reach the observer one at a time, in the order in which they happened.
package control

// Package order decides which Kafka record may be sent next, and which offset may be committed.
//
// Records of a partition are put into lanes: one lane per partition, one per key, or one per record ([Mode]). A lane
// has at most one request in flight, and gives its records out in the order of their offsets. Lanes do not wait for
// each other: a record that fails parks its own lane and nothing else.
//
// Promises:
//   - Two records of one lane are never in flight in two requests, and never change places, retries included.
//   - Partitions take turns (round robin), and so do the lanes inside a partition (first ready, first served).
//   - [Offsets.Position] never passes a record that is not finished. What is finished beyond it survives a restart in
//     the commit's metadata ([Map]), within a size that brokers accept.
//   - Add, Take, Finish, Park and Unpark are O(1) per record; a hole in the log costs O(1), however wide.
//
// It does not do: sending, timers, waiting, or locking. Time comes in as a value.
//
// Concurrency: a [Scheduler] and all that belongs to it is owned by one goroutine or guarded by one lock of the caller.
package order

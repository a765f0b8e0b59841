// Package kafkadispatch reads Kafka topics and POSTs their records to an HTTP sink as CloudEvents.
//
// The life of a record: librdkafka → poll loop → order.Scheduler (lanes) → worker → sink → order.Offsets → committer.
// One goroutine polls, one commits, one keeps house; workers exist while there is something to send, at most
// order.Config.MaxInFlight of them.
//
// Promises:
//   - At least once: a record's offset is committed, or marked done in the commit's metadata, only after the sink
//     answered with success, a dead letter destination took the record, or the configuration says to drop it.
//   - In order per partition or per key, retries and dead letters included ([order.Mode]).
//   - After a partition is revoked no try begins for its records. Tries under way get RevokeDeadline to end; what ends
//     in time is committed. After a lost assignment nothing is committed.
//   - Bounded: records and bytes held, requests in flight, the window beyond the commit. At a bound the partition is
//     paused, or the poll waits; nothing is thrown away.
//
// It does not: filter events, start sinks, or serve HTTP. It tells how much work there is through Config.Report.
//
// A [Dispatcher] is safe for concurrent use. Its mutex guards the scheduler and everything that belongs to it; no I/O
// happens under it.
package kafkadispatch

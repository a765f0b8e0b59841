// Package metrics measures load: concurrency weighted by time, windows of one-second buckets, and the message that
// carries both from a queue-proxy or an activator to the control loop.
//
//   - [RequestStats] integrates concurrency over time, plainly and exactly; [SharedRequestStats] gives the same
//     reports and may be called from every request at once.
//   - [Window] keeps one sample per second for a stable and a panic window at the same time, in one ring.
//   - [Stat], [Message] and [Decoder] are Knative's protobuf wire format with an extension that Knative ignores.
//
// The package promises Knative's figures on equal inputs: the same averages, rounded the same way, and the same bytes
// for what Knative knows. It reads no clock and starts nothing: every instant is an argument, and callers that want
// monotonic time pass values of time.Now. Only SharedRequestStats is safe for concurrent use.
package metrics

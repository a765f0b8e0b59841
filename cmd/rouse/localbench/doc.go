// Package localbench holds the benchmarks that run a whole `rouse up` in this process, with real processes as pods.
//
// [ColdStart] wakes services that never had a process. The overhead of one request is
//
//	first byte − request sent − (listen(2) returned − exec)
//
// where the last two are told by the sample application's own clock. It contains the decision, fork and exec, the
// probe, the hand-over and the request itself.
//
// [Burst] sends many requests at once to a sleeping service, under Knative's burst rule and under the drain-aware one,
// in turns, and counts the processes that each starts.
package localbench

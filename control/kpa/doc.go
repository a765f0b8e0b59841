// Package kpa decides how many pods a revision should have: the rule of Knative's pod autoscaler, as pure functions,
// with a few named additions that are off unless a [Policy] asks for them.
//
// [Decide] takes what was configured ([Policy]), what it remembered ([State]), what is seen ([Observation]) and the
// time, and returns a [Decision] that carries its own explanation. On equal observations, and with the additions off,
// it decides exactly as Knative does: recorded sequences of the original are replayed in the tests, and a literal
// transcription of the formula is fuzzed against it. docs/differences.md lists the additions.
//
// A decision has two halves, which Knative spreads over several controllers: what the load asks for ([Recommend]:
// windows, rates, panic, delay, excess burst capacity) and what is done about it (bounds, initial scale, the way to
// zero, who carries the traffic). Decide is both, in that order.
//
// Nothing here reads a clock, logs, blocks or allocates in steady state. Policy and Observation are only read. State
// belongs to one revision and one goroutine at a time; Decide changes it in place.
package kpa

// Package dispatch measures the Kafka dispatcher beside a bare loop: librdkafka, fasthttp and nothing that makes it safe.
//
// Sink and broker run in processes of their own, so that CPU per event is the dispatcher's alone. Both rivals read the
// same topic, in turn, in the same run. The bare loop keeps no offsets, retries nothing and sends three headers where
// the dispatcher sends twelve: it is what the machine could do, not what anybody would run.
//
// It asserts nothing; it prints what it saw. Main runs once and returns; it is not for concurrent use.
package dispatch

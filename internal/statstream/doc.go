// Package statstream carries load reports from producers (queue-proxies, activators, dispatchers) to the control loop:
// one push stream per producer process, binary Knative WireStatMessages over a websocket.
//
// What it promises: a report is pushed as soon as it is made, not at the next tick. The client reconnects by itself,
// with jittered back-off, and never blocks its caller. While there is no connection, or it is slow, only the newest
// report of each pod about each revision is kept, and none that is too old: the receiver counts a report in the second
// of its arrival, so that late ones would pile up into load that never was. Reports carry a sequence number per revision;
// the handler drops what it has seen and what a former process of the same pod sends late, and counts what is missing.
//
// Knative's own activators are accepted: they send no extension and, where the handler is configured so, no token.
// Knative's autoscaler accepts our client: it skips the extension. Pods with Knative's own queue-proxy push nothing: a
// [Scraper] fetches their reports.
//
// What it does not: interpret load, or retry a report that was replaced by a newer one. In the same process call the
// [Sink] directly.
//
// Concurrency: [Client], [Handler] and [Scraper] are safe for concurrent use. Run owns the goroutines of client and scraper; each
// connection of the handler lives in the goroutine of its request.
package statstream

import "github.com/rousehq/rouse/metrics"

// Sink receives reports. Report must not block for long and must not keep what m points to beyond strings.
type Sink interface {
	Report(m metrics.Message)
}

// Tee hands every report to each of the sinks: to the owner of a revision and to its successor.
type Tee []Sink

// Report implements Sink.
func (t Tee) Report(m metrics.Message) {
	for _, s := range t {
		s.Report(m)
	}
}

package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/rousehq/rouse/kafkadispatch"
)

type named struct {
	name string
	d    *kafkadispatch.Dispatcher
}

// monitor serves /healthz, /readyz and /metrics. It is safe for concurrent use.
type monitor struct {
	mu  sync.Mutex
	all []named // guarded by mu
}

func (m *monitor) add(name string, d *kafkadispatch.Dispatcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, named{name, d})
}

func (m *monitor) list() []named {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]named(nil), m.all...)
}

// ServeHTTP answers probes and scrapes.
func (m *monitor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz", "/readyz":
		w.WriteHeader(http.StatusOK)
	case "/metrics":
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, m.metrics())
	default:
		http.NotFound(w, r)
	}
}

// metrics is the Prometheus text format.
func (m *monitor) metrics() string {
	var b strings.Builder
	all := m.list()
	write := func(name, kind, help string, value func(kafkadispatch.Stats, kafkadispatch.Demand) int64) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		for _, n := range all {
			fmt.Fprintf(&b, "%s{source=%q} %d\n", name, n.name, value(n.d.Stats(), n.d.Demand()))
		}
	}
	type (
		S = kafkadispatch.Stats
		D = kafkadispatch.Demand
	)
	write("rouse_dispatch_records_received_total", "counter", "Records read.", func(s S, _ D) int64 { return s.Received })
	write("rouse_dispatch_requests_total", "counter", "Requests to the sink.", func(s S, _ D) int64 { return s.Tries })
	write("rouse_dispatch_records_delivered_total", "counter", "Records that the sink took.", func(s S, _ D) int64 { return s.Delivered })
	write("rouse_dispatch_retries_total", "counter", "Records that had to wait for a further try.", func(s S, _ D) int64 { return s.Retries })
	write("rouse_dispatch_dead_letters_total", "counter", "Dead letters.", func(s S, _ D) int64 { return s.DeadLettered })
	write("rouse_dispatch_records_dropped_total", "counter", "Records given up.", func(s S, _ D) int64 { return s.Dropped })
	write("rouse_dispatch_blocked_tries_total", "counter", "Tries of records that block their lane.", func(s S, _ D) int64 { return s.Blocked })
	write("rouse_dispatch_replies_total", "counter", "Replies passed on.", func(s S, _ D) int64 { return s.Replies })
	write("rouse_dispatch_commits_total", "counter", "Commits.", func(s S, _ D) int64 { return s.Commits })
	write("rouse_dispatch_commit_failures_total", "counter", "Commits that failed.", func(s S, _ D) int64 { return s.CommitFailures })
	write("rouse_dispatch_partitions_lost_total", "counter", "Partitions lost without a chance to commit.", func(s S, _ D) int64 { return s.Lost })
	write("rouse_dispatch_lag_records", "gauge", "Records that are not finished.", func(_ S, d D) int64 { return d.Lag })
	write("rouse_dispatch_parallel", "gauge", "Requests that could be useful at once.", func(_ S, d D) int64 { return int64(d.Parallel) })
	write("rouse_dispatch_in_flight_requests", "gauge", "Requests under way.", func(_ S, d D) int64 { return int64(d.InFlight) })
	write("rouse_dispatch_partitions", "gauge", "Partitions assigned.", func(_ S, d D) int64 { return int64(d.Partitions) })
	return b.String()
}

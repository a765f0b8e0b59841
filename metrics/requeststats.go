package metrics

import "time"

// Report is the load over one reporting period.
type Report struct {
	// AverageConcurrency is the time-weighted number of requests in flight, all of them.
	AverageConcurrency float64
	// AverageProxiedConcurrency is the share that came through an activator.
	AverageProxiedConcurrency float64
	// RequestCount is how many requests arrived in the period, ProxiedRequestCount how many of them through an
	// activator.
	RequestCount        float64
	ProxiedRequestCount float64
}

// RequestStats integrates concurrency over time: the clear version, for one goroutine. The zero value is ready and
// its first period begins with the first event.
type RequestStats struct{}

// In counts a request that arrives at now.
func (s *RequestStats) In(now time.Time, proxied bool) { panic("not built yet") }

// Out counts a request that ends at now; proxied must be what its In said.
func (s *RequestStats) Out(now time.Time, proxied bool) { panic("not built yet") }

// Report returns the load since the last Report, or since the first event, and begins a new period.
func (s *RequestStats) Report(now time.Time) Report { panic("not built yet") }

// SharedRequestStats gives the reports of RequestStats to any number of goroutines. Make one with
// NewSharedRequestStats.
type SharedRequestStats struct{}

// NewSharedRequestStats returns counters whose first period begins at now.
func NewSharedRequestStats(now time.Time) *SharedRequestStats { panic("not built yet") }

// In counts a request that arrives at now.
func (s *SharedRequestStats) In(now time.Time, proxied bool) { panic("not built yet") }

// Out counts a request that ends at now; proxied must be what its In said.
func (s *SharedRequestStats) Out(now time.Time, proxied bool) { panic("not built yet") }

// Report returns the load since the last Report and begins a new period. One goroutine at a time may call it.
func (s *SharedRequestStats) Report(now time.Time) Report { panic("not built yet") }

// InFlight returns how many requests are in flight now.
func (s *SharedRequestStats) InFlight() int64 { panic("not built yet") }

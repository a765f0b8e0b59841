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

// RequestStats integrates concurrency over time: the clear version, for one goroutine.
type RequestStats struct {
	changed                 time.Time // of the last event; the integral reaches to here
	concurrency, proxied    float64
	integral, proxiedSum    float64 // concurrency times seconds
	elapsed                 float64 // seconds in the period so far
	arrived, proxiedArrived float64
}

// NewRequestStats returns counters whose first period begins at now.
func NewRequestStats(now time.Time) *RequestStats { return &RequestStats{changed: now} }

// In counts a request that arrives at now.
func (s *RequestStats) In(now time.Time, proxied bool) {
	s.integrate(now)
	s.concurrency++
	s.arrived++
	if proxied {
		s.proxied++
		s.proxiedArrived++
	}
}

// Out counts a request that ends at now; proxied must be what its In said.
func (s *RequestStats) Out(now time.Time, proxied bool) {
	s.integrate(now)
	s.concurrency--
	if proxied {
		s.proxied--
	}
}

// Report returns the load since the last Report and begins a new period.
func (s *RequestStats) Report(now time.Time) Report {
	s.integrate(now)
	r := Report{RequestCount: s.arrived, ProxiedRequestCount: s.proxiedArrived}
	if s.elapsed > 0 {
		r.AverageConcurrency = s.integral / s.elapsed
		r.AverageProxiedConcurrency = s.proxiedSum / s.elapsed
	}
	s.integral, s.proxiedSum, s.elapsed, s.arrived, s.proxiedArrived = 0, 0, 0, 0, 0
	return r
}

// integrate brings the integrals up to now. An instant before the last event counts as that event's.
func (s *RequestStats) integrate(now time.Time) {
	dt := now.Sub(s.changed).Seconds()
	if dt <= 0 {
		return
	}
	s.elapsed += dt
	s.integral += s.concurrency * dt
	s.proxiedSum += s.proxied * dt
	s.changed = now
}

package kafkadispatch

import "time"

// health watches one sink: an in-flight limit that yields when the sink is overloaded (additive increase,
// multiplicative decrease, starting at the configured bound), and a circuit breaker that stops all tries when
// nothing but failures comes back. It is guarded by Dispatcher.mu.
type health struct {
	fixed    bool
	most     int
	limit    float64
	cutAt    time.Time // the last decrease
	good     int       // successes since the last decrease
	bad      int       // failures since then
	failures int       // in a row
	openedAt time.Time
	open     time.Duration // how long the breaker stays open; 0 is closed
	probing  bool
}

const (
	tripAfter   = 32 // failures of the sink in a row
	openFirst   = 250 * time.Millisecond
	openMost    = 15 * time.Second
	cutShare    = 0.75
	cutInterval = 200 * time.Millisecond
	// cutFrom is one in how many answers must mean overload before the limit yields.
	cutFrom = 10
	// memory bounds how many successes outweigh later failures.
	memory = 500
)

func newHealth(most int, fixed bool) *health {
	return &health{fixed: fixed, most: most, limit: float64(most)}
}

// allowed is how many requests may be in flight at now.
func (h *health) allowed(now time.Time) int {
	switch {
	case h.fixed:
		return h.most
	case h.open == 0:
		return max(1, int(h.limit))
	case now.Sub(h.openedAt) < h.open:
		return 0
	}
	h.probing = true
	return 1
}

// reopens is when an open breaker lets a probe through; zero when it is closed.
func (h *health) reopens() time.Time {
	if h.open == 0 || h.probing {
		return time.Time{}
	}
	return h.openedAt.Add(h.open)
}

func (h *health) success() {
	h.failures = 0
	h.open, h.probing = 0, false
	if h.good++; h.good > memory {
		h.good, h.bad = h.good/2, h.bad/2
	}
	if h.limit < float64(h.most) {
		h.limit = min(float64(h.most), h.limit+1/h.limit)
	}
}

// overload notes a try that failed for the sink's sake; it reports whether the breaker opened. fresh says that the
// record had not failed before: only such a try is evidence for the limit, because one record that always fails is
// not an overloaded sink.
func (h *health) overload(now time.Time, fresh bool) bool {
	h.failures++
	if fresh {
		h.bad++
	}
	if fresh && now.Sub(h.cutAt) >= cutInterval && h.bad*cutFrom >= h.good {
		h.cutAt, h.good, h.bad = now, 0, 0
		h.limit = max(1, h.limit*cutShare)
	}
	if h.fixed || (h.failures < tripAfter && !h.probing) || (h.open > 0 && !h.probing) {
		return false
	}
	h.open = min(openMost, max(openFirst, 2*h.open))
	h.openedAt, h.probing = now, false
	return true
}

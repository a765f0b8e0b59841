package sink

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Retryable says whether the eventing data plane's table asks to send again after this status: 404, 408, 409, 429 and
// 5xx. A status below 300 is success; the rest are refusals that a further try would not change.
func Retryable(status int) bool {
	switch status {
	case 404, 408, 409, 429:
		return true
	}
	return status >= 500
}

// Overload says whether a status means that the sink, not the event, is in trouble.
func Overload(status int) bool {
	return status == 429 || (status >= 502 && status <= 504)
}

// Policy says how often, and after which waits, a record is sent again.
type Policy struct {
	// Retries is how many tries may follow the first one.
	Retries int
	// Linear makes the waits grow by Delay; else they double.
	Linear bool
	// Delay is the unit of the waits: n×Delay (linear) or 2ⁿ×Delay before retry n, counted from 1. 0 retries at once.
	Delay time.Duration
	// MaxDelay caps each wait; 0 means no cap.
	MaxDelay time.Duration
	// Jitter takes a random part of up to this share (0 to 1) off each wait, so that lanes do not move as one.
	Jitter float64
	// RetryAfterMax caps how long a Retry-After header of a 429 or 503 is honoured; 0 ignores the header.
	RetryAfterMax time.Duration
}

// Wait is the time before retry n, counted from 1. retryAfter is what the sink asked for, or 0.
func (p Policy) Wait(n int, retryAfter time.Duration) time.Duration {
	wait := p.Delay * time.Duration(n)
	if !p.Linear {
		wait = p.Delay << min(n, 40)
		if wait>>min(n, 40) != p.Delay {
			wait = 1<<63 - 1
		}
	}
	if p.MaxDelay > 0 {
		wait = min(wait, p.MaxDelay)
	}
	if p.Jitter > 0 {
		wait -= time.Duration(p.Jitter * rand.Float64() * float64(wait))
	}
	return max(wait, min(retryAfter, p.RetryAfterMax))
}

// ParseRetryAfter reads a Retry-After header: seconds or an HTTP date. What is neither is 0.
func ParseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if s, err := strconv.ParseInt(value, 10, 32); err == nil {
		return max(0, time.Duration(s)*time.Second)
	}
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 GMT", time.RFC850, time.ANSIC} {
		if t, err := time.Parse(layout, value); err == nil {
			return max(0, t.Sub(now))
		}
	}
	return 0
}

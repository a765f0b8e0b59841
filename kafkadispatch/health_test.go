package kafkadispatch

import (
	"testing"
	"time"
)

func TestLimitYieldsToAnOverloadedSink(t *testing.T) {
	h := newHealth(100, false)
	now := time.Unix(100, 0)
	for range 5 {
		h.overload(now, true)
		now = now.Add(cutInterval)
	}
	low := h.allowed(now)
	if low > 30 {
		t.Errorf("after five periods of overload the limit is %d, want 30 or less", low)
	}
	for range 10_000 {
		h.success()
	}
	if got := h.allowed(now); got != 100 {
		t.Errorf("after 10,000 successes the limit is %d, want 100", got)
	}
}

// A record that fails for ever beside others that do not must not slow them down.
func TestLimitIgnoresAPoisonRecord(t *testing.T) {
	h := newHealth(100, false)
	now := time.Unix(100, 0)
	h.success()
	for range 1000 {
		h.overload(now, false)
		h.success()
		now = now.Add(cutInterval)
	}
	if got := h.allowed(now); got != 100 {
		t.Errorf("the limit is %d, want 100", got)
	}
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	h := newHealth(100, false)
	now := time.Unix(100, 0)
	for i := range tripAfter {
		if got := h.overload(now, true); got != (i == tripAfter-1) {
			t.Fatalf("failure %d: opened = %v", i+1, got)
		}
	}
	if h.allowed(now) != 0 || h.reopens() != now.Add(openFirst) {
		t.Errorf("open: %d allowed, probes at %v", h.allowed(now), h.reopens())
	}
	now = now.Add(openFirst)
	if got := h.allowed(now); got != 1 {
		t.Errorf("after %v %d may go, want one probe", openFirst, got)
	}
	if !h.overload(now, false) || h.allowed(now.Add(openFirst)) != 0 {
		t.Error("a failed probe does not keep it open for longer")
	}
	now = now.Add(2 * openFirst)
	h.allowed(now)
	h.success()
	if got := h.allowed(now); got < 1 || !h.reopens().IsZero() {
		t.Errorf("after a good probe %d may go", got)
	}
	if fixed := newHealth(7, true); fixed.overload(now, true) || fixed.allowed(now) != 7 {
		t.Error("a fixed limit moved")
	}
}

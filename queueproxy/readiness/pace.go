package readiness

import (
	"context"
	"time"
)

// askPeriod is how often kubelet asks for a paced probe.
const askPeriod = time.Second

// pace is how one paced probe stands. A pod is ready from SuccessThreshold successes on, until FailureThreshold failures, as to
// kubelet; both count in a row.
type pace struct {
	ready               bool
	asked               time.Time // when the newest question to the application began
	err                 error     // its answer
	successes, failures int
}

// paced asks the application now while the pod is not ready, so that kubelet's next question a second later finds it out. Once it is
// ready the application is asked each period. In between a success is repeated at once; after a failure the answer waits for the
// next one. So kubelet counts one failure for each of the application's, and no more time goes by than if it asked the application
// itself, which it does not do faster either when an answer takes longer than the period.
func (p *Prober) paced(ctx context.Context, i int) error {
	pr, s := &p.cfg.Probes[i], &p.paces[i]
	if left := pr.Period - time.Since(s.asked); s.ready && s.err == nil && left > askPeriod/2 { // kubelet's seconds are not exact
		return nil
	} else if s.ready && s.err != nil && !wait(ctx, left) {
		return ctx.Err()
	}
	s.asked = time.Now()
	if s.ready {
		s.err = p.once(ctx, i, pr.Timeout)
	} else {
		s.err = p.answered(ctx, i, pr.Timeout)
	}
	s.count(pr)
	return s.err
}

func (s *pace) count(pr *Probe) {
	if s.err != nil {
		s.successes, s.failures = 0, s.failures+1
		s.ready = s.ready && s.failures < pr.FailureThreshold
		return
	}
	s.successes, s.failures = s.successes+1, 0
	s.ready = s.ready || s.successes >= pr.SuccessThreshold
}

// wait returns false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

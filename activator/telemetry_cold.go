package activator

import "time"

// coldPhases are the values of the label phase. total is the sum of the others: quantiles do not add up.
var coldPhases = [...]string{"pod", "ready", "dispatch", "first_byte", "total"}

// woken counts a cold start.
func (t *Telemetry) woken(c *counted, s *ColdStart) {
	for i, took := range [len(coldPhases)]time.Duration{s.Pod, s.Ready, s.Dispatch, s.FirstByte, s.Total()} {
		observe(c.phases[i].get(c, t.phases.WithLabelValues, coldPhases[i]), took.Seconds())
	}
}

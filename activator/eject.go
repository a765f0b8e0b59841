package activator

import (
	"time"

	"github.com/rousehq/rouse/internal/fault"
	"github.com/rousehq/rouse/internal/forward"
)

// A pod that refused a request is tried again after this long, doubling with each refusal in a row.
const (
	ejectFirst = 10 * time.Millisecond
	ejectMax   = time.Second
)

// Ejection is why a pod is left alone for a while.
type Ejection uint8

// The reasons of an ejection.
const (
	NotEjected Ejection = iota
	Refused             // it certainly took nothing: no connection, or its queue-proxy's word
	Broken              // its requests keep failing: see Outlier
)

// String returns the reason's metric label.
func (e Ejection) String() string { return [...]string{"none", "refused", "outlier"}[e] }

// judge draws conclusions about a pod from how a request ended there. The caller holds the lock.
func (p *pod) judge(res forward.Result) Ejection {
	h := &p.health
	failed, served := verdict(res)
	switch {
	case served:
		h.failures = 0
		if h.trial {
			h.trial = false
			p.refit()
		}
	case failed:
		h.failures++
	}
	if !res.Retryable {
		h.refusals = 0
	}
	switch {
	case p.removed || h.outlier:
		return NotEjected
	case failed && p.condemned():
		p.eject()
		return Broken
	case res.Retryable && !h.refused:
		p.leaveAlone()
		return Refused
	}
	return NotEjected
}

// verdict tells whether a request's end speaks against its pod, or for it; or neither, when it was the client's doing,
// the queue-proxy was full, or a limit struck that says nothing about the pod.
func verdict(res forward.Result) (failed, served bool) {
	switch res.Cause {
	case fault.None:
		bad := res.Status == 502 || res.Status == 503 || res.Status == 504
		return bad, !bad
	case fault.ConnectFailed, fault.UpstreamUnverified, fault.UpstreamReset, fault.UpstreamProtocol, fault.UpstreamAborted,
		fault.TimeoutFirstByte:
		return true, false
	}
	return false, false
}

// leaveAlone keeps a pod that refused from being picked until a timer brings it back. The caller holds the lock.
func (p *pod) leaveAlone() {
	h := &p.health
	after := min(ejectFirst<<min(h.refusals, 10), ejectMax)
	h.refusals++
	h.refused = true
	p.refresh()
	time.AfterFunc(after, func() {
		p.rev.mu.Lock()
		defer p.rev.mu.Unlock()
		h.refused = false
		p.refresh()
		p.rev.pump()
	})
}

// condemned reports that the pod's failures are enough to eject it, and that there are others.
func (p *pod) condemned() bool {
	r, o := p.rev, p.rev.settings.Load().Outlier
	enough := p.health.failures >= o.Failures || p.health.trial
	return o.Failures > 0 && enough && p.place[all] >= 0 && r.outliers < o.atMost(r.ready())
}

// atMost returns how many of n ready pods may be ejected: its share of them, one in any case, never the last.
func (o Outlier) atMost(n int) int {
	return min(max(1, int(o.withDefaults().Share*float64(n))), n-1)
}

// eject keeps a pod from being picked for its time. The caller holds the lock.
func (p *pod) eject() {
	h, o := &p.health, p.rev.settings.Load().Outlier.withDefaults()
	now := time.Now()
	if now.Sub(h.until) >= h.lasts {
		h.ejected = 0
	}
	h.lasts = min(o.First<<min(h.ejected, 20), o.Most)
	h.ejected++
	h.until = now.Add(h.lasts)
	h.outlier, h.trial, h.failures = true, false, 0
	p.rev.outliers++
	p.rev.owner.ejected.Add(1)
	p.refresh()
	p.backAt(h.until)
	p.rev.hasten()
}

// backAt ends the ejection at a time, instead of another. The caller holds the lock.
func (p *pod) backAt(until time.Time) {
	h := &p.health
	if h.back != nil {
		h.back.Stop()
	}
	h.until = until
	h.back = time.AfterFunc(time.Until(until), func() {
		p.rev.mu.Lock()
		defer p.rev.mu.Unlock()
		if h.outlier && h.until.Equal(until) {
			p.readmit()
		}
	})
}

// hasten has an ejected pod back soon when this activator has slots in no other: control, which hears that they are of no
// use now, may give it others meanwhile, and if it does not, these are all it has. The caller holds the lock.
func (r *revision) hasten() {
	if r.grants == nil || r.outliers == 0 {
		return
	}
	var next *pod
	for _, p := range r.rotations[all].pods {
		switch {
		case p.granted == 0:
		case !p.health.outlier:
			return
		case next == nil || p.health.until.Before(next.health.until):
			next = p
		}
	}
	if soon := time.Now().Add(ejectMax); next != nil && next.health.until.After(soon) {
		next.backAt(soon)
	}
}

// readmit ends an ejection: the pod gets one request at a time until one succeeds. The caller holds the lock.
func (p *pod) readmit() {
	h := &p.health
	if !h.outlier {
		return
	}
	h.outlier, h.trial = false, true
	h.back.Stop()
	p.rev.owner.ejected.Add(-1)
	if p.place[all] >= 0 {
		p.rev.outliers--
	}
	p.refit()
	p.rev.pump()
}

// forgive forgets what is held against a pod that goes. The caller holds the lock.
func (p *pod) forgive() {
	if h := &p.health; h.outlier {
		h.back.Stop()
		p.rev.owner.ejected.Add(-1)
	}
	p.health = health{refused: p.health.refused} // its timer clears that
}

// allowOutliers brings ejected pods back that are more than their share, because others went or the settings changed:
// first the one whose time is over first. The caller holds the lock.
func (r *revision) allowOutliers() {
	o := r.settings.Load().Outlier
	for r.outliers > 0 && (o.Failures == 0 || r.outliers > o.atMost(r.ready())) {
		var next *pod
		for _, p := range r.rotations[all].pods {
			if p.health.outlier && (next == nil || p.health.until.Before(next.health.until)) {
				next = p
			}
		}
		next.readmit()
	}
	r.hasten()
}

// Ejected returns how many pods are left alone as outliers, over all revisions.
func (a *Activator) Ejected() float64 { return float64(a.ejected.Load()) }

package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/endpoint"
)

// decide decides about a revision and hands what follows to the lanes. It does not block.
func (l *Loop) decide(r *revision, now time.Time) {
	l.counts.decisions.Add(1)
	defer l.watches.tell(r) // after the lock
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return
	}
	r.heed(now)
	o := r.observe(now, onTheWall(now, l.off()), l.cfg, l.deps.Activators)
	bursting := r.state.Bursting()
	d := kpa.Decide(r.policy, &r.state, &o, now)
	before := r.last
	r.last, r.decided, r.due = d, now, time.Time{}
	if d.Again > 0 && d.Again < l.cfg.Period {
		l.appointed(r, r.appoint(now.Add(d.Again)))
	}
	taken := l.own(r)
	if !r.owned {
		r.disown()
		return
	}
	if d.Panic != before.Panic {
		l.panicked(r, d, now)
	}
	// What the previous owner asked for is not known here: a new owner asks again.
	if d.Desired >= 0 && (taken || d.Desired != r.replicas) {
		l.request(r, d, bursting, now)
	}
	if r.target.Mode != nil {
		l.steer(r, d)
	}
}

// own finds out whether the revision is ours and whether it has just become so; the caller holds r.mu.
func (l *Loop) own(r *revision) (taken bool) {
	if l.deps.Ownership == nil {
		r.owned = true
		return false
	}
	owned := l.deps.Ownership.Owns(r.id)
	taken = owned && !r.owned
	r.owned = owned
	return taken
}

// disown forgets who carries the traffic and what the public address answered: another owner decides that now, and nothing
// of it is proof of anything when the revision comes back. The caller holds r.mu.
func (r *revision) disown() {
	if r.target.Mode == nil {
		return // then every request comes through an activator, whoever owns it
	}
	r.path, r.mode, r.activators, r.carried = kpa.Path{}, kpa.Proxy, 0, kpa.Proxy
	r.route, r.probe = nil, false
}

func (l *Loop) panicked(r *revision, d kpa.Decision, now time.Time) {
	e := Event{Time: now, Kind: PanicEnds, Revision: r.id, Service: r.cfg.Service, Reason: "a stable window passed without a burst"}
	if d.Panic {
		e.Kind = PanicBegins
		e.Reason = reason(d)
	}
	l.out.put(e)
}

// request hands a new number of pods to the scale lane; the caller holds r.mu. The pods of a burst that is going on are
// part of the rise that it began with.
func (l *Loop) request(r *revision, d kpa.Decision, bursting bool, now time.Time) {
	req := &Request{Revision: r.id, Desired: d.Desired, From: r.replicas, Reason: reason(d), Decision: d}
	if d.Desired < r.replicas {
		req.Victims = r.victims(r.replicas - d.Desired)
	} else if !bursting && r.pods.Count(endpoint.Starting) == 0 {
		r.learnt.Rise(now)
	}
	kind := Scaled
	switch {
	case req.From == 0:
		kind = Waking
	case req.Desired == 0:
		kind = Asleep
	}
	if !r.failing && req.From != req.Desired {
		l.out.put(Event{
			Time: now, Kind: kind, Revision: r.id, Service: r.cfg.Service, From: req.From, To: req.Desired, Reason: req.Reason,
		})
	}
	if r.want != nil {
		req.From = r.want.From // the one that was never applied
	}
	r.want, r.replicas, r.changed = req, d.Desired, now
	l.scales.put(r, laneScale)
}

// scale applies the newest scale request of a revision. It is the work of the scale lane.
func (l *Loop) scale(ctx context.Context, r *revision) {
	r.mu.Lock()
	req := r.want
	r.want = nil
	scale, ours := r.target.Scale, l.deps.Ownership == nil || l.deps.Ownership.Owns(r.id)
	if req != nil && !ours { // another decides by now
		r.replicas, r.news = r.before(req), false
	}
	r.mu.Unlock()
	if req == nil || !ours {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.ApplyTimeout)
	defer cancel()
	asked := l.now()
	err := scale.Apply(ctx, *req)
	l.scaled.Observe(l.now().Sub(asked).Seconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = err != nil
	from := r.before(req)
	r.news, r.through = false, l.now()
	if err == nil || errors.Is(ctx.Err(), context.Canceled) { // accepted, or the loop ends
		r.complaints[laneScale] = ""
		return
	}
	l.counts.failed.Add(1)
	if r.want == nil {
		r.replicas = from // the next decision asks again
	} else {
		r.want.From = from
	}
	if !r.complains(laneScale, err) {
		return
	}
	l.out.put(Event{
		Time: l.now(), Kind: ApplyFailed, Revision: r.id, Service: r.cfg.Service, From: req.From, To: req.Desired,
		Reason: req.Reason, Err: fmt.Errorf("scale %s to %d: %w", r.id, req.Desired, err),
	})
}

// steer asks for another mode, another number of activators or a probe; the caller holds r.mu.
func (l *Loop) steer(r *revision, d kpa.Decision) {
	asked := d.Mode != r.mode || d.Mode == kpa.Proxy && d.Activators != r.activators
	if asked || r.path.ProxiedSince.IsZero() && d.Mode == kpa.Proxy && r.route == nil && !r.lanes[laneMode].running {
		if d.Mode == kpa.Serve {
			r.path.ProxiedSince = time.Time{} // from now on some requests may take the direct way
		}
		r.mode, r.activators = d.Mode, d.Activators
		r.route = &ModeRequest{Revision: r.id, Mode: d.Mode, Activators: d.Activators}
	}
	r.probe = r.probe || d.ProbeActivator
	if r.route != nil || r.probe {
		l.modes.put(r, laneMode)
	}
}

// route applies the newest mode request of a revision and answers its probe. It is the work of the mode lane.
func (l *Loop) route(ctx context.Context, r *revision) {
	r.mu.Lock()
	req, probe, target := r.route, r.probe, r.target.Mode
	r.route, r.probe = nil, false
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.ApplyTimeout)
	defer cancel()
	if req != nil {
		l.acknowledge(r, *req, target.SetMode(ctx, *req))
	}
	if !probe {
		return
	}
	ok, err := target.ActivatorAnswers(ctx, r.id)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.owned {
		return
	}
	now := l.now()
	r.path.Probe, r.answered = kpa.ProbeFailed, now.UnixNano()
	if ok && err == nil {
		r.path.Probe = kpa.ProbeOK
		l.appointed(r, r.appoint(now)) // the last pod may go while this is fresh
	}
}

// acknowledge notes that all routers took a mode, or that they did not: then the next decision asks again. What another
// owner decides about is left alone.
func (l *Loop) acknowledge(r *revision, req ModeRequest, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.owned {
		return
	}
	now := l.now()
	if err != nil {
		l.counts.failed.Add(1)
		if r.route == nil {
			r.activators = -1 // differs from whatever is decided next
		}
		if !r.complains(laneMode, err) {
			return
		}
		l.out.put(Event{Time: now, Kind: ApplyFailed, Revision: r.id, Service: r.cfg.Service, From: r.replicas, To: r.replicas,
			Reason: "mode " + req.Mode.String(), Err: fmt.Errorf("set %s to mode %s: %w", r.id, req.Mode, err)})
		return
	}
	r.complaints[laneMode] = ""
	r.path.Activators = req.Activators
	if req.Mode == kpa.Serve {
		r.path.Probe = kpa.ProbeUnknown
	} else if r.path.ProxiedSince.IsZero() && r.mode == kpa.Proxy {
		r.path.ProxiedSince = now
		r.path.Probe = kpa.ProbeUnknown
	}
	if r.carried == req.Mode {
		return // only the number of activators changed
	}
	r.carried = req.Mode
	l.out.put(Event{Time: now, Kind: ModeChanged, Revision: r.id, Service: r.cfg.Service, Mode: req.Mode,
		Reason: fmt.Sprintf("excess burst capacity %d", r.last.ExcessBurstCapacity)})
}

// complains says whether a failure of a lane is news: it is tried again with every decision. The caller holds r.mu.
func (r *revision) complains(lane int, err error) bool {
	text := err.Error()
	news := r.complaints[lane] != text
	r.complaints[lane] = text
	return news
}

// reason puts a decision into words.
func reason(d kpa.Decision) string {
	var b strings.Builder
	for _, w := range d.Reasons.Wants[:d.Reasons.Count] {
		if w.Metric != d.Reasons.Winner && d.Reasons.Count > 1 {
			continue
		}
		load, pods, window := w.Stable, w.StablePods, "stable"
		if d.Panic && w.PanicPods > w.StablePods {
			load, pods, window = w.Panic, w.PanicPods, "panic"
		}
		fmt.Fprintf(&b, "%s %s %.4g at %.4g per pod asks for %d", window, w.Metric, load, w.Target, pods)
	}
	if b.Len() == 0 {
		b.WriteString("no load data")
	}
	if text := limitText(d.Reasons); text != "" {
		b.WriteString("; " + text)
	}
	return b.String()
}

// limitText names the rule that had the last word, empty when the load had it.
func limitText(r kpa.Reasons) string {
	switch r.Limit {
	case kpa.LimitNone:
		return ""
	case kpa.LimitNoData:
		return "without data the number stays"
	case kpa.LimitScaleUp:
		return fmt.Sprintf("max-scale-up-rate allows %d", r.RateHigh)
	case kpa.LimitScaleDown:
		return fmt.Sprintf("max-scale-down-rate allows %d", r.RateLow)
	case kpa.LimitActivation:
		return "activation-scale raises it"
	case kpa.LimitPanic:
		return "in panic it never falls"
	case kpa.LimitDrain:
		return "no pod is started that the queue would not wait for"
	case kpa.LimitCeiling:
		return "the event sources have no work for more: useful parallelism"
	case kpa.LimitDelay:
		return "scale-down-delay holds it"
	case kpa.LimitMin:
		return "min-scale raises it"
	case kpa.LimitInitial:
		return "initial-scale is not reached yet"
	case kpa.LimitSchedule:
		return "a schedule raises it"
	case kpa.LimitMax:
		return "max-scale caps it"
	case kpa.LimitNoZero:
		return "scale to zero is off"
	case kpa.LimitActivating:
		return "waiting for the first pods until the progress deadline"
	case kpa.LimitIdle:
		return "the last pod stays until the stable window has passed"
	case kpa.LimitProbe:
		return "the last pod stays until an activator answers"
	case kpa.LimitGrace:
		return "the last pod stays for scale-to-zero-grace-period"
	case kpa.LimitRetention:
		return "the last pod stays for scale-to-zero-pod-retention-period"
	}
	return ""
}

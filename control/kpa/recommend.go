package kpa

import (
	"math"
	"time"
)

// maxPods bounds every number of pods: Kubernetes counts replicas in 32 bits.
const maxPods = math.MaxInt32

// Recommendation is the first half of a decision: what the load asks for.
type Recommendation struct {
	// Valid is false when there was no data; then State kept what it had and only Reasons is set.
	Valid bool
	// Pods is the number of pods after rates, panic and delay, before bounds.
	Pods int
	// ExcessBurstCapacity, Panic and MaxPanicPods are as in Decision.
	ExcessBurstCapacity int
	Panic               bool
	MaxPanicPods        int
	// Again, when not zero, is in how long the answer may be another one.
	Again time.Duration
	// Reasons explains it.
	Reasons Reasons
}

// Recommend turns loads into pods as Knative's autoscaler does. It changes s.
func Recommend(p *Policy, s *State, o *Observation, now time.Time) Recommendation {
	var rec Recommendation
	r := &rec.Reasons
	if w := p.wants(o, r); w.any {
		wish, again := p.inPanic(s, w, o, r, now)
		rec.Again = again
		pods := p.delay(s, o, wish, r, now)
		if w.missing && pods < s.Raw {
			// A metric that is gone, or part of one, must not look like a load that is gone.
			pods, r.Limit = s.Raw, LimitNoData
		}
		s.Raw, s.ExcessBurstCapacity = pods, p.excess(o)
		rec.Valid, rec.Pods, rec.ExcessBurstCapacity = true, pods, s.ExcessBurstCapacity
	} else {
		r.Limit = LimitNoData
	}
	rec.Panic, rec.MaxPanicPods = !s.PanicSince.IsZero(), s.MaxPanicPods
	return rec
}

// wishes are the largest raw wants over the metrics.
type wishes struct {
	stable, panic int
	full          int  // the largest before what event sources have no work for was left out
	any, missing  bool // whether some metric has data, and whether one has none or not all
}

// wants divides each metric by its target. What a pod uses when nobody asks anything of it (CPU, memory) keeps no pod
// alive: such metrics count while there is demand.
func (p *Policy) wants(o *Observation, r *Reasons) wishes {
	var w wishes
	demand, known := o.demand()
	asked := false // whether a target is a kind of demand itself
	for i := range p.Targets {
		t := &p.Targets[i]
		sample := &o.Metrics[t.Metric]
		asked = asked || !t.Metric.resource()
		if !sample.Present {
			w.missing = true
			continue
		}
		w.missing = w.missing || sample.Partial
		want := Want{Metric: t.Metric, Target: t.Value, Stable: sample.Stable, Panic: sample.Panic}
		if !t.Metric.resource() || demand || !known {
			want.StablePods = pods(math.Ceil(sample.Stable / t.Value))
			want.PanicPods = pods(math.Ceil(sample.Panic / t.Value))
		}
		r.add(want)
		w.any = true
		w.full = max(w.full, want.StablePods, want.PanicPods)
		if t.Metric == Lag && o.Ceiling > 0 {
			// Records that nobody could send yet ask for nothing, whatever other load there is.
			want.StablePods, want.PanicPods = min(want.StablePods, p.busiest(o)), min(want.PanicPods, p.busiest(o))
		}
		w.stable = max(w.stable, want.StablePods)
		w.panic = max(w.panic, want.PanicPods)
	}
	if w.any && !asked && demand {
		w.stable = max(w.stable, 1)
	}
	return w
}

// add notes a want and keeps the winner.
func (r *Reasons) add(w Want) {
	if r.Count == len(r.Wants) {
		return
	}
	best := &r.Wants[0]
	for i := 1; i < r.Count; i++ {
		if r.Wants[i].Metric == r.Winner {
			best = &r.Wants[i]
		}
	}
	if r.Count == 0 || max(w.StablePods, w.PanicPods) > max(best.StablePods, best.PanicPods) {
		r.Winner = w.Metric
	}
	r.Wants[r.Count] = w
	r.Count++
}

// rated is a wish after the rates, and the rule that changed it.
type rated struct {
	pods  int
	limit Limit
}

// limitRates bounds the wishes by how fast a number of pods may change, and lifts them to the activation scale.
func (p *Policy) limitRates(w wishes, o *Observation, r *Reasons) (stable, panicking rated) {
	r.Ready = max(1, o.Ready)
	r.RateHigh = pods(math.Ceil(p.MaxScaleUpRate * float64(r.Ready)))
	if o.Reachability != Unreachable {
		r.RateLow = pods(math.Floor(float64(r.Ready) / p.MaxScaleDownRate))
	}
	return p.limitRate(w.stable, r), p.limitRate(w.panic, r)
}

func (p *Policy) limitRate(raw int, r *Reasons) rated {
	n := rated{pods: min(max(raw, r.RateLow), r.RateHigh)}
	switch {
	case n.pods < raw:
		n.limit = LimitScaleUp
	case n.pods > raw:
		n.limit = LimitScaleDown
	}
	if p.ActivationScale > 1 && raw > 0 && p.ActivationScale > n.pods {
		return rated{pods: p.ActivationScale, limit: LimitActivation}
	}
	return n
}

// inPanic takes the wishes through rates and panic.
func (p *Policy) inPanic(s *State, w wishes, o *Observation, r *Reasons, now time.Time) (pods int, again time.Duration) {
	stable, panicking := p.limitRates(w, o, r)
	p.movePanic(s, float64(w.panic)/float64(r.Ready) >= p.PanicThreshold, now)
	wish, inPanic := stable, !s.PanicSince.IsZero()
	if inPanic && panicking.pods > stable.pods {
		wish = panicking
	}
	pods, r.Limit = wish.pods, wish.limit
	if r.Limit == LimitNone && w.full > max(w.stable, w.panic) {
		r.Limit = LimitCeiling
	}
	if most := p.ceiling(o, r); pods > most {
		pods, r.Limit = most, LimitCeiling
	}
	if p.Burst == BurstDrainAware {
		pods, again = p.holdBack(s, o, pods, r, now)
	}
	if !inPanic {
		return pods, again
	}
	if s.MaxPanicPods > pods {
		pods, r.Limit = s.MaxPanicPods, LimitPanic
	}
	s.MaxPanicPods = pods
	return pods, again
}

// ceiling is the most pods that can have something to do when all load comes from event sources: what is in flight may
// all be theirs. Other load beside theirs is not bounded by it.
func (p *Policy) ceiling(o *Observation, r *Reasons) int {
	load := &o.Metrics[Concurrency]
	if o.Ceiling <= 0 || max(o.InFlight, load.Stable, load.Panic) > o.Ceiling {
		return maxPods
	}
	return max(1, p.busiest(o), r.RateLow, p.ActivationScale)
}

// busiest is how many pods the event sources can keep busy, one request each at least.
func (p *Policy) busiest(o *Observation) int {
	return pods(math.Ceil(o.Ceiling / float64(max(1, p.ContainerConcurrency))))
}

// movePanic enters, prolongs or leaves panic. It is left only when more than a stable window has passed since the load
// was last over the threshold.
func (p *Policy) movePanic(s *State, over bool, now time.Time) {
	switch {
	case over:
		s.PanicSince = now
	case !s.PanicSince.IsZero() && s.PanicSince.Add(p.StableWindow).Before(now):
		s.PanicSince = time.Time{}
		s.MaxPanicPods = 0
	}
}

// delay keeps the largest wish of the scale-down delay. A revision without a route has none.
func (p *Policy) delay(s *State, o *Observation, pods int, r *Reasons, now time.Time) int {
	switch {
	case o.Reachability == Unreachable:
		return pods
	case p.ScaleDownDelay <= 0:
		s.Delay.Slots = s.Delay.Slots[:0]
		return pods
	}
	held := s.Delay.Record(now, p.ScaleDownDelay, pods)
	if held > pods {
		r.Limit = LimitDelay
	}
	return held
}

// excess is the excess burst capacity: what the ready pods could take beyond the present load and the burst that the
// policy wants room for. It is counted in requests or requests per second; a policy with neither has no such measure,
// and its pods serve whenever some are ready.
func (p *Policy) excess(o *Observation) int {
	switch {
	case p.TargetBurstCapacity == 0:
		return 0
	case p.TargetBurstCapacity < 0:
		return -1
	}
	t := p.capacityTarget()
	if t.Total == 0 {
		return 0
	}
	return int(math.Floor(float64(o.Ready)*t.Total - p.TargetBurstCapacity - o.Metrics[t.Metric].Panic))
}

// capacityTarget is the first target that counts requests.
func (p *Policy) capacityTarget() Target {
	for _, t := range p.Targets {
		if t.Metric == Concurrency || t.Metric == RPS {
			return t
		}
	}
	return Target{}
}

// demand says whether anybody wants something of the revision; known is false when nothing tells.
func (o *Observation) demand() (demand, known bool) {
	for _, m := range [...]Metric{Concurrency, RPS, QueueLength, Lag} {
		s := &o.Metrics[m]
		if s.Present {
			known = true
			demand = demand || s.Stable > 0 || s.Panic > 0
		}
	}
	return demand, known
}

// resource says that the metric tells what pods use, not what is asked of them.
func (m Metric) resource() bool { return m == CPU || m == Memory }

// pods converts a rounded number of pods, within what can be counted.
func pods(f float64) int {
	if f >= maxPods {
		return maxPods
	}
	if f > 0 {
		return int(f)
	}
	return 0 // also when f is not a number
}

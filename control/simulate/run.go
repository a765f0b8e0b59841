package simulate

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/metrics"
)

// The periods of the real loop.
const (
	reportEvery = int64(time.Second)
	decideEvery = int64(2 * time.Second)
	growthPause = int64(20 * time.Millisecond)
	readyPause  = int64(5 * time.Millisecond)
	never       = math.MaxInt64
)

// The independent sequences of random numbers.
const (
	streamShape = iota + 1
	streamArrivals
	streamWork
	streamStartup
)

// epoch is when virtual time begins, and a simulated recording: a whole even second, so that decisions fall into Knative's
// slots.
var epoch = time.Unix(1_600_000_000, 0)

// Run simulates. It returns an error when the configuration makes no sense; the error names every fault.
func Run(cfg Config) (Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return Report{}, err
	}
	s := newSim(&cfg)
	s.run()
	return s.tally.report(s), nil
}

// sim is one simulation under way. Times are nanoseconds since the epoch.
type sim struct {
	cfg     *Config
	now     int64
	end     int64
	load    *arrivals
	coming  arrival
	more    bool
	work    *rand.Rand
	startup *rand.Rand
	started int             // pods asked for so far
	lastUp  int64           // when the last of the pods that start will be ready
	delays  []time.Duration // of the starts of a recording

	queue  fifo
	fleet  fleet
	events events
	report int64 // when the next report is due
	tick   int64 // when the next decision is due
	beat   int64 // when it would be due on an exact clock

	stats      *metrics.RequestStats
	active     bool  // there was load in this period or the last one
	ahead      int   // requests of the period that were reported at once
	known      bool  // an answer was reported since the revision was idle
	told       int   // the queue as it was last reported
	soon       int64 // when to decide before the next tick; never for not
	worked     int64
	ended      int64 // requests behind worked
	windows    [kpa.NumMetrics]*metrics.Window
	state      kpa.State
	learner    kpa.Learner
	replicas   int
	bursting   bool    // before the last decision
	decided    int64   // when the last decision was made
	seen       float64 // what was in flight then
	floor      int
	floorUntil time.Time
	path       kpa.Path
	tally      *tally
}

func newSim(cfg *Config) *sim {
	s := &sim{
		cfg:     cfg,
		end:     int64(cfg.Duration),
		load:    newArrivals(&cfg.Load, cfg.Duration, cfg.Seed),
		work:    stream(cfg.Seed, streamWork),
		startup: stream(cfg.Seed, streamStartup),
		stats:   metrics.NewRequestStats(cfg.Start),
		state:   kpa.NewState(&cfg.Policy, 0, cfg.Start),
		soon:    never,
		report:  reportEvery,
		tick:    decideEvery,
		path:    kpa.Path{ProxiedSince: cfg.Start, Activators: 2, Probe: kpa.ProbeOK},
		tally:   newTally(cfg),
	}
	size := metrics.WindowConfig{Stable: cfg.Policy.StableWindow, Panic: cfg.Policy.PanicWindow, Algorithm: cfg.Policy.Algorithm}
	for _, m := range []kpa.Metric{kpa.Concurrency, kpa.RPS, kpa.QueueLength} {
		s.windows[m] = metrics.NewWindow(size)
	}
	initial := max(cfg.Policy.InitialScale, cfg.Policy.MinScale)
	if rec := cfg.Load.Recording; rec != nil {
		s.tick, s.report = rec.phases()
		initial = rec.initialPods()
		s.delays = rec.startDelays()
	}
	s.beat = s.tick
	s.coming, s.more = s.load.next()
	// A new revision has its initial pods before anything is measured.
	s.scale(initial)
	return s
}

// run goes from event to event: what ends before what begins, and load before its report, its report before the
// decision. Past the end of the load it goes on until everyone is answered.
func (s *sim) run() {
	for s.now < s.end || s.queue.n > 0 || s.stillWorking() {
		next := min(s.report, s.tick, s.soon)
		if len(s.events) > 0 {
			next = min(next, s.events[0].at)
		}
		if s.more {
			next = min(next, s.coming.at)
		}
		s.advance(next)
		switch {
		case len(s.events) > 0 && s.events[0].at == next:
			s.happen(s.events.pop())
		case s.more && s.coming.at == next:
			s.arrive()
		case s.report == next:
			s.measure()
		case s.soon == next:
			s.decide()
		default:
			s.scheduleTick()
			s.decide()
		}
	}
}

func (s *sim) stillWorking() bool { return s.tally.inService > 0 }

func (s *sim) advance(to int64) {
	s.tally.advance(s, to)
	s.now = to
}

func (s *sim) instant() time.Time { return s.at(s.now) }

// at converts to an instant of virtual time.
func (s *sim) at(nanos int64) time.Time { return s.cfg.Start.Add(time.Duration(nanos)) }

// arrive takes the next request.
func (s *sim) arrive() {
	w := waiter{s.coming.at, s.coming.work}
	s.coming, s.more = s.load.next()
	if w.work < 0 {
		w.work = int64(s.cfg.Service.Work.Draw(s.work))
	}
	s.tally.arrived()
	if rec := s.cfg.Recorder; rec != nil {
		rec.Request(s.at(w.arrived), time.Duration(w.work))
	}
	if s.queue.n >= s.cfg.Service.QueueLimit {
		s.tally.rejected()
		return
	}
	if !s.active {
		s.stats.Report(s.instant()) // an idle time is no part of the first period
	}
	s.stats.In(s.instant(), true)
	s.queue.push(w)
	s.dispatch()
	s.tally.queued(s.queue.n)
	if !s.active {
		s.active, s.known = true, false
		s.wake()
	}
	s.growing()
}

// wake reports the first request of an idle revision at once, and decides at once when it meets no pod.
func (s *sim) wake() {
	s.ahead = 1
	s.record(1, 1)
	if kpa.WakesNow(s.state.Raw, s.replicas, 1) {
		s.tally.coldStart()
		s.decide()
	}
}

// dispatch gives the queue's first requests to the idlest pods, and drops those that have waited too long.
func (s *sim) dispatch() {
	for s.queue.n > 0 {
		if s.now-s.queue.first().arrived > int64(s.cfg.Service.QueueDeadline) {
			s.queue.pop()
			s.stats.Out(s.instant(), true)
			s.tally.expired()
			continue
		}
		id := s.fleet.idlest(s.cfg.Policy.ContainerConcurrency)
		if id < 0 {
			return
		}
		w := s.queue.pop()
		if s.fleet.take(id) {
			s.tally.firstAnswer()
		}
		w.work += int64(s.fleet.starting) * int64(s.cfg.Service.WorkPerStart)
		s.events.push(event{at: s.now + w.work, pod: id, took: w.work})
		s.tally.began(s.now + w.work - w.arrived)
	}
}

// happen lets a request end or a pod become ready.
func (s *sim) happen(e event) {
	if !e.ready {
		s.stats.Out(s.instant(), true)
		s.fleet.release(e.pod)
		s.tally.ended()
		s.worked += e.took
		s.ended++
		if s.cfg.Growth > 0 && !s.known {
			s.known = true
			s.learnWork() // the first answer of a burst is reported at once
		}
		s.dispatch()
		s.shrinking()
		return
	}
	p := &s.fleet.pods[e.pod]
	if p.life != e.life || p.phase != starting {
		return // it was sent away before it was ready
	}
	s.fleet.become(e.pod)
	if rec := s.cfg.Recorder; rec != nil {
		rec.Start(s.at(p.asked), time.Duration(s.now-p.asked))
	}
	s.learner.Ready(1, s.instant())
	s.dispatch()
	if s.state.Bursting() {
		s.hurry(s.decided + readyPause)
	}
}

// measure ends a reporting period: one sample for each window. Without load only the pods report, that they have none,
// and where there are none nobody does.
func (s *sim) measure() {
	s.report += reportEvery
	s.dispatch() // drops what has waited too long
	if !s.active && s.fleet.ready+s.fleet.draining == 0 {
		return
	}
	r := s.stats.Report(s.instant())
	if ahead := float64(s.ahead); ahead > 0 { // reported already
		r.AverageConcurrency, r.RequestCount = max(0, r.AverageConcurrency-ahead), max(0, r.RequestCount-ahead)
		s.ahead = 0
	}
	s.record(r.AverageConcurrency, r.RequestCount)
	s.told = s.queue.n
	s.windows[kpa.QueueLength].Record(s.instant(), float64(s.queue.n))
	s.active = r.AverageConcurrency > 0 || s.queue.n > 0 || s.stillWorking()
	s.learnWork()
	s.hurryGrown()
}

// learnWork notes how long requests took since the last report.
func (s *sim) learnWork() {
	if s.ended > 0 {
		s.learner.Worked(time.Duration(s.worked / s.ended))
	}
	s.worked, s.ended = 0, 0
}

// growing reports a queue that has grown ahead of the period, and shrinking one that has shrunk, as the activator does.
func (s *sim) growing() {
	if n := s.queue.n; s.cfg.Growth > 0 && float64(n) >= s.cfg.Growth*float64(max(s.ahead, 1)) {
		s.record(float64(n-s.ahead), float64(n-s.ahead))
		s.ahead, s.told = n, n
		s.learnWork()
		s.hurryGrown()
	}
}

func (s *sim) shrinking() {
	if s.cfg.Growth > 0 && float64(s.queue.n)*s.cfg.Growth <= float64(s.told) && s.told > 0 {
		s.told = s.queue.n
		s.learnWork()
	}
}

// hurryGrown decides soon when so much more is in flight than at the last decision that the next one can't wait.
func (s *sim) hurryGrown() {
	in := s.inFlight()
	if s.cfg.Growth > 0 && in > s.cfg.Growth*s.seen && in > s.cfg.Policy.Targets[0].Value*float64(s.replicas) {
		s.hurry(s.decided + growthPause)
	}
}

// hurry asks for a decision before the next tick.
func (s *sim) hurry(at int64) { s.soon = min(s.soon, max(s.now, at)) }

func (s *sim) inFlight() float64 { return float64(s.queue.n + s.tally.inService) }

func (s *sim) record(concurrency, requests float64) {
	s.windows[kpa.Concurrency].Record(s.instant(), concurrency)
	s.windows[kpa.RPS].Record(s.instant(), requests)
}

// scheduleTick sets when to decide next. A real clock is some milliseconds off now and then, and rules with a sharp edge
// notice: where a recording has a decision near the exact time, that is the time.
func (s *sim) scheduleTick() {
	s.beat += decideEvery
	s.tick = s.beat
	if rec := s.cfg.Load.Recording; rec != nil {
		s.tick = max(s.now, rec.decisionNear(s.beat))
	}
}

func (s *sim) decide() {
	o := s.observe()
	s.decided, s.seen, s.soon = s.now, o.InFlight, never
	s.bursting = s.state.Bursting()
	d := kpa.Decide(&s.cfg.Policy, &s.state, &o, s.instant())
	if d.Again > 0 && int64(d.Again) < decideEvery && s.cfg.Load.Recording == nil {
		s.hurry(s.now + int64(d.Again))
	}
	if s.cfg.DirectPath {
		s.route(d.Mode)
	}
	if d.Desired >= 0 && d.Desired != s.replicas {
		if rec := s.cfg.Recorder; rec != nil {
			rec.Decision(s.instant(), d.Desired, s.fleet.ready)
		}
		s.scale(d.Desired)
	}
	s.tally.decided(s, d)
}

func (s *sim) observe() kpa.Observation {
	o := kpa.Observation{
		Ready: s.fleet.ready, Starting: s.fleet.starting, Terminating: s.fleet.draining, Replicas: s.replicas,
		Path: s.path, InFlight: s.inFlight(), Reachability: kpa.Reachable,
		Startup: s.learner.Startup(s.fleet.starting > 0, s.instant()),
	}
	o.Startup.AtOnce = s.cfg.AtOnce
	if now := s.instant(); s.cfg.Floors != nil && !now.Before(s.floorUntil) {
		s.floor, s.floorUntil = s.cfg.Floors.At(now)
	}
	o.Floor = s.floor
	for m, w := range s.windows {
		if w != nil {
			stable, panicking, ok := w.Averages(s.instant())
			o.Metrics[m] = kpa.Sample{Stable: stable, Panic: panicking, Present: ok}
		}
	}
	return o
}

func (s *sim) route(m kpa.Mode) {
	switch {
	case m == kpa.Serve:
		s.path.ProxiedSince = time.Time{}
	case s.path.ProxiedSince.IsZero():
		s.path.ProxiedSince = s.instant()
	}
}

// scale asks for pods or sends some away.
func (s *sim) scale(to int) {
	if to > s.replicas && s.fleet.starting == 0 && !s.bursting {
		s.learner.Rise(s.instant())
	}
	s.fleet.shrink(s.replicas - to)
	for ; s.replicas < to; s.replicas++ {
		took := s.startupTime()
		id, life := s.fleet.ask(s.now)
		s.events.push(event{at: s.now + took, pod: id, life: life, ready: true})
		s.tally.podAsked()
	}
	s.replicas = to
}

// startupTime is how long the next pod takes: what the recording says, or the model.
func (s *sim) startupTime() int64 {
	n := s.started
	s.started++
	if len(s.delays) > 0 {
		return int64(s.delays[min(n, len(s.delays)-1)])
	}
	var took int64
	if s.cfg.Service.Startup != nil {
		took = int64(s.cfg.Service.Startup.Draw(s.startup))
	}
	if s.fleet.starting > 0 {
		took = max(took, s.lastUp+int64(s.cfg.Service.StartupPerPod)-s.now)
	}
	s.lastUp = s.now + took
	return took
}

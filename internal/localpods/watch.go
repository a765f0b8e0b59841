package localpods

import (
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

const (
	// elsewhereMax bounds the pause between two looks for listeners on other ports; it doubles from Config.WrongPortAfter.
	elsewhereMax = 5 * time.Second
	// wrongPortFails times Config.WrongPortAfter is how long a revision may listen elsewhere before it is failing.
	wrongPortFails   = 10
	failureThreshold = 3
)

// watch holds what is known of a pod's readiness. It belongs to the pod's goroutine.
type watch struct {
	p         *pod
	pr        *prober
	sidecarUp bool
	ready     bool
	everReady bool
	counted   bool // in prober.starting
	successes int
	failures  int

	saidWrongPort bool
	look          time.Duration // pause before the next look for listeners elsewhere
	nextLook      time.Time
}

func newWatch(p *pod) *watch {
	w := &watch{p: p, pr: &p.g.r.prober, counted: true, look: p.g.r.cfg.WrongPortAfter}
	w.nextLook = p.app.started.Add(p.spec.Readiness.InitialDelay + w.look)
	w.pr.starting.Add(1)
	return w
}

func (w *watch) close() {
	if w.counted {
		w.counted = false
		w.pr.starting.Add(-1)
	}
}

// step makes one try. It returns how long to wait before the next, 0 for ever, and whether a stranger has the port.
func (w *watch) step() (next time.Duration, foreign bool) {
	if w.ready {
		return w.recheck(), false
	}
	age := time.Since(w.p.app.started)
	next = w.pr.pause(&w.p.g.r.cfg, age)
	switch w.pr.listener(w.p.app, w.p.port) {
	case listenerForeign:
		return 0, w.p.app.alive() // else the program's end tells the story
	case listenerNone:
		w.lookElsewhere()
		return next, false
	case listenerOwn:
	}
	if !w.answers() {
		return max(next, httpPause), false
	}
	if !w.sidecarUp {
		if w.sidecarUp = w.p.side.listening(w.pr); !w.sidecarUp {
			return next, false
		}
	}
	w.becomeReady()
	return w.p.spec.Readiness.Period, false
}

// answers runs the HTTP probe, if the revision has one, and counts successes in a row.
func (w *watch) answers() bool {
	probe := &w.p.spec.Readiness
	if probe.HTTP {
		if err := w.pr.get(w.p.stopping, probe, w.p.port, w.p.spec.Protocol == endpoint.H2C); err != nil {
			w.successes = 0
			w.p.g.note(err.Error())
			return false
		}
	}
	w.successes++
	return w.successes >= probe.SuccessThreshold
}

func (w *watch) becomeReady() {
	w.close()
	w.ready, w.failures = true, 0
	w.everReady = true
	if !w.p.g.becameReady(w.p) {
		return // it is to stop
	}
	w.p.publish(endpoint.Ready)
	w.p.g.emit(w.p.event(Ready))
}

// recheck probes a ready pod again, and takes it out of rotation when it has failed often enough.
func (w *watch) recheck() time.Duration {
	probe := &w.p.spec.Readiness
	err := w.probeAgain(probe)
	if err == nil {
		w.failures = 0
		return probe.Period
	}
	threshold := probe.FailureThreshold
	if threshold == 0 {
		threshold = failureThreshold
	}
	if w.failures++; w.failures < threshold {
		return probe.Period
	}
	w.ready, w.successes = false, 0
	if w.p.g.becameUnready(w.p, err.Error()) {
		w.p.publish(endpoint.Starting)
		e := w.p.event(Unready)
		e.Reason = err.Error()
		w.p.g.emit(e)
	}
	return probe.Period
}

func (w *watch) probeAgain(probe *Probe) error {
	if probe.HTTP {
		return w.pr.get(w.p.stopping, probe, w.p.port, w.p.spec.Protocol == endpoint.H2C)
	}
	if w.pr.listener(w.p.app, w.p.port) != listenerOwn {
		return errNotListening
	}
	return nil
}

// lookElsewhere reports, once per pod, that the program listens on other ports than its own.
func (w *watch) lookElsewhere() {
	now := time.Now()
	if now.Before(w.nextLook) {
		return
	}
	w.look = min(2*w.look, elsewhereMax)
	w.nextLook = now.Add(w.look)
	at := w.pr.elsewhere(w.p.app, w.p.port)
	if len(at) == 0 {
		return
	}
	reason := wrongPortReason(w.p.port, at)
	w.p.g.note(reason)
	if !w.saidWrongPort {
		w.saidWrongPort = true
		e := w.p.event(WrongPort)
		e.Listens, e.Reason = at, reason
		w.p.g.emit(e)
	}
	if now.Sub(w.p.app.started) >= wrongPortFails*w.p.g.r.cfg.WrongPortAfter {
		w.p.g.fail(reason)
	}
}

package localpods

import (
	"net/netip"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
)

const (
	// elsewhereMax bounds the pause between two looks for listeners on other ports; it doubles from Config.WrongPortAfter.
	elsewhereMax = 5 * time.Second
	// wrongPortFails times Config.WrongPortAfter is how long a revision may listen elsewhere before it is failing.
	wrongPortFails   = 10
	failureThreshold = 3
	// strangerTries is how many tries in a row must find a stranger: the first may have met a program that closes one
	// listener to open another.
	strangerTries = 2
)

// watch holds what is known of a pod's readiness. It belongs to the pod's goroutine.
type watch struct {
	p         *pod
	pr        *prober
	sidecarUp bool
	answered  bool // the application has answered; only the sidecar may still be missing
	ready     bool
	everReady bool
	counted   bool // in prober.starting
	successes int
	failures  int
	strangers int
	listened  bool

	saidWrongPort bool
	look          time.Duration // pause before the next look for listeners elsewhere
	nextLook      time.Time
	looks         sync.WaitGroup        // at most one at a time
	found         chan []netip.AddrPort // what a look found, nil for nothing; holds one
}

func newWatch(p *pod) *watch {
	w := &watch{p: p, pr: &p.g.r.prober, counted: true, look: p.g.r.cfg.WrongPortAfter, found: make(chan []netip.AddrPort, 1)}
	w.nextLook = p.app.started.Add(p.spec.Readiness.InitialDelay + w.look)
	w.pr.starting.Add(1)
	return w
}

func (w *watch) close() {
	w.uncount()
	w.looks.Wait()
}

// uncount ends the pod's part in the starting pods.
func (w *watch) uncount() {
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
	next = w.pr.pause(&w.p.g.r.cfg, age, w.p.g.usual())
	switch w.pr.listener(w.p.app, w.p.port) {
	case listenerForeign:
		w.strangers++
		return next, w.strangers >= strangerTries && w.p.app.alive() // else the program's end tells the story
	case listenerNone:
		w.strangers = 0
		w.lookElsewhere()
		return next, false
	case listenerOwn:
	}
	w.strangers = 0
	if !w.listened {
		w.listened = true
		w.p.g.took(age)
	}
	if !w.answered {
		if w.answered = w.answers(); !w.answered {
			return max(next, min(max(age/agePerPause, httpPause), httpPauseMax)), false
		}
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
	w.uncount()
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
	w.ready, w.answered, w.successes = false, false, 0
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

// lookElsewhere reports, once per pod, that the program listens on other ports than its own. The look takes
// milliseconds, so it is taken aside, and the next try of the pod reads what it found.
func (w *watch) lookElsewhere() {
	now := time.Now()
	select {
	case at := <-w.found:
		w.look = min(2*w.look, elsewhereMax)
		w.nextLook = now.Add(w.look)
		if len(at) > 0 {
			w.wrongPort(now, at)
		}
		return
	default:
	}
	if w.nextLook.IsZero() || now.Before(w.nextLook) {
		return
	}
	w.nextLook = time.Time{} // until this look's answer is read
	w.looks.Go(func() { w.found <- w.pr.elsewhere(w.p.app, w.p.port) })
}

func (w *watch) wrongPort(now time.Time, at []netip.AddrPort) {
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

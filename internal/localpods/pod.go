package localpods

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods/lines"
	"github.com/rousehq/rouse/internal/localpods/procfs"
)

// crashDrain bounds how long the sidecar of a crashed application may take: its requests end with their connections.
const crashDrain = time.Second

// phase is where a pod stands in its group's count.
type phase uint8

const (
	phaseStarting phase = iota
	phaseReady
	phaseDraining
)

// endKind says why a pod ended.
type endKind uint8

const (
	endStopped   endKind = iota // it was asked to
	endCrashed                  // its application or its sidecar ended
	endNoStart                  // its program could not be started
	endPortTaken                // someone else had its port
)

// ending is how a pod's life came out.
type ending struct {
	kind   endKind
	status string
	after  time.Duration
	tail   []string
}

// pod is one instance of a revision. Its goroutine, run, is the only one that starts, probes, publishes and ends it.
type pod struct {
	g       *group
	spec    *Spec
	uid     string
	created time.Time
	phase   phase     // guarded by g.mu
	readyAt time.Time // guarded by g.mu; zero until the pod was ready for the first time

	stopping context.Context //nolint:containedctx // done when the group wants the pod to stop
	stop     context.CancelFunc

	port uint16
	app  *process
	side sidecar
	tail *lines.Tail

	leave sync.Once
}

// run is the pod's whole life.
func (p *pod) run() {
	defer p.stop()
	end := p.live()
	p.g.ended(p, end)
}

func (p *pod) live() ending {
	if p.stopping.Err() != nil {
		return ending{kind: endStopped} // before it began
	}
	port, err := p.g.r.ports.Take()
	if err != nil {
		return ending{kind: endNoStart, status: err.Error()}
	}
	p.port = port
	defer p.g.r.ports.Release(port)
	if err := p.start(); err != nil {
		return ending{kind: endNoStart, status: err.Error()}
	}
	defer p.unpublish()
	p.publish(endpoint.Starting)
	p.g.emit(p.event(Starting))
	return p.watch()
}

// start starts the application first and the sidecar while it comes up, so that the sidecar costs no start-up time.
func (p *pod) start() error {
	argv, env := appCommand(p.spec, p.g.r.cfg.BaseEnv, p.uid, p.port)
	app, err := startProcess(p.g.r.spawner, command{
		argv: argv, env: env, dir: p.spec.Dir, marker: markerName + "=" + p.uid, max: p.g.r.cfg.MaxLine,
		line: func(stderr bool, text string) { p.line(containerUser, stderr, text) },
	})
	if err != nil {
		return err
	}
	p.app = app
	p.g.r.started.Add(1)
	if p.side, err = p.startSidecar(loopback(p.port)); err != nil {
		app.kill()
		<-app.gone
		return err
	}
	return nil
}

func (p *pod) publish(state endpoint.State) {
	p.g.r.deps.Book.Publish(p.spec.Revision, []endpoint.Endpoint{{
		Pod:      identity.Pod{UID: p.uid, Addr: p.side.addr()},
		Protocol: p.spec.Protocol,
		State:    state,
		Sidecar:  p.spec.Sidecar != SidecarNone,
	}})
}

// unpublish takes the pod out of the book, once.
func (p *pod) unpublish() {
	p.leave.Do(func() { p.g.r.deps.Book.Publish(p.spec.Revision, nil, p.uid) })
}

func (p *pod) event(kind EventKind) Event {
	now := time.Now()
	return Event{Kind: kind, Time: now, Revision: p.spec.Revision, PodUID: p.uid, PID: p.app.pid, After: now.Sub(p.app.started), Port: p.port}
}

func (p *pod) line(container string, stderr bool, text string) {
	l := Line{Time: time.Now(), Revision: p.spec.Revision, PodUID: p.uid, Container: container, Stderr: stderr, Text: text}
	p.tail.Add(stderr, text)
	p.g.log.Add(l)
	if p.g.r.deps.Output != nil {
		p.g.r.deps.Output(l)
	}
}

// watch probes the pod until it ends or is to stop.
func (p *pod) watch() ending {
	w := newWatch(p)
	defer w.close()
	timer := time.NewTimer(p.spec.Readiness.InitialDelay)
	defer timer.Stop()
	for {
		select {
		case <-p.stopping.Done():
			return p.shutdown()
		case <-p.app.exited:
			return p.crashed(containerUser, w.everReady)
		case <-p.side.exited():
			return p.crashed(containerProxy, w.everReady)
		case <-p.side.draining():
			p.g.leaving(p)
			return p.shutdown()
		case <-timer.C:
			next, foreign := w.step()
			if foreign {
				return p.abandon(endPortTaken)
			}
			if next > 0 {
				timer.Reset(next)
			}
		}
	}
}

// shutdown stops a pod in order: out of the book, requests finished, application asked, application killed.
func (p *pod) shutdown() ending {
	p.publish(endpoint.Draining)
	ctx, cancel := context.WithTimeout(p.g.r.hard, p.grace())
	defer cancel()
	if idle := p.g.r.deps.AwaitIdle; idle != nil {
		idle(ctx, p.spec.Revision, p.uid)
	}
	if err := p.side.drain(ctx); err != nil {
		p.line(containerProxy, true, err.Error())
	}
	if p.spec.Sidecar != SidecarNone {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(p.g.r.hard, p.g.r.cfg.ExitGrace)
		defer stop()
	}
	p.app.stop(ctx)
	return ending{kind: endStopped, status: p.app.status, after: time.Since(p.app.started)}
}

// grace is how long the pod's requests may take to finish.
func (p *pod) grace() time.Duration {
	g := p.spec.Grace
	if g == 0 {
		g = p.spec.Timeout
	}
	if g == 0 || g > p.g.r.cfg.MaxGrace {
		g = p.g.r.cfg.MaxGrace
	}
	return g
}

// crashed clears up behind a pod whose application or sidecar ended by itself.
func (p *pod) crashed(container string, everReady bool) ending {
	end := p.abandon(endCrashed)
	if container == containerProxy {
		end.status = "queue-proxy: " + p.side.(*queueProxy).proc.status
		return end
	}
	if !everReady && portInUse(p.port) {
		end.kind = endPortTaken
	}
	return end
}

// abandon takes the pod out of the book and ends what is left of it.
func (p *pod) abandon(kind endKind) ending {
	p.unpublish()
	after := time.Since(p.app.started)
	p.app.kill()
	ctx, cancel := context.WithTimeout(p.g.r.hard, crashDrain)
	defer cancel()
	if idle := p.g.r.deps.AwaitIdle; idle != nil {
		idle(ctx, p.spec.Revision, p.uid)
	}
	if err := p.side.drain(ctx); err != nil {
		p.line(containerProxy, true, err.Error())
	}
	<-p.app.gone
	return ending{kind: kind, status: p.app.status, after: after, tail: p.tail.Lines()}
}

// portInUse says whether anybody listens on the port, on whatever address.
func portInUse(port uint16) bool {
	all, err := procfs.Listeners()
	if err != nil {
		return false
	}
	for _, l := range all {
		if l.Addr.Port() == port {
			return true
		}
	}
	return false
}

// wrongPortReason says in one sentence what a program does wrong that listens elsewhere, and what to do.
func wrongPortReason(port uint16, at []netip.AddrPort) string {
	var list []string
	for _, a := range at {
		list = append(list, a.String())
	}
	return fmt.Sprintf("the program listens on %s, but not on PORT=%d: make it listen on the port that the PORT variable names, "+
		"on all addresses or 127.0.0.1 (or pass $(PORT) in its arguments)", strings.Join(list, ", "), port)
}

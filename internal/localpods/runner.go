package localpods

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/localpods/ports"
	"github.com/rousehq/rouse/internal/localpods/sockdiag"
)

// What callers of a Runner branch on.
var (
	// ErrUnknownRevision reports a revision that was not added, or was removed.
	ErrUnknownRevision = errors.New("localpods: unknown revision")
	// ErrNotRunning reports a call that needs Run to be running.
	ErrNotRunning = errors.New("localpods: the runner is not running")

	errNotListening = errors.New("readiness probe: nobody of the pod listens on its PORT any more")
)

// Runner runs the pods of many revisions. It is safe for concurrent use.
type Runner struct {
	cfg     Config
	deps    Deps
	ports   *ports.Pool
	prober  prober
	spawner *spawner
	running chan struct{} // closed by Run
	diagOK  func() bool   // sockdiag.Supported, or a test's answer

	started     atomic.Uint64
	portRetries atomic.Uint64

	hard context.Context //nolint:containedctx // done when nothing may be waited for any more
	kill context.CancelFunc

	mu     sync.Mutex
	groups map[identity.Revision]*group // guarded by mu
	state  runState                     // guarded by mu
	loops  *loops                       // guarded by mu; set while running
}

// runState says whether Run has begun or ended.
type runState uint8

const (
	stateNew runState = iota
	stateRunning
	stateEnded
)

// loops is what Run waits for, apart from pods.
type loops struct {
	ctx context.Context //nolint:containedctx // the groups' loops end with it
	wg  sync.WaitGroup
}

// New returns a runner that has started nothing. It fails when a field of cfg is out of range or a dependency is missing.
func New(cfg Config, deps Deps) (*Runner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Book == nil {
		return nil, errors.New("localpods: Deps.Book is missing")
	}
	r := &Runner{
		cfg: cfg, deps: deps, ports: ports.New(), spawner: newSpawner(), diagOK: sockdiag.Supported,
		groups: make(map[identity.Revision]*group), running: make(chan struct{}),
	}
	r.hard, r.kill = context.WithCancel(context.Background())
	return r, nil
}

// Run lets Apply start pods until ctx is done. Then it stops all pods, each with its grace, and returns when the last
// process is gone. It can be called once.
func (r *Runner) Run(ctx context.Context) error {
	loopCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	l := &loops{ctx: loopCtx}
	if err := r.begin(l); err != nil {
		return err
	}
	<-ctx.Done()
	groups := r.end()
	cancel()
	for _, g := range groups {
		g.close()
	}
	for _, g := range groups {
		g.pods.Wait()
	}
	l.wg.Wait()
	r.spawner.stop()
	r.kill()
	return nil
}

func (r *Runner) begin(l *loops) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != stateNew {
		return errors.New("localpods: Run was called twice")
	}
	r.state, r.loops = stateRunning, l
	r.prober.diag = r.diagOK()
	close(r.running)
	go r.spawner.run()
	for _, g := range r.groups {
		l.wg.Go(func() { g.loop(l.ctx) })
	}
	return nil
}

func (r *Runner) end() []*group {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = stateEnded
	groups := make([]*group, 0, len(r.groups))
	for _, g := range r.groups {
		groups = append(groups, g)
	}
	return groups
}

// Started is closed once Run has begun: from then on Apply can start pods.
func (r *Runner) Started() <-chan struct{} { return r.running }

// Kill makes every stop immediate, those under way included: no grace, SIGKILL. Run returns soon after its context is
// done. It is for the second signal.
func (r *Runner) Kill() { r.kill() }

// Add makes a revision known, with no pods. It fails when the spec is invalid, or the revision is known already: a
// revision never changes.
func (r *Runner) Add(spec Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	if err := r.canRun(&spec); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == stateEnded {
		return ErrNotRunning
	}
	if _, known := r.groups[spec.Revision]; known {
		return fmt.Errorf("localpods: revision %s was added before; a changed one needs a name or UID of its own", spec.Revision)
	}
	g := newGroup(r, spec)
	r.groups[spec.Revision] = g
	if r.state == stateRunning {
		l := r.loops
		l.wg.Go(func() { g.loop(l.ctx) })
	}
	return nil
}

// canRun says whether this runner was given what the spec's sidecar needs.
func (r *Runner) canRun(spec *Spec) error {
	switch {
	case spec.Sidecar == SidecarInProcess && r.deps.InProcess == nil:
		return fmt.Errorf("localpods: %s wants a sidecar in process: Deps.InProcess is missing", spec.Revision)
	case spec.Sidecar == SidecarProcess && len(r.cfg.SidecarArgv) == 0:
		return fmt.Errorf("localpods: %s wants a sidecar process: Config.SidecarArgv names no program", spec.Revision)
	}
	return nil
}

// Remove stops the revision's pods, each with its grace, waits until they are gone or ctx is done, and forgets the
// revision, in the book too. It fails with ErrUnknownRevision or the context's error; the pods stop in any case.
func (r *Runner) Remove(ctx context.Context, rev identity.Revision) error {
	g, err := r.group(rev)
	if err != nil {
		return err
	}
	g.close()
	gone := make(chan struct{})
	go func() { // ends with the last pod, which Run waits for, too
		g.pods.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		return fmt.Errorf("localpods: remove %s: %w", rev, ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.groups, rev)
	r.deps.Book.Forget(rev)
	return nil
}

// Apply makes the revision have the desired number of pods: it starts what is missing and stops what is too many,
// first those whose UIDs are in victims, then those that are not ready, then the youngest. It does not wait for
// either. A later crash is made good without another call. It fails with ErrUnknownRevision, ErrNotRunning, or when
// ctx is done.
func (r *Runner) Apply(ctx context.Context, rev identity.Revision, desired int, victims []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if desired < 0 {
		return fmt.Errorf("localpods: apply %s: desired %d is negative", rev, desired)
	}
	r.mu.Lock()
	defer r.mu.Unlock() // held to keep Run from ending between the look and the start
	if r.state != stateRunning {
		return ErrNotRunning
	}
	g := r.groups[rev]
	if g == nil {
		return fmt.Errorf("%w: %s", ErrUnknownRevision, rev)
	}
	return g.apply(desired, victims)
}

func (r *Runner) group(rev identity.Revision) (*group, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[rev]
	if g == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownRevision, rev)
	}
	return g, nil
}

// Health returns the state of the revision's pods. It fails with ErrUnknownRevision.
func (r *Runner) Health(rev identity.Revision) (Health, error) {
	g, err := r.group(rev)
	if err != nil {
		return Health{}, err
	}
	return g.health(), nil
}

// Logs returns up to n of the newest lines that the revision's pods wrote, those of ended pods included, oldest first.
// n < 0 means all that are kept. It fails with ErrUnknownRevision.
func (r *Runner) Logs(rev identity.Revision, n int) ([]Line, error) {
	g, err := r.group(rev)
	if err != nil {
		return nil, err
	}
	return g.log.Last(n), nil
}

// Stats returns what the runner has done so far.
func (r *Runner) Stats() Stats {
	return Stats{
		Probes:      r.prober.tries.Load(),
		ProbeCPU:    time.Duration(r.prober.cpu.Load()),
		Started:     r.started.Load(),
		PortRetries: r.portRetries.Load(),
	}
}

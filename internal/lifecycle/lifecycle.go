// Package lifecycle starts the stages of a process in order and stops them in reverse, and holds the state machine of
// a draining proxy.
//
// What it promises: a stage starts only after the one before it is up; when the process is told to end, or any stage
// ends or fails, the stages stop in reverse order, each within its own budget and all within the grace period. A stage
// that does not stop in time is cancelled, then abandoned with an error that names it. A second signal ends the waiting
// at once. Run returns after every stage's Run has returned, except for abandoned ones.
//
// What it does not: install signal handlers by itself ([Signals] does), or exit the process.
//
// Concurrency: [Run] owns every goroutine that it starts. [Drain] is a plain value for one goroutine at a time.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// ErrForced says that the second signal ended the process before it had drained.
var ErrForced = errors.New("ended by a second signal before everything had stopped")

// Stage is one part of a process.
type Stage struct {
	// Name is for errors and logs.
	Name string
	// Run does the work until its context ends, and returns then. An error, or a return before that, ends the
	// process. Required.
	Run func(ctx context.Context) error
	// Ready, when not nil, is closed by the stage once it is up: the next stage waits for it. Nil means at once.
	Ready <-chan struct{}
	// Stop, when not nil, asks the stage to finish what it has and returns when it has; only then is the context of
	// Run ended. Its context ends with the budget.
	Stop func(ctx context.Context) error
	// Budget bounds Stop and the return of Run together; a fifth of it, at most 1 s, is kept for the latter. Zero means
	// what is left of the grace period.
	Budget time.Duration
}

// Signals are what tells a process to end.
type Signals struct {
	// First asks for a drain, Second for an end at once. Both are closed at most once.
	First, Second <-chan struct{}
}

// Notify turns SIGINT and SIGTERM into Signals until stop is called.
func Notify() (s Signals, stop func()) {
	first, second, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	ended := make(chan struct{})
	caught := make(chan os.Signal, 2)
	signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(ended)
		for _, ch := range []chan struct{}{first, second} {
			select {
			case <-caught:
				close(ch)
			case <-done:
				return
			}
		}
	}()
	return Signals{first, second}, func() {
		signal.Stop(caught)
		close(done)
		<-ended
	}
}

// Insists says whether a second signal asks a container's process to end at once. SIGTERM doesn't: whoever deletes a pod
// repeats it to a process that somebody else has told to end before, and what is in flight is to finish all the same.
func Insists(sig os.Signal) bool { return sig != syscall.SIGTERM }

// Run starts the stages in order and blocks until all have stopped. ctx ending is the first signal. The result is nil
// after a stop that was asked for and went in time; otherwise it joins what each stage said.
func Run(ctx context.Context, grace time.Duration, stages ...Stage) error {
	return RunSignals(Signals{First: ctx.Done()}, grace, stages...)
}

// RunSignals is Run with a second signal.
func RunSignals(s Signals, grace time.Duration, stages ...Stage) error {
	ended := make(chan *running, len(stages))
	var up []*running
	var errs []error
	for _, st := range stages {
		r := start(st, ended)
		up = append(up, r)
		if err := r.await(s.First, ended); err != nil {
			errs = append(errs, err)
			break
		}
	}
	if len(errs) == 0 && len(up) == len(stages) {
		select {
		case <-s.First:
		case r := <-ended:
			errs = append(errs, r.early())
		}
	}
	errs = append(errs, stopAll(up, s.Second, grace)...)
	return errors.Join(without(errs, errStopping)...)
}

// errStopping ends the starting of further stages without being a failure.
var errStopping = errors.New("told to end while starting")

func without(errs []error, unwanted error) []error {
	var kept []error
	for _, err := range errs {
		if !errors.Is(err, unwanted) {
			kept = append(kept, err)
		}
	}
	return kept
}

// running is a stage that was started.
type running struct {
	Stage
	cancel   context.CancelFunc
	done     chan struct{} // closed when Run has returned
	err      error         // set before done is closed
	reported bool          // its error is in the result already
}

func start(st Stage, ended chan<- *running) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Stage: st, cancel: cancel, done: make(chan struct{})}
	go func() {
		r.err = st.Run(ctx)
		close(r.done)
		ended <- r
	}()
	return r
}

// await blocks until the stage is up; it fails when any stage ends or the process is told to end before that.
func (r *running) await(first <-chan struct{}, ended <-chan *running) error {
	if r.Ready == nil {
		return nil
	}
	select {
	case <-r.Ready:
		return nil
	case <-first:
		return errStopping
	case other := <-ended:
		return other.early()
	}
}

// early is what it means that a stage returned before it was told to.
func (r *running) early() error {
	r.reported = true
	if r.err != nil {
		return fmt.Errorf("%s: %w", r.Name, r.err)
	}
	return fmt.Errorf("%s ended by itself", r.Name)
}

// stopAll stops the stages in reverse within the grace period.
func stopAll(up []*running, second <-chan struct{}, grace time.Duration) (errs []error) {
	deadline := time.Now().Add(grace)
	for i := len(up) - 1; i >= 0; i-- {
		budget := time.Until(deadline)
		if b := up[i].Budget; b > 0 {
			budget = min(b, budget)
		}
		err := up[i].stop(second, max(budget, 0))
		if err != nil {
			errs = append(errs, err)
		}
		if errors.Is(err, ErrForced) {
			for _, r := range up[:i] {
				r.cancel()
			}
			return errs
		}
	}
	return errs
}

// stop finishes one stage: Stop, then the end of its context, then the return of Run.
func (r *running) stop(second <-chan struct{}, budget time.Duration) error {
	defer r.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	defer cancel()
	var failed error
	if r.Stop != nil {
		soft, end := context.WithTimeout(ctx, budget-min(budget/5, time.Second)) // the rest is for Run to return
		defer end()
		stopped := make(chan error, 1)
		go func() { stopped <- r.Stop(soft) }()
		select {
		case failed = <-stopped:
		case <-soft.Done():
			failed = fmt.Errorf("not drained in time: %w", soft.Err())
		case <-second:
			return fmt.Errorf("%s: %w", r.Name, ErrForced)
		}
	}
	r.cancel()
	return r.finish(ctx, second, failed, budget)
}

func (r *running) finish(ctx context.Context, second <-chan struct{}, failed error, budget time.Duration) error {
	select {
	case <-r.done: // also when the budget is used up: whoever has returned is not abandoned
	default:
		select {
		case <-r.done:
		case <-second:
			return fmt.Errorf("%s: %w", r.Name, ErrForced)
		case <-ctx.Done():
			return fmt.Errorf("%s: abandoned, it did not stop within %s", r.Name, budget)
		}
	}
	if !r.reported && r.err != nil && !errors.Is(r.err, context.Canceled) {
		failed = errors.Join(failed, r.err)
	}
	if failed != nil {
		return fmt.Errorf("%s: %w", r.Name, failed)
	}
	return nil
}

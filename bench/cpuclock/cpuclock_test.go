//go:build linux

package cpuclock_test

import (
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rousehq/rouse/bench/cpuclock"
)

// A goroutine that is still locked to its thread when it ends takes the thread with it. Its time must stay.
func TestThreadsThatEndAreCounted(t *testing.T) {
	before, err := cpuclock.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const work = 5 * time.Millisecond
	for range 4 {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			done <- burn(work)
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		now, err := cpuclock.Of(os.Getpid())
		if err != nil || now-before < work {
			t.Fatalf("CPU time went from %s to %s (%v) over %s of work", before, now, err, work)
		}
		before = now
	}
}

func TestNoSuchProcess(t *testing.T) {
	const past = 1 << 22 // PID_MAX_LIMIT: proc_sys_kernel(5)
	if d, err := cpuclock.Of(past); err == nil {
		t.Errorf("Of(%d) = %s, nil, want an error", past, d)
	}
}

// burn keeps this thread on a core for d of its own time.
func burn(d time.Duration) error {
	var began, now unix.Timespec
	for first := true; first || time.Duration(now.Nano()-began.Nano()) < d; first = false {
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
			return err
		}
		if first {
			began = now
		}
	}
	return nil
}

//go:build linux

// Package cpuclock tells how much CPU time another process has used.
package cpuclock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Of is how long the threads of a process have been on a core so far, to the nanosecond, time on the runqueue not
// included. Threads that have ended count: the sum over /proc/PID/task/*/schedstat falls when one does, as Go's
// runtime lets some.
func Of(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED: see clock_getcpuclockid(3) and the kernel's posix-timers_types.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

package sampleapp

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of start times in /proc: USER_HZ is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// statStart is the field of /proc/self/stat that holds the start time, counted from behind the command, which is the
// second of 22.
const statStart = 22 - 3

// execTime returns when the kernel made this process. /proc knows that to a tick of 10 ms, rounded down. Within the tick
// the estimate is now less what the process has spent so far on a CPU and in wait for one: it has not slept yet if
// this is called first. What that leaves out, such as a page read from disk, makes the estimate later than the truth by
// at most that tick, and so a measured start-up shorter, never longer.
func execTime(now time.Time) (time.Time, error) {
	floor, err := startTick(now)
	if err != nil {
		return time.Time{}, err
	}
	var cpu unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &cpu); err != nil {
		return time.Time{}, err
	}
	guess := now.Add(-time.Duration(cpu.Nano()) - queued())
	return clamp(guess, floor, floor.Add(tick)), nil
}

func clamp(t, lo, hi time.Time) time.Time {
	if t.Before(lo) {
		return lo
	}
	if t.After(hi) {
		return hi
	}
	return t
}

// startTick returns the start time as /proc has it, on the clock of now.
func startTick(now time.Time) (time.Time, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return time.Time{}, err
	}
	ticks, err := parseStart(stat)
	if err != nil {
		return time.Time{}, err
	}
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Time{}, err
	}
	return now.Add(-time.Duration(boot.Nano()) + time.Duration(ticks)*tick), nil
}

func parseStart(stat []byte) (int64, error) {
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) <= statStart {
		return 0, errors.New("sampleapp: /proc/self/stat is too short")
	}
	return strconv.ParseInt(string(f[statStart]), 10, 64)
}

// queued returns how long the main thread has waited for a CPU, 0 when the kernel does not say.
func queued() time.Duration {
	b, err := os.ReadFile("/proc/self/schedstat") // CPU ns, waiting ns, time slices
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	ns, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(ns)
}

//go:build linux

package proxybench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// cpuTime is how long a process's threads have been on a core so far. Time on the runqueue is not in it.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d has no threads: %w", pid, os.ErrProcessDone)
	}
	var sum time.Duration
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread ended meanwhile
		}
		d, err := parseSchedstat(b)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", f, err)
		}
		sum += d
	}
	return sum, nil
}

// parseSchedstat reads the first field: nanoseconds on a core (kernel, Documentation/scheduler/sched-stats).
func parseSchedstat(b []byte) (time.Duration, error) {
	field, _, ok := bytes.Cut(b, []byte{' '})
	n, err := strconv.ParseInt(string(field), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("schedstat %q is not understood", b)
	}
	return time.Duration(n), nil
}

// memory is a process's share of RAM in user space, in bytes.
type memory struct {
	RSS  int64 // resident, pages of files included
	Anon int64 // resident and no file's: heaps and stacks
}

func readMemory(pid int) (memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	return parseRollup(b)
}

// parseRollup reads /proc/PID/smaps_rollup.
func parseRollup(b []byte) (memory, error) {
	var m memory
	seen := 0
	for line := range bytes.Lines(b) {
		fields := bytes.Fields(line)
		if len(fields) != 3 || string(fields[2]) != "kB" {
			continue
		}
		n, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return memory{}, fmt.Errorf("smaps_rollup %q is not understood", line)
		}
		switch string(fields[0]) {
		case "Rss:":
			m.RSS = n << 10
		case "Anonymous:":
			m.Anon = n << 10
		default:
			continue
		}
		seen++
	}
	if seen != 2 {
		return memory{}, fmt.Errorf("smaps_rollup lacks Rss or Anonymous")
	}
	return m, nil
}

// settle waits until a process's memory stands still, as it does once its collector has caught up, and returns it.
func settle(pid int) (memory, error) {
	const (
		pause  = 60 * time.Millisecond
		limit  = 2 * time.Second
		stable = 4
	)
	last, err := readMemory(pid)
	same := 0
	for waited := time.Duration(0); err == nil && same < stable && waited < limit; waited += pause {
		time.Sleep(pause)
		var now memory
		if now, err = readMemory(pid); err != nil {
			break
		}
		same++
		if diff := now.Anon - last.Anon; diff > 64<<10 || diff < -64<<10 {
			same = 0
		}
		last = now
	}
	return last, err
}

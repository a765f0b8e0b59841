//go:build linux

package proxybench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

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

//go:build linux

package proxybench

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// cores are where the contenders and where everything else runs.
type cores struct {
	proxy, rest int
}

// allowedCores picks two of the cores that this process may use. With a single one all share it, and latencies mean
// little.
func allowedCores() (cores, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return cores{}, fmt.Errorf("allowed cores: %w", err)
	}
	var found []int
	for i := 0; i < 1024 && len(found) < 2; i++ {
		if set.IsSet(i) {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return cores{}, fmt.Errorf("allowed cores: none")
	}
	return cores{proxy: found[0], rest: found[len(found)-1]}, nil
}

// pinThread pins the calling thread, and so the processes it starts.
func pinThread(core int) error { return pinTask(0, core) }

func pinTask(id, core int) error {
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(id, &set); err != nil {
		return fmt.Errorf("pin to core %d: %w", core, err)
	}
	return nil
}

// pinSelf pins every thread of this process; those that start later inherit it.
func pinSelf(core int) error { return pinProcess(os.Getpid(), core) }

func pinProcess(pid, core int) error {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, t := range tasks {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := pinTask(id, core); err != nil {
			return err
		}
	}
	return nil
}
